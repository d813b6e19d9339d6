import type { JobKey } from '../job/key.ts'
import type { RunLimit } from '../store/JobStore.ts'

/** A job that waits for a slot. */
export interface QueueEntry {
  readonly key: JobKey
  /** Tenants take turns at equal priority. */
  readonly tenant: string
  /** Higher goes first; among equals of a tenant, first in first out. */
  readonly priority: number
  readonly limits: readonly RunLimit[]
  /** Runs the job; the slot is taken until the promise settles. It must not reject. */
  readonly run: () => Promise<void>
}

/** Why no job is started: nobody can reach the server yet, nothing can be written, or the server ends. */
export type PauseReason = 'not_listening' | 'store_failing' | 'draining'

/** Hands slots to jobs. A job that may not run because of a limit does not hold up those behind it. */
export interface JobQueue {
  add(entry: QueueEntry): void
  /** Takes a waiting job out, so that its `run` is never called. `false` where it is not waiting here. */
  remove(key: JobKey): boolean
  /** How many that wait now would go before a job of this tenant and priority. */
  positionOf(priority: number): number
  readonly waiting: number
  readonly running: number
  /** Whether a job that is added now would find a slot free (limits aside). */
  readonly hasFreeSlot: boolean
  /** No further job is started while there is a reason for that; those that run go on. Twice for one reason is once. */
  pause(reason: PauseReason): void
  /** The reason is gone. What waits is started as slots are free, unless there is another. */
  resume(reason: PauseReason): void
}
