import type { JSX } from 'preact'
import { useEffect, useMemo, useRef } from 'preact/hooks'
import { useDashboard } from '../Dashboard.ts'
import { countText, lineText } from '../format.ts'
import { Listing } from '../jobs/Listing.ts'
import { filterOf, hashOfFilter, type JobFilter, matcherOf } from '../jobs/matching.ts'
import { STATUS_FILTERS } from '../jobs/statuses.ts'
import { Icon } from '../parts/Icon.tsx'
import { JobList } from '../parts/JobList.tsx'
import { Overview } from '../parts/Overview.tsx'
import { useChanges } from '../useChanges.ts'
import { replaceHash } from '../useRoute.ts'
import { useTasks } from '../useTasks.ts'

export function JobsPage({ query }: { readonly query: URLSearchParams }): JSX.Element {
  const { api, table, feed } = useDashboard()
  const text = query.toString()
  const filter = useMemo(() => filterOf(query), [text])
  const { status, task } = filter
  const [listing, end] = useMemo(() => {
    const life = new AbortController()
    const narrowed = { status: status === '' ? undefined : status, task: task === '' ? undefined : task }
    return [new Listing(api, table, narrowed, life.signal), () => life.abort()] as const
  }, [status, task])
  useEffect(() => {
    listing.more()
    return end
  }, [listing])
  const version = useChanges(table.changes, listing.changes, feed.changes)
  const jobs = useMemo(() => {
    const matches = matcherOf(filter)
    return table.newestFirst.filter((job) => listing.reaches(job) && matches(job))
  }, [version, filter, listing])
  useEffect(() => {
    document.title = 'Jobs · Tether'
  }, [])
  const isFiltered = text !== ''
  return (
    <div class="jobs-page">
      <h1 class="visually-hidden">Jobs</h1>
      <Overview />
      <section aria-label="Jobs" class="panel jobs-panel">
        <Filters filter={filter} />
        <p class="list-summary muted" role="status">
          {summaryOf(jobs.length, listing, isFiltered)}
        </p>
        {jobs.length > 0 && (
          <JobList jobs={jobs} hasMore={!listing.isWhole} onNearEnd={() => !failed(listing) && listing.more()} />
        )}
        {jobs.length === 0 && !listing.isWhole && !failed(listing) && <MoreWanted listing={listing} />}
        {jobs.length === 0 && listing.isWhole && <Empty isFiltered={isFiltered} />}
        {failed(listing) && (
          <p class="notice bad" role="alert">
            The jobs could not be listed: {listing.failure}{' '}
            <button type="button" class="button" onClick={() => listing.more()}>
              Try again
            </button>
          </p>
        )}
      </section>
    </div>
  )
}

function failed(listing: Listing): boolean {
  return listing.failure !== undefined
}

function summaryOf(count: number, listing: Listing, isFiltered: boolean): string {
  const jobs = `${countText(count)} ${count === 1 ? 'job' : 'jobs'}`
  if (listing.isWhole) return isFiltered ? `${jobs} found` : jobs
  return listing.isLoading ? `${jobs}, loading older ones…` : `${jobs} loaded, older ones come as you scroll`
}

/** Nothing of what was loaded matches, and there is more. */
function MoreWanted({ listing }: { readonly listing: Listing }): JSX.Element {
  useEffect(() => listing.more())
  return <p class="empty muted">Looking through older jobs…</p>
}

function Empty({ isFiltered }: { readonly isFiltered: boolean }): JSX.Element {
  if (isFiltered) {
    return (
      <p class="empty">
        No job matches. <a href="#/">Show all jobs</a>
      </p>
    )
  }
  return (
    <div class="empty">
      <p>No jobs yet.</p>
      <p>
        <a class="button primary" href="#/start">
          <Icon name="plus" />
          Start the first one
        </a>
      </p>
      <p class="muted">
        or <code>./api-client.ts --stream "create a small web app with tests"</code>
      </p>
    </div>
  )
}

function Filters({ filter }: { readonly filter: JobFilter }): JSX.Element {
  const { tasks } = useTasks()
  const search = useRef<HTMLInputElement>(null)
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent): void => {
      const { target } = event
      const isTyping = target instanceof HTMLElement && target.matches('input, textarea, select')
      if (event.key !== '/' || isTyping || event.ctrlKey || event.metaKey || event.altKey) return
      event.preventDefault()
      search.current?.focus()
    }
    addEventListener('keydown', onKeyDown)
    return () => removeEventListener('keydown', onKeyDown)
  }, [])
  const show = (change: Partial<JobFilter>): void => {
    replaceHash(hashOfFilter({ ...filter, ...change }))
  }
  const names = tasks?.map(({ name }) => name) ?? []
  return (
    <div class="filters" role="search">
      <div class="filter-fields">
        <label class="search">
          <span class="visually-hidden">Search jobs</span>
          <Icon name="search" />
          <input
            ref={search}
            type="search"
            placeholder="Search: id, task, group, metadata, failure"
            autocomplete="off"
            spellcheck={false}
            value={filter.text}
            onInput={({ currentTarget }) => show({ text: currentTarget.value })}
          />
          <kbd aria-hidden="true">/</kbd>
        </label>
        <label>
          <span class="visually-hidden">Task</span>
          <select value={filter.task} onChange={({ currentTarget }) => show({ task: currentTarget.value })}>
            <option value="">All tasks</option>
            {[...new Set([...names, ...(filter.task === '' ? [] : [filter.task])])].map((name) => (
              <option key={name} value={name}>
                {lineText(name)}
              </option>
            ))}
          </select>
        </label>
        <label class="check">
          <input
            type="checkbox"
            checked={filter.hasChildren}
            onChange={({ currentTarget }) => show({ hasChildren: currentTarget.checked })}
          />
          Sub-agents
        </label>
      </div>
      <fieldset class="segments">
        <legend class="visually-hidden">Status</legend>
        {STATUS_FILTERS.map(({ name, value }) => (
          <label key={value}>
            <input
              type="radio"
              name="status"
              value={value}
              checked={filter.status === value}
              onChange={() => show({ status: value })}
            />
            <span>{name}</span>
          </label>
        ))}
      </fieldset>
    </div>
  )
}
