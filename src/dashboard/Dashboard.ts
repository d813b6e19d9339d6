import { createContext } from 'preact'
import { useContext } from 'preact/hooks'
import { ServerApi } from './api/ServerApi.ts'
import { HealthWatch } from './jobs/HealthWatch.ts'
import { HeldJobs } from './jobs/HeldJobs.ts'
import { JobFeed } from './jobs/JobFeed.ts'
import { JobTable } from './jobs/JobTable.ts'
import { Login } from './Login.ts'

/** What lives as long as the page, whatever it shows. */
export interface Dashboard {
  readonly api: ServerApi
  readonly table: JobTable
  readonly feed: JobFeed
  readonly health: HealthWatch
  readonly held: HeldJobs
  readonly login: Login
  readonly signal: AbortSignal
}

export function openDashboard(): Dashboard {
  const { signal } = new AbortController()
  const login = new Login(signal)
  const api: ServerApi = new ServerApi(() => login.ask(api))
  const table = new JobTable()
  const feed = new JobFeed({ api, table })
  const health = new HealthWatch(api)
  const held = new HeldJobs(api, sessionStorage)
  held.resume()
  feed.start(signal)
  void health.run(signal)
  return { api, table, feed, health, held, login, signal }
}

const Context = createContext<Dashboard | undefined>(undefined)
export const DashboardProvider = Context.Provider

export function useDashboard(): Dashboard {
  const dashboard = useContext(Context)
  if (dashboard === undefined) throw new Error('there is no dashboard above this')
  return dashboard
}
