import type { GroupId, JobId } from './id.ts'
import type { Json } from './json.ts'
import { type JobKey, keyOf } from './key.ts'
import type { JobPolicy } from './policy.ts'
import type { JobState } from './state.ts'
import type { TraceCarrier } from './trace.ts'

/** A job as the store keeps it. `createdAt` is wall time in ms by the store's clock. */
export interface JobRecord {
  readonly id: JobId
  readonly tenant: string
  readonly task: string
  readonly createdAt: number
  /** As it was given while the job waits; secrets are erased from it once the job is claimed. */
  readonly input: Json
  readonly policy: JobPolicy
  readonly metadata: { readonly [key: string]: Json }
  readonly group?: GroupId
  readonly parentId?: JobId
  /** The job whose workspace this one works in, where that is not its own: of the child of a child, the one whose own it is. */
  readonly workspaceOf?: JobId
  readonly idempotencyKey?: string
  /** The trace of the request or the job that started it; undefined where nobody traces. */
  readonly trace?: TraceCarrier
  /** Of the body that started the job, without defaults: what a second start with the same id is compared with. */
  readonly fingerprint: string
  readonly state: JobState
  readonly lastSeq: number
}

/** The key of the job whose workspace this one works in. */
export function workspaceKeyOf({ tenant, id, workspaceOf = id }: JobRecord): JobKey {
  return keyOf({ tenant, id: workspaceOf })
}
