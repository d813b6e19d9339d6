import type { CancelKind } from '../job/cancellation.ts'
import type { JobRef } from '../job/key.ts'
import type { JobView } from '../job/view.ts'
import type { Caller } from './JobSpec.ts'

/** Where a request to end a job went. */
export type Delivery = 'local' | 'remote' | 'queued' | 'remembered' | 'none'

export interface EndRequest {
  readonly kind: CancelKind
  readonly reason: string
  readonly caller: Caller
  readonly ifUnknown: 'reject' | 'remember'
  /** How long the answer may wait for the job's end. */
  readonly waitMs: number
  /** Fires when the client that waits is gone: the wait is over, the request stands. */
  readonly signal?: AbortSignal
  /** Called where it is certain that the request stands, before the answer waits for the job's end. */
  readonly onAccepted?: () => void
}

export interface GroupEndRequest extends Omit<EndRequest, 'waitMs' | 'signal' | 'onAccepted'> {
  /** Called with each member that has not ended and was asked. */
  readonly onAsked?: (ref: JobRef) => void
}

export type EndAnswer =
  | { readonly kind: 'job'; readonly view: JobView; readonly delivery: Delivery }
  | {
      readonly kind: 'remembered'
      readonly id: string
      readonly request: CancelKind
      readonly expiresAt: number
      readonly delivery: 'remembered'
    }

export interface GroupAnswer {
  /** Members that were asked and have not ended yet. */
  readonly accepted: number
  /** Members that have ended, by this or otherwise. */
  readonly ended: number
  readonly remembered?: { readonly kind: CancelKind; readonly expiresAt: number }
}
