import type { StoredTombstone } from '../job/cancellation.ts'
import type { GroupId, JobId } from '../job/id.ts'
import type { Json } from '../job/json.ts'
import type { JobRef } from '../job/key.ts'
import type { JobPolicy } from '../job/policy.ts'
import type { JobRecord } from '../job/record.ts'
import type { JobRequest, NumberedRequest } from '../job/request.ts'
import type { JobState } from '../job/state.ts'
import type { ActiveStatus, JobStatus } from '../job/status.ts'

/**
 * Events of one job that follow each other, as they stand in the log: one JSON object a line (NDJSON, no newline at the end),
 * each `{"type":…,"at":…,…}` without `jobId` and `seq`, which the reader knows. Line k (from 0) has `seq` firstSeq + k.
 */
export interface EventBatch {
  readonly firstSeq: number
  readonly lastSeq: number
  readonly lines: string
}

/** At most `limit` jobs with one `name` run at once. */
export interface RunLimit {
  readonly name: string
  readonly limit: number
}

/** One write. Those of one `commit` are one transaction and take effect in their order. */
export type StoreChange =
  /**
   * Its events begin at 1; `record.lastSeq` is their last. `owner`: the replica that runs it, this one where not given; '' leaves
   * it to any, and `waitsUntil` (wall time, ms) is when its wait in the queue is over. `isHeld`: by a holder of this replica. A child
   * is refused (`fenced`) where its parent has come to be another replica's, or has ended. `limits` hold for replicas that claim it.
   */
  | {
      readonly kind: 'create'
      readonly record: JobRecord
      readonly events: EventBatch
      readonly owner?: string
      readonly waitsUntil?: number
      readonly isHeld?: boolean
      readonly limits?: readonly RunLimit[]
    }
  /**
   * Compare-and-set: only where the record's status is `from`, and the job is `owner`'s, or, where not given, this replica's or
   * nobody's. `input`, where given, replaces the record's (secrets erased).
   */
  | {
      readonly kind: 'move'
      readonly ref: JobRef
      readonly from: ActiveStatus
      readonly state: JobState
      readonly input?: Json
      readonly events: EventBatch
      readonly owner?: string
    }
  /** Output of a job of this replica's; refused where the record is `cancelling` or terminal. */
  | { readonly kind: 'append'; readonly ref: JobRef; readonly events: EventBatch }
  /** Refused (`status`) where the job has ended. `before`: what it is a change of, where several processes share the store. */
  | { readonly kind: 'policy'; readonly ref: JobRef; readonly policy: JobPolicy; readonly before?: JobPolicy }
  /** The function of an abandoned job settled after all (wall time, ms). Refused (`status`) on any other job. */
  | { readonly kind: 'settled'; readonly ref: JobRef; readonly settledAt: number }
  /**
   * Forgets a finished job, its log and its idempotency key; refused (`status`) where it is not finished. The id cannot be
   * started again until `spentUntil` (wall time, ms), which may have passed.
   */
  | { readonly kind: 'delete'; readonly ref: JobRef; readonly spentUntil: number }
  /** What jobs of a task keep between their runs. `json` undefined deletes it. Never refused. */
  | {
      readonly kind: 'value'
      readonly tenant: string
      readonly task: string
      readonly key: string
      readonly json: string | undefined
    }
  /** Undefined forgets it. Never refused. */
  | { readonly kind: 'tombstone'; readonly name: string; readonly tombstone: StoredTombstone | undefined }
  /** What was asked of jobs, also of those that are not there: `listRequests` says how long that is kept. Never refused. */
  | { readonly kind: 'requests'; readonly requests: readonly RequestOfJob[] }

export interface RequestOfJob {
  readonly ref: JobRef
  readonly request: JobRequest
}

/**
 * What became of one change. A change that is refused writes nothing, and the others of its commit still do.
 * - `exists`, `spent`, `key_taken` (asked in this order): a create whose id is used, was deleted a while ago, or whose
 *   idempotency key another job of the tenant has.
 * - `missing`: there is no such job. `status`: it is not where the change needs it.
 * - `sequence`: the events do not begin right after the job's last one, or there are none.
 *
 * Only where several processes share the store:
 * - `fenced`: the job is another replica's.
 * - `changed`: a policy that is not `before` any more.
 * - `asked`: a move to an end of the job's own, `failed` or `stopped`; it was asked for a cancel before.
 * - `isAsked`: it was done, and the job was asked to end and does not do so yet.
 */
export type ChangeResult =
  | { readonly ok: true; readonly isAsked?: true }
  | {
      readonly ok: false
      readonly why:
        | 'exists'
        | 'spent'
        | 'missing'
        | 'status'
        | 'sequence'
        | 'key_taken'
        | 'fenced'
        | 'asked'
        | 'changed'
    }

