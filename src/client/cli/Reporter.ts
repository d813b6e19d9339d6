import type { JobEvent } from '../../job/event.ts'
import type { Json } from '../../job/json.ts'
import type { Outcome } from './outcome.ts'

/** What becomes of what a job's stream says: it is shown as the user wants to see it. */
export interface Reporter {
  /** Resolves when more may come: a slow terminal slows the reading of the stream. */
  show(event: JobEvent): Promise<void>
  /** The result came without its event, from the job's record. */
  showResult(task: string, result: Json): Promise<void>
  /** The job has ended, and its outcome is said next. Resolves when all that belongs before it was, within a moment. */
  finish(outcome: Outcome): Promise<void>
  /** The user, or we, have left: nothing more comes. Twice is once; harmless after `finish`. */
  leave(): void
}
