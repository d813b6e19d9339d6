import type { ErrorCode } from './error.ts'
import type { GroupId } from './id.ts'
import type { OnDisconnect } from './policy.ts'

/** What a client may ask of a job that is kept for whoever looks later. */
export type RequestKind = 'cancel' | 'stop' | 'patch' | 'delete'

/**
 * What became of a request; an error's code where it was refused. `accepted`: it stands, whatever the job made of it. `ended`: the
 * job had ended before, without a result.
 */
export type RequestOutcome = 'accepted' | 'ended' | 'remembered' | 'changed' | 'deleted' | ErrorCode

/** What a client may change of a job's policy. */
export interface PolicyChange {
  readonly onDisconnect?: OnDisconnect
  readonly disconnectGraceMs?: number
}

/** Who asked what of a job, and what became of it. `at` is wall time in ms. */
export interface JobRequest {
  readonly kind: RequestKind
  readonly by: string
  readonly at: number
  readonly reason: string
  readonly outcome: RequestOutcome
  /** Asked of every job with this group, and so of this one. */
  readonly group?: GroupId
  /** What a `patch` was to change. */
  readonly change?: PolicyChange
}

/** As it is kept: requests of one job are numbered from 1 as they are written. */
export interface NumberedRequest extends JobRequest {
  readonly number: number
}