export type Lookup =
  | { readonly kind: 'found'; readonly record: JobRecord }
  | { readonly kind: 'spent' }
  | { readonly kind: 'unknown' }

export interface ListFilter {
  readonly tenant: string
  readonly statuses?: readonly JobStatus[]
  readonly task?: string
  readonly group?: GroupId
  readonly parentId?: JobId
  /** From 1. */
  readonly limit: number
  /** Only what comes after this place, newest first. */
  readonly before?: ListPlace
}

/** A place in the list: jobs are ordered by `createdAt`, then `id`, both descending. */
export interface ListPlace {
  readonly createdAt: number
  readonly id: JobId
}

/** What every store is opened with. */
export interface JobStoreLimits {
  /**
   * How long one job's log may become, in bytes of its lines. Past it the oldest output goes; events of the job's status stay,
   * and so does the newest batch.
   */
  readonly maxLogBytes: number
}

/**
 * Records and logs of jobs. Every method rejects with a `StoreError` where the store cannot be reached or written, or is
 * closed, and none throws at once. Commits take effect in the order of the calls; one that rejects wrote nothing, unless it rejects
 * with an `UncertainCommitError`.
 * What `commit` resolved survives the death of this process (and of the machine where the store was opened so).
 */
export interface JobStore {
  commit(changes: readonly StoreChange[]): Promise<readonly ChangeResult[]>
  lookup(ref: JobRef): Promise<Lookup>
  /** As `lookup`, for many, and without their records. */
  lookupKinds(refs: readonly JobRef[]): Promise<readonly Lookup['kind'][]>
  findByIdempotencyKey(tenant: string, key: string): Promise<JobRecord | undefined>
  /** Newest first; `input` and a `result` are null in these records. */
  list(filter: ListFilter): Promise<readonly JobRecord[]>
  /** One of them as a list shows it; undefined where there is none. */
  findListed(ref: JobRef): Promise<JobRecord | undefined>
  /** How many jobs of a group have ended. */
  countEnded(tenant: string, group: GroupId): Promise<number>
  /** Every job of every tenant that is not terminal, oldest first, with its input: what a start of the server has to take up. */
  listActive(): Promise<readonly JobRecord[]>
  /**
   * The log of one job after `after`, batches until `maxBytes` are reached (one at least, where there is one). A batch that was
   * long may come back as several.
   * The first batch may begin at or before `after`: the reader skips what it has. Numbers that are missing between two batches,
   * or before the first, are output that the limit on a log's length took (`maxLogBytes`). Nothing of a job that is not there.
   */
  readEvents(ref: JobRef, after: number, maxBytes: number): Promise<readonly EventBatch[]>
  /** Jobs of every tenant that ended before `time` (wall time, ms), the longest ago first. */
  listEndedBefore(time: number, limit: number): Promise<readonly JobRef[]>
  /**
   * What was asked of a job after the request of this number, in the order in which it was written. Kept as long as the job, and
   * after it was deleted until its id is free again; of an id that no job has, for STRAY_MS (requestLimits.ts, which also says how
   * many are kept). What was asked of an id before its job was created is the job's.
   */
  listRequests(
    ref: JobRef,
    page: { readonly after: number; readonly limit: number },
  ): Promise<readonly NumberedRequest[]>
  /** Those that have not expired. */
  listTombstones(): Promise<readonly StoredTombstone[]>
  /** Undefined where there is none. */
  getValue(tenant: string, task: string, key: string): Promise<string | undefined>
  /** Keys that begin with `prefix` and come after `after`, in the order of their code points. */
  listValueKeys(
    tenant: string,
    task: string,
    page: { readonly prefix: string; readonly after: string; readonly limit: number },
  ): Promise<readonly string[]>
  /** Writes and reads a probe. Rejects where that fails. */
  check(): Promise<void>
  /** Commits that were called before come through. Twice is harmless. */
  close(): Promise<void>
}

/** The store could not do what was asked: disk full, locked, corrupt, gone. */
export class StoreError extends Error {
  override readonly name = 'StoreError'
}

/**
 * A commit that was sent and not answered. It has taken effect as a whole or not at all; until `outcome` says which, its events
 * must not be sent again.
 */
export class UncertainCommitError extends StoreError {
  readonly #ask: () => Promise<readonly ChangeResult[] | undefined>

  constructor(message: string, ask: () => Promise<readonly ChangeResult[] | undefined>, options?: ErrorOptions) {
    super(message, options)
    this.#ask = ask
  }

  /**
   * The results of the commit, or undefined where it wrote nothing; then it never will, and may be called again. Rejects with a
   * `StoreError` while the store cannot say: ask again.
   */
  outcome(): Promise<readonly ChangeResult[] | undefined> {
    return this.#ask()
  }
}
