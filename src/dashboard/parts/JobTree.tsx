import type { JSX } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import type { JobView } from '../../job/view.ts'
import type { ServerApi } from '../api/ServerApi.ts'
import { useDashboard } from '../Dashboard.ts'
import { lineText } from '../format.ts'
import type { JobTable } from '../jobs/JobTable.ts'
import { jobHash } from '../Route.ts'
import { useChanges } from '../useChanges.ts'
import { StatusChip } from './StatusChip.tsx'

/** A family has at most 8 generations, and a page that listed more than this would be no help. */
const MAX_GENERATIONS = 8
const MAX_LISTED = 200

/** The job's family, from its first ancestor down; the feed keeps it up to date. */
export function JobTree({ job }: { readonly job: JobView }): JSX.Element | null {
  const { api, table, signal } = useDashboard()
  useChanges(table.changes)
  const [root, setRoot] = useState<string>()
  useEffect(() => {
    const life = new AbortController()
    const open = AbortSignal.any([life.signal, signal])
    loadFamily(job, { api, table, signal: open }).then(setRoot, () => undefined)
    return () => life.abort()
  }, [job.id])
  const top = root === undefined ? undefined : table.get(root)
  if (top === undefined) return null
  if (top.id === job.id && table.childrenOf(job.id).length === 0) return null
  return (
    <nav class="panel job-tree" aria-labelledby="tree-title">
      <h2 id="tree-title">Sub-agents</h2>
      <ul>
        <Branch job={top} currentId={job.id} depth={0} />
      </ul>
    </nav>
  )
}

function Branch({
  job,
  currentId,
  depth,
}: {
  readonly job: JobView
  readonly currentId: string
  readonly depth: number
}): JSX.Element {
  const { table } = useDashboard()
  const children = depth < MAX_GENERATIONS ? table.childrenOf(job.id) : []
  return (
    <li>
      <a href={jobHash(job.id)} aria-current={job.id === currentId ? 'page' : undefined}>
        <bdi>{lineText(job.task)}</bdi>
        <StatusChip status={job.status} />
      </a>
      {children.length > 0 && (
        <ul>
          {children.map((child) => (
            <Branch key={child.id} job={child} currentId={currentId} depth={depth + 1} />
          ))}
        </ul>
      )}
    </li>
  )
}

interface Loading {
  readonly api: ServerApi
  readonly table: JobTable
  readonly signal: AbortSignal
}

/** Puts the whole family into the table and gives the id of its first ancestor. */
async function loadFamily(job: JobView, { api, table, signal }: Loading): Promise<string> {
  let top = job
  for (let up = 0; up < MAX_GENERATIONS && top.parentId !== undefined; up += 1) {
    top = await api.job(top.parentId, signal)
    table.put([top])
  }
  table.put([top])
  let generation = [top.id]
  let listed = 0
  for (let down = 0; down < MAX_GENERATIONS && generation.length > 0 && listed < MAX_LISTED; down += 1) {
    const pages = await Promise.all(generation.map((parent) => api.jobs({ parent }, signal)))
    const children = pages.flatMap(({ jobs }) => jobs)
    table.put(children)
    listed += children.length
    generation = children.map(({ id }) => id)
  }
  return top.id
}
