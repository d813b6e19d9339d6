import type { JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { useDashboard } from './Dashboard.ts'
import { JobPage } from './pages/JobPage.tsx'
import { JobsPage } from './pages/JobsPage.tsx'
import { StartPage } from './pages/StartPage.tsx'
import { TopBar } from './parts/TopBar.tsx'
import type { Route } from './Route.ts'
import { useChanges } from './useChanges.ts'
import { useRoute } from './useRoute.ts'

export function App(): JSX.Element {
  const { login } = useDashboard()
  useChanges(login.changes)
  const route = useRoute()
  const main = useRef<HTMLElement>(null)
  const key = route.page === 'job' ? route.id : route.page
  const shown = useRef(key)
  useEffect(() => {
    if (shown.current === key) return
    shown.current = key
    // As a browser does for a page that it loads: reading begins at its top.
    scrollTo(0, 0)
    main.current?.focus({ preventScroll: true })
  }, [key])
  return (
    <>
      <TopBar onSkip={() => main.current?.focus()} />
      <main ref={main} tabIndex={-1}>
        {login.isMissing ? <TokenNeeded path={login.path} /> : <Page route={route} />}
      </main>
    </>
  )
}

function Page({ route }: { readonly route: Route }): JSX.Element {
  switch (route.page) {
    case 'jobs':
      return <JobsPage query={route.query} />
    case 'job':
      return <JobPage key={route.id} id={route.id} />
    case 'start':
      return <StartPage task={route.task} />
    default:
      return (
        <section class="message-page">
          <h1>There is no such page</h1>
          <p>
            <a href="#/">All jobs</a>
          </p>
        </section>
      )
  }
}

function TokenNeeded({ path }: { readonly path: string }): JSX.Element {
  return (
    <section class="message-page">
      <h1>This server asks for a token</h1>
      <p>
        It has no page at <a href={path}>/login</a> to give it. Programs send it as <code>Authorization: Bearer</code>,
        and so does <code>api-client.ts --token</code>.
      </p>
    </section>
  )
}
