import type { JSX } from 'preact'
import { useState } from 'preact/hooks'
import type { JobView } from '../../job/view.ts'
import { useDashboard } from '../Dashboard.ts'
import { lineText } from '../format.ts'
import type { JobWatch } from '../jobs/JobWatch.ts'
import { messageOf } from '../messageOf.ts'

/** Stop lets finish what is in flight; cancel, which stays possible meanwhile, does not. */
export function EndButtons({ job, watch }: { readonly job: JobView; readonly watch: JobWatch }): JSX.Element {
  const { api } = useDashboard()
  const [asking, setAsking] = useState<'stop' | 'cancel'>()
  const [failure, setFailure] = useState<string>()
  const ask = (kind: 'stop' | 'cancel'): void => {
    setAsking(kind)
    setFailure(undefined)
    api
      .end(job.id, kind)
      .then(
        (answer) => watch.put(answer),
        (error: unknown) => setFailure(messageOf(error)),
      )
      .finally(() => setAsking(undefined))
  }
  const isStopping = job.status === 'stopping'
  const isCancelling = job.status === 'cancelling'
  return (
    <div class="end-buttons">
      <button
        type="button"
        class="button"
        disabled={job.terminal || isStopping || isCancelling || asking !== undefined}
        onClick={() => ask('stop')}
      >
        {isStopping ? `Stopping… (${waitText(job)})` : 'Stop'}
      </button>
      <button
        type="button"
        class="button danger"
        disabled={job.terminal || isCancelling || asking === 'cancel'}
        onClick={() => ask('cancel')}
      >
        {isCancelling ? 'Cancelling…' : 'Cancel'}
      </button>
      {failure !== undefined && (
        <p class="notice bad" role="alert">
          {failure}
        </p>
      )}
    </div>
  )
}

/** What a stop waits for. */
function waitText({ stop }: JobView): string {
  const phase = stop?.phase ?? 'running'
  if (phase === 'model') return 'after the current model call completes'
  if (phase === 'child') return 'after its sub-agents stop'
  if (phase.startsWith('tool:')) return `after the tool ${lineText(phase.slice('tool:'.length))} completes`
  return 'at its next step'
}
