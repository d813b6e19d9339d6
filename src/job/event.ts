import type { Cancellation } from './cancellation.ts'
import type { Failure } from './failure.ts'
import type { Json } from './json.ts'
import type { Receipt, Usage } from './receipt.ts'
import { isTerminal, type JobStatus, STATUSES } from './status.ts'
import type { JobView } from './view.ts'

export const OUTPUT_CHANNELS = ['stdout', 'stderr', 'text', 'reasoning'] as const
export type OutputChannel = (typeof OUTPUT_CHANNELS)[number]

/** What a task sends while it runs; refused once its job is being cancelled. */
export type TaskEvent =
  | { readonly type: 'output'; readonly channel: OutputChannel; readonly text: string }
  | { readonly type: 'data'; readonly name: string; readonly value: Json }
  | {
      readonly type: 'artifact'
      readonly name: string
      readonly path: string
      readonly mediaType: string
      readonly bytes: number
      readonly sha256: string
    }
  | { readonly type: 'progress'; readonly current: number; readonly total?: number; readonly message?: string }
  | { readonly type: 'model.started'; readonly model: string }
  | { readonly type: 'model.finished'; readonly model: string; readonly usage?: Usage }
  | { readonly type: 'tool.started'; readonly tool: string; readonly callId: string; readonly input: Json }
  | {
      readonly type: 'tool.finished'
      readonly tool: string
      readonly callId: string
      readonly ok: boolean
      readonly summary: string
    }
  | { readonly type: 'child.started'; readonly childId: string; readonly task: string }
  | { readonly type: 'child.finished'; readonly childId: string; readonly task: string; readonly status: JobStatus }

/** One for each change of a job's status. */
export type StatusEvent =
  | { readonly type: 'job.queued'; readonly job: JobView; readonly position: number }
  | { readonly type: 'job.started'; readonly attempt: number; readonly replica: string }
  | { readonly type: 'job.requeued'; readonly attempt: number; readonly failure: Failure }
  | { readonly type: 'job.stopping'; readonly stop: Cancellation }
  | { readonly type: 'job.cancelling'; readonly cancellation: Cancellation }
  | { readonly type: 'job.succeeded'; readonly result: Json }
  | { readonly type: 'job.failed'; readonly failure: Failure }
  | {
      readonly type: 'job.interrupted'
      readonly failure: Failure
      readonly cancellation?: Cancellation
      readonly receipt?: Receipt
    }
  | { readonly type: 'job.cancelled'; readonly cancellation: Cancellation; readonly receipt: Receipt }
  | { readonly type: 'job.timed_out'; readonly cancellation: Cancellation; readonly receipt: Receipt }
  | { readonly type: 'job.abandoned'; readonly cancellation: Cancellation; readonly receipt: Receipt }
  | { readonly type: 'job.stopped'; readonly stop: Cancellation; readonly receipt: Receipt }

/** Made for one reader whose place is no longer kept; not in the log. */
export interface GapEvent {
  readonly type: 'gap'
  readonly from: number
  readonly to: number
  readonly reason: 'retention' | 'log_limit' | 'log_lost'
}

/** What every event bears on the wire besides its own data. `seq` counts from 1 without gap within a job; `at` is ISO 8601. */
export interface EventHead {
  readonly jobId: string
  readonly seq: number
  readonly at: string
}

export type LoggedEvent = TaskEvent | StatusEvent
export type JobEvent = (LoggedEvent | GapEvent) & EventHead

const TERMINAL_EVENTS: ReadonlySet<string> = new Set(STATUSES.filter(isTerminal).map((status) => `job.${status}`))

/** Whether an event of this type is the last of its job's log. */
export function isTerminalEvent(type: string): boolean {
  return TERMINAL_EVENTS.has(type)
}

/** An event's JSON may be this long (bytes); text is split, anything else is refused. */
export const MAX_EVENT_BYTES = 64 * 1024

/** A result's JSON may be this long (bytes). */
export const MAX_RESULT_BYTES = 1024 * 1024
