import { render } from 'preact'
import { App } from './App.tsx'
import { DashboardProvider, openDashboard } from './Dashboard.ts'
import { applyTheme, storedTheme } from './Theme.ts'

const root = document.getElementById('app')
if (root === null) throw new Error('the page has no place for the dashboard')
applyTheme(storedTheme(localStorage), localStorage)
render(
  <DashboardProvider value={openDashboard()}>
    <App />
  </DashboardProvider>,
  root,
)
