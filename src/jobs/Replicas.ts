import type { FollowedLog } from '../eventlog/FollowedLog.ts'
import type { CancelKind, CancellationRequest } from '../job/cancellation.ts'
import type { JobRef } from '../job/key.ts'
import type { JobPolicy } from '../job/policy.ts'
import type { JobRecord } from '../job/record.ts'

/** A request as other processes are told of it: the monotonic clock is each process's own. */
export type AskedRequest = Omit<CancellationRequest, 'requestedAtMs'>

/** Where a job stood when its end was asked for. Of all but `unknown`, `full` and `ended`, the request stands from then on. */
export type Standing =
  | { readonly kind: 'unknown' }
  /** There is no such job; the request waits for it until `expiresAt` (wall time, ms). */
  | { readonly kind: 'remembered'; readonly request: CancelKind; readonly expiresAt: number }
  /** There is no such job, and too many requests wait for others. */
  | { readonly kind: 'full' }
  | { readonly kind: 'ended' }
  /** Its function has settled, and its end is being written: that end stands. */
  | { readonly kind: 'sealed' }
  /** No process has claimed it, and none will: whoever asked ends it, by the request that stands. */
  | { readonly kind: 'queued'; readonly request: AskedRequest }
  | { readonly kind: 'owned'; readonly owner: string }

export type Claim =
  | { readonly kind: 'claimed'; readonly record: JobRecord }
  /** Its end was asked for: it is not to run, and whoever finds it ends it. */
  | { readonly kind: 'asked'; readonly request: AskedRequest }
  /** Another process has it, it has ended, a limit holds it back, or there is no such job. */
  | { readonly kind: 'none' }

/** `fenced`: the job is not this process's any more. */
export type Seal = { readonly kind: 'sealed' | 'fenced' } | { readonly kind: 'asked'; readonly request: AskedRequest }

/** A change of a job's status, in the log: its event as a line of the log, with its number. */
export interface LoggedChange {
  readonly ref: JobRef
  readonly seq: number
  readonly line: string
}

export interface ChangeListener {
  onChange(change: LoggedChange): void
  /** Some may have been missed. */
  onMissed(): void
}

/**
 * What one process tells another of a job. `ask`: its end was asked for, by `request`. `policy`: its policy was changed. `lease`:
 * the client of a holder that is there, `holderId`, is alive.
 */
export interface Hint {
  readonly kind: 'ask' | 'policy' | 'lease'
  readonly ref: JobRef
  readonly request?: AskedRequest
  readonly holderId?: string
}

/** Hints since the start of this process. `failed`: not known to have been sent. `lost`: on their way to this process. */
export interface HintCounts {
  readonly sent: number
  readonly failed: number
  readonly received: number
  readonly lost: number
}

export interface LostReplica {
  readonly id: string
  readonly owned: readonly JobRef[]
  readonly held: readonly JobRef[]
}

/** How many jobs wait, and how many of them would go before one of some priority. */
export interface QueueLength {
  readonly waiting: number
  readonly ahead: number
}

/** A log that is followed until it is let go of. */
export interface Followed {
  readonly log: FollowedLog
  release(): void
}

/**
 * The other processes that work on the same jobs. A job that waits belongs to nobody; one that a process has claimed is written
 * by that process alone. Every method that asks rejects with a `StoreError` where the others cannot be reached.
 */
export interface Replicas {
  /** Of this process: unique to one start of it. */
  readonly id: string
  /** Puts a job that is recorded into the queue of all. */
  enqueue(ref: JobRef, priority: number): Promise<void>
  /** It may have left the queue before anybody claimed it: where that is so, it is put there again in time. */
  noteUnqueued(ref: JobRef): Promise<void>
  /** Takes it out, where nobody has claimed it. Never rejects: whoever claims it finds that it has ended. */
  dequeue(ref: JobRef): Promise<void>
  countWaiting(priority: number): Promise<QueueLength>
  /** Rejects where this process can put no job into the queue of all, or gets none. */
  checkQueue(): Promise<void>
  /**
   * Puts jobs into the queue that limits had held back and that may run now: of limits with these names, or of any where none is
   * given.
   */
  admit(limits?: readonly string[]): Promise<void>
  /** Takes a job for this process. */
  claim(ref: JobRef): Promise<Claim>
  /**
   * A job that `owner` claimed and has not begun to run waits for any process again, until `waitsUntil` (wall time, ms). `false`
   * where it is not such a one.
   */
  giveBack(ref: JobRef, owner: string, waitsUntil?: number): Promise<boolean>
  /** The jobs of this process, as the others know them. */
  owned(): Promise<readonly JobRef[]>
  /** Asks for the end of a job. `remember`: also where there is no such job yet. Its owner is told. */
  ask(ref: JobRef, request: AskedRequest, options: { readonly remember: boolean }): Promise<Standing>
  /** The same for every job that will be started with a group. */
  askGroup(tenant: string, group: string, request: AskedRequest): Promise<Standing>
  /** What was asked of jobs, for each in its order; undefined where nothing was, or where its status answers it. */
  asked(refs: readonly JobRef[]): Promise<readonly (AskedRequest | undefined)[]>
  /** The end that is about to be written stands from here on, unless another was asked for before. */
  seal(ref: JobRef): Promise<Seal>
  /** This process has a holder of the job. `from`: those of a process that is gone are its now. */
  hold(ref: JobRef, from?: string): Promise<void>
  /** It has none any more. Settles with the job's policy where no other process has one and it has not ended. */
  leave(ref: JobRef): Promise<JobPolicy | undefined>
  /** What follows from that has been done: until then others do it where this process dies. */
  letGo(ref: JobRef): Promise<void>
  /** Tells the owner of a job, every process that holds it, or both. Settles with whether there was anybody to tell. Never rejects. */
  tell(hint: Hint): Promise<boolean>
  /** Jobs that have waited past their deadline, or are recorded and in no queue: what a process that died left undone. */
  sweep(): Promise<{ readonly overdue: readonly JobRef[]; readonly unqueued: readonly JobRef[] }>
  /**
   * Processes that are gone, with the jobs that they had and those that had holders there. Each is told to one process alone,
   * and after a while to another unless it was forgotten.
   */
  takeDead(): Promise<readonly LostReplica[]>
  /** Everything that a process left is taken up. */
  forget(replica: string): Promise<void>
  /** How long ago this process last heard what others ask of it, in ms. */
  readonly unheardForMs: number
  readonly hintCounts: HintCounts
  /** Calls `listener` with what others tell this process. Returns its undo. */
  onHint(listener: (hint: Hint) => void): () => void
  /** Calls `listener` with changes of every job's status, whichever process made them. Returns its undo. */
  watch(listener: ChangeListener): () => void
  /** Follows the log of a job that another process writes, from after `lastSeq` on. */
  follow(ref: JobRef, lastSeq: number): Followed
  /** Whoever follows a job so is cut off: nobody here can tell how it goes on. */
  cutOff(ref: JobRef, why: Error): void
}
