import type { JSX } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import type { JobView } from '../../job/view.ts'
import type { RequestView } from '../api/ServerApi.ts'
import { useDashboard } from '../Dashboard.ts'
import { lineText, timeText } from '../format.ts'

const ASKED = {
  cancel: 'Cancel',
  stop: 'Stop',
  patch: 'Change',
  delete: 'Delete',
} as const satisfies Record<RequestView['kind'], string>

/** Who asked for what of the job, and what became of it; what was refused too. */
export function Requests({ job }: { readonly job: JobView }): JSX.Element | null {
  const { api } = useDashboard()
  const [requests, setRequests] = useState<readonly RequestView[]>([])
  const { onDisconnect, disconnectGraceMs } = job.policy
  useEffect(() => {
    const life = new AbortController()
    // One that was forgotten: what is shown was so.
    api.requests(job.id, life.signal).then(setRequests, () => undefined)
    return () => life.abort()
  }, [job.id, job.status, onDisconnect, disconnectGraceMs])
  if (requests.length === 0) return null
  return (
    <section class="panel" aria-labelledby="requests-title">
      <h2 id="requests-title">Requests</h2>
      <ol class="requests">
        {requests.map((request) => (
          <li key={request.number}>
            <Request request={request} />
          </li>
        ))}
      </ol>
    </section>
  )
}

function Request({ request }: { readonly request: RequestView }): JSX.Element {
  const { kind, by, at, reason, outcome, group, change } = request
  return (
    <>
      <p>
        <strong>{ASKED[kind]}</strong>{' '}
        <span class={outcome.startsWith('TETHER_') ? 'mono refused' : ''}>{outcome}</span>
      </p>
      <p class="muted">
        by <bdi>{lineText(by)}</bdi>, <time dateTime={at}>{timeText(at)}</time>
        {group !== undefined && (
          <>
            , of all in <bdi>{lineText(group)}</bdi>
          </>
        )}
      </p>
      {change !== undefined && <p class="mono muted">{JSON.stringify(change)}</p>}
      {reason !== '' && (
        <p>
          <bdi>{lineText(reason)}</bdi>
        </p>
      )}
    </>
  )
}
