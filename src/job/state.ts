import type { CancelKind, Cancellation } from './cancellation.ts'
import type { Failure } from './failure.ts'
import type { Json } from './json.ts'
import type { Receipt } from './receipt.ts'

/** Times are wall time in milliseconds since the epoch. `attempt` counts the runs of the job from 1. */
interface Started {
  readonly startedAt: number
  readonly attempt: number
  readonly replica: string
}

interface Ended {
  readonly endedAt: number
}

/** What may stand beside an end that came before the job was ever claimed. */
interface MaybeStarted {
  readonly startedAt?: number
  readonly attempt: number
  readonly replica?: string
}

/** Where a job stands; each member has the fields that exist then, and no others. */
export type JobState =
  | { readonly status: 'queued'; readonly attempt: number }
  | ({ readonly status: 'running' } & Started)
  | ({ readonly status: 'stopping'; readonly stop: Cancellation } & Started)
  | ({ readonly status: 'cancelling'; readonly cancellation: Cancellation } & Started)
  | ({ readonly status: 'succeeded'; readonly result: Json; readonly stop?: Cancellation } & Started & Ended)
  | ({
      readonly status: 'failed'
      readonly failure: Failure
      readonly stop?: Cancellation
      readonly cancellation?: Cancellation
    } & Started &
      Ended)
  | ({
      readonly status: 'cancelled' | 'timed_out'
      readonly cancellation: Cancellation
      readonly receipt: Receipt
    } & MaybeStarted &
      Ended)
  | ({ readonly status: 'stopped'; readonly stop: Cancellation; readonly receipt: Receipt } & MaybeStarted & Ended)
  | ({
      readonly status: 'interrupted'
      readonly failure: Failure
      readonly stop?: Cancellation
      readonly cancellation?: Cancellation
      readonly receipt?: Receipt
    } & MaybeStarted &
      Ended)
  | ({
      readonly status: 'abandoned'
      readonly cancellation: Cancellation
      readonly receipt: Receipt
      /** When the function settled after all; undefined while it is stuck. */
      readonly settledAt?: number
    } & Started &
      Ended)

/** What somebody asked that decides how the job ends, or has: a cancellation above the stop that it followed. */
export function requestIn(state: JobState): { readonly kind: CancelKind; readonly request: Cancellation } | undefined {
  if ('cancellation' in state && state.cancellation !== undefined) {
    return { kind: 'cancel', request: state.cancellation }
  }
  return 'stop' in state && state.stop !== undefined ? { kind: 'stop', request: state.stop } : undefined
}
