import type { TaskRegistry } from '../execution/TaskRegistry.ts'
import type { CancelKind } from '../job/cancellation.ts'
import { TetherError } from '../job/error.ts'
import { MAX_EVENT_BYTES } from '../job/event.ts'
import { type Containment, emptyReceipt } from '../job/receipt.ts'
import type { JobRecord } from '../job/record.ts'
import { type JobView, rowOf, viewOf } from '../job/view.ts'
import type { ActiveJob } from './ActiveJob.ts'

/** How jobs are shown: what is secret in an input is what its task says. */
export class JobViews {
  readonly #tasks: TaskRegistry
  readonly #containment: Containment

  constructor(options: { readonly tasks: TaskRegistry; readonly containment: Containment }) {
    this.#tasks = options.tasks
    this.#containment = options.containment
  }

  of(record: JobRecord): JobView {
    const task = this.#tasks.find(record.task)
    // Only its task says what is secret; what was claimed or has ended has nothing secret any more.
    const unknown = record.state.status === 'queued' ? null : record.input
    return viewOf(record, task === undefined ? unknown : task.redact(record.input))
  }

  /** As the store has the job. An end that was decided and is not in the store yet shows as a receipt that says so. */
  ofActive(job: ActiveJob): JobView {
    const { record, decided } = job
    const view = this.of(record)
    if (decided === record.state || !('cancellation' in decided)) return view
    const receipt = 'receipt' in decided ? decided.receipt : undefined
    return {
      ...view,
      receipt: { ...(receipt ?? { ...emptyReceipt(this.#containment), confirmed: false }), recorded: false },
    }
  }

  /** As it stands in `job.queued`: an input that does not fit an event is left to `GET /jobs/{id}`. */
  inEvent(record: JobRecord): JobView {
    const view = this.of({ ...record, lastSeq: 1 })
    return Buffer.byteLength(JSON.stringify(view)) < MAX_EVENT_BYTES / 2 ? view : rowOf({ ...record, lastSeq: 1 })
  }

  /**
   * Of a job that has ended, for who asked for its end.
   * @throws {TetherError} `TETHER_JOB_FINISHED` where it ended with a result and no request of this kind had been accepted
   */
  ofFinished(record: JobRecord, kind: CancelKind): JobView {
    const view = this.of(record)
    const wasAccepted = kind === 'stop' ? view.stop !== undefined : view.cancellation !== undefined
    if ((view.status === 'succeeded' || view.status === 'failed') && !wasAccepted) throw finishedError(record)
    return view
  }
}

export function finishedError(record: JobRecord): TetherError {
  return new TetherError('TETHER_JOB_FINISHED', `job ${record.id} has ended already: ${record.state.status}`)
}
