import type { JobView } from '../../job/view.ts'
import { statusesIn } from './statuses.ts'

export interface JobFilter {
  /** Statuses, separated by commas; empty: all. */
  readonly status: string
  /** Empty: all. */
  readonly task: string
  /** What its id, task, group, place or metadata must hold, in any case of letters. */
  readonly text: string
  /** Whether jobs that another one started are shown. */
  readonly hasChildren: boolean
}

export function filterOf(query: URLSearchParams): JobFilter {
  return {
    status: query.get('status') ?? '',
    task: query.get('task') ?? '',
    text: query.get('q') ?? '',
    hasChildren: query.get('children') === 'true',
  }
}

export function hashOfFilter({ status, task, text, hasChildren }: JobFilter): string {
  const query = new URLSearchParams({
    ...(status === '' ? {} : { status }),
    ...(task === '' ? {} : { task }),
    ...(text === '' ? {} : { q: text }),
    ...(hasChildren ? { children: 'true' } : {}),
  })
  return query.size === 0 ? '#/' : `#/?${query}`
}

/** The test of one filter, made once for a list. */
export function matcherOf({ status, task, text, hasChildren }: JobFilter): (job: JobView) => boolean {
  const statuses = new Set(statusesIn(status))
  const words = text
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '')
  return (job) =>
    (hasChildren || job.parentId === undefined) &&
    (statuses.size === 0 || statuses.has(job.status)) &&
    (task === '' || job.task === task) &&
    words.every((word) => searchedOf(job).includes(word))
}

const searched = new WeakMap<JobView, string>()

function searchedOf(job: JobView): string {
  const known = searched.get(job)
  if (known !== undefined) return known
  const { id, task, status, group = '', replica = '', metadata, failure } = job
  const text = [id, task, status, group, replica, JSON.stringify(metadata), failure?.code, failure?.message]
    .join('\n')
    .toLowerCase()
  searched.set(job, text)
  return text
}
