import type { CancelKind, Phase } from '../job/cancellation.ts'
import type { StatusEvent } from '../job/event.ts'
import type { JobRecord } from '../job/record.ts'

/** How a request of another process was found that this one was not told of: by looking, or in the answer to a write. */
export type FoundBy = 'poll' | 'answer'

/** A job that was asked to end while it was in `phase` has settled, and what it held was looked for, `tookMs` after the request. */
export interface Stopped {
  readonly kind: CancelKind
  readonly phase: Phase
  readonly tookMs: number
}

/** Told of what becomes of jobs, for figures and traces. Whoever calls has a log to write: what a method throws is logged. */
export interface JobObserver {
  /** A change of a job's status, which this process wrote, is in the log. `record` is the job as it is from then on. */
  onStatus(record: JobRecord, event: StatusEvent): void
  onStopped?(stopped: Stopped): void
  onRequestFound?(by: FoundBy): void
  /** Its end is not written by this process, whatever comes of it. */
  onLetGo?(record: JobRecord): void
}
