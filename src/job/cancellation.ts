import { unreachable } from './unreachable.ts'

/** Why a job was asked to end. A cause is data: code switches on it, never on the text of a reason. */
export const CAUSES = [
  'client_disconnected',
  'cancel_requested',
  'stop_requested',
  'stop_deadline',
  'timed_out',
  'idle_timed_out',
  'server_shutdown',
  'parent_cancelled',
  'parent_stopped',
  'parent_ended',
  'slow_consumer',
  'lease_missed',
] as const
export type Cause = (typeof CAUSES)[number]

/** `cancel` is hard: the abort signal fires now. `stop` is cooperative: the next boundary raises. */
export type CancelKind = 'cancel' | 'stop'

/** What a job was doing when it was asked to end. */
export type Phase = 'queued' | 'starting' | 'running' | 'model' | 'child' | `tool:${string}`

/** A reason longer than this is refused at the edge and cut inside (characters; protocol, section 4). */
export const MAX_REASON_LENGTH = 500

/**
 * The one form in which a disconnect, Ctrl+C, cancel, stop, timeout, shutdown or a parent's end reaches a job.
 * `requestedAt` is wall time (ms since the epoch); `requestedAtMs` is the monotonic clock that durations are taken from.
 */
export interface CancellationRequest {
  readonly kind: CancelKind
  readonly cause: Cause
  readonly reason: string
  readonly by?: string
  readonly requestedAt: number
  readonly requestedAtMs: number
}

/** A request as it is kept where another process may find it. */
export type StoredRequest = Omit<CancellationRequest, 'requestedAtMs'>

/** A request as it stands in a job's record, in its events and on the wire. `requestedAt` is ISO 8601. */
export interface Cancellation {
  readonly cause: Cause
  readonly reason: string
  readonly requestedAt: string
  readonly phase: Phase
  readonly by?: string
  /** The stop that this cancellation followed. */
  readonly stop?: Cancellation
}

/** What a job ends as when it was cancelled for `cause`. */
export function outcomeOf(cause: Cause): 'cancelled' | 'timed_out' | 'interrupted' {
  switch (cause) {
    case 'timed_out':
    case 'idle_timed_out':
      return 'timed_out'
    case 'server_shutdown':
      return 'interrupted'
    case 'client_disconnected':
    case 'cancel_requested':
    case 'stop_requested':
    case 'stop_deadline':
    case 'parent_cancelled':
    case 'parent_stopped':
    case 'parent_ended':
    case 'slow_consumer':
    case 'lease_missed':
      return 'cancelled'
    default:
      return unreachable(cause)
  }
}

export function recordOf(request: CancellationRequest, phase: Phase, stop?: Cancellation): Cancellation {
  return {
    cause: request.cause,
    reason: request.reason,
    requestedAt: new Date(request.requestedAt).toISOString(),
    phase,
    ...(request.by === undefined ? {} : { by: request.by }),
    ...(stop === undefined ? {} : { stop }),
  }
}

/**
 * A request to end a job that is not known yet, by the name under which it is remembered. `expiresAt` is wall time in ms.
 */
export interface StoredTombstone {
  readonly name: string
  readonly request: StoredRequest
  readonly expiresAt: number
}
