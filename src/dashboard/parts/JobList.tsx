import type { JSX } from 'preact'
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import type { JobView } from '../../job/view.ts'
import { durationText, elapsedText, lineText, timeText } from '../format.ts'
import { CAUSES } from '../jobs/causes.ts'
import { jobHash } from '../Route.ts'
import { Icon } from './Icon.tsx'
import { StatusChip } from './StatusChip.tsx'
import { useNow } from './useNow.ts'
import { useWindowVirtual } from './useVirtual.ts'

interface JobListProps {
  readonly jobs: readonly JobView[]
  /** More of them may be asked for. */
  readonly hasMore: boolean
  readonly onNearEnd: () => void
}

/** So many rows before the end the next page is asked for. */
const NEAR_ROWS = 40
const ROW_PX = 60
const PAGE_ROWS = 10

/** A list of any length; the arrow keys move in it. */
export function JobList({ jobs, hasMore, onNearEnd }: JobListProps): JSX.Element {
  const list = useRef<HTMLOListElement>(null)
  const [top, setTop] = useState(0)
  const [focusedId, setFocusedId] = useState<string>()
  const toFocus = useRef<string | undefined>(undefined)
  const nowMs = useNow(jobs.some(({ terminal }) => !terminal))
  const focused = focusedId === undefined ? undefined : jobs.findIndex(({ id }) => id === focusedId)
  const virtual = useWindowVirtual({
    count: jobs.length,
    estimateSize: () => ROW_PX,
    getItemKey: (index) => jobs[index]?.id ?? index,
    overscan: 8,
    scrollMargin: top,
    kept: focused,
  })
  const items = virtual.getVirtualItems()
  const lastIndex = items.at(-1)?.index ?? -1

  // What stands above the list grows and shrinks.
  useLayoutEffect(() => {
    const measure = (): void => {
      if (list.current !== null) setTop(Math.round(list.current.getBoundingClientRect().top + window.scrollY))
    }
    measure()
    const observer = new ResizeObserver(measure)
    observer.observe(document.body)
    return () => observer.disconnect()
  }, [])

  useEffect(() => {
    if (hasMore && lastIndex >= jobs.length - NEAR_ROWS) onNearEnd()
  })

  const focusIfThere = (): void => {
    const id = toFocus.current
    const link = id === undefined ? null : list.current?.querySelector<HTMLElement>(`[data-id="${id}"]`)
    if (link === null || link === undefined) return
    toFocus.current = undefined
    // Whoever has gone elsewhere by now is left there.
    const { activeElement } = document
    if (activeElement === document.body || list.current?.contains(activeElement) === true) {
      link.focus({ preventScroll: true })
    }
  }
  useLayoutEffect(focusIfThere)

  const moveTo = (index: number): void => {
    const at = Math.max(0, Math.min(jobs.length - 1, index))
    const job = jobs[at]
    if (job === undefined) return
    toFocus.current = job.id
    setFocusedId(job.id)
    virtual.scrollToIndex(at, { align: 'auto' })
    focusIfThere()
  }

  const onKeyDown = (event: KeyboardEvent): void => {
    if (focused === undefined || event.altKey || event.ctrlKey || event.metaKey) return
    const to = targetOf(event.key, focused, jobs.length)
    if (to === undefined) return
    event.preventDefault()
    moveTo(to)
  }

  return (
    <ol
      ref={list}
      class="job-list"
      aria-label="Jobs, newest first"
      style={{ height: `${virtual.getTotalSize()}px` }}
      onKeyDown={onKeyDown}
    >
      {items.map(({ key, index, start }) => {
        const job = jobs[index]
        if (job === undefined) return null
        return (
          <li
            key={key}
            data-index={index}
            ref={virtual.measureElement}
            aria-setsize={hasMore ? -1 : jobs.length}
            aria-posinset={index + 1}
            style={{ transform: `translateY(${start - top}px)` }}
          >
            <a
              class="job-row"
              href={jobHash(job.id)}
              data-id={job.id}
              tabIndex={index === (focused ?? 0) || focused === -1 ? 0 : -1}
              onFocus={() => setFocusedId(job.id)}
            >
              <JobRow job={job} nowMs={nowMs} />
            </a>
          </li>
        )
      })}
    </ol>
  )
}

function targetOf(key: string, from: number, count: number): number | undefined {
  switch (key) {
    case 'ArrowDown':
      return from + 1
    case 'ArrowUp':
      return from - 1
    case 'PageDown':
      return from + PAGE_ROWS
    case 'PageUp':
      return from - PAGE_ROWS
    case 'Home':
      return 0
    case 'End':
      return count - 1
    default:
      return undefined
  }
}

function JobRow({ job, nowMs }: { readonly job: JobView; readonly nowMs: number }): JSX.Element {
  const { id, task, status, createdAt, group, parentId } = job
  const why = whyOf(job)
  return (
    <>
      <span class="row-task">
        {parentId !== undefined && <Icon name="child" />}
        <bdi>{lineText(task)}</bdi>
      </span>
      <StatusChip status={status} />
      <span class="row-detail">
        <span class="mono">{id}</span>
        {group !== undefined && <span class="tag">{lineText(group)}</span>}
        {why !== '' && <bdi class="row-why">{lineText(why)}</bdi>}
      </span>
      <span class="row-time">
        <time dateTime={createdAt}>{timeText(createdAt)}</time>
        <span class="row-duration">{ranText(job, nowMs)}</span>
      </span>
    </>
  )
}

/** Why it ended as it did, where there is more to say than its status does. */
function whyOf({ failure, cancellation, stop }: JobView): string {
  if (failure !== undefined) return failure.message
  const asked = cancellation ?? stop
  return asked === undefined ? '' : asked.reason === '' ? CAUSES[asked.cause] : asked.reason
}

function ranText({ startedAt, endedAt, terminal }: JobView, nowMs: number): string {
  if (startedAt === undefined) return ''
  if (endedAt === undefined && terminal) return ''
  const endMs = endedAt === undefined ? nowMs : Date.parse(endedAt)
  const ms = Math.max(0, endMs - Date.parse(startedAt))
  return terminal ? durationText(ms) : elapsedText(ms)
}
