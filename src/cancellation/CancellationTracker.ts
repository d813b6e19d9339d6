import type { JobKey } from '../job/key.ts'

/** Requests to end jobs that nothing runs yet. `PendingCancellations` is the one that the server uses. */
export interface CancellationTracker {
  markForCancellation(id: JobKey, reason?: string): void
  isCancelled(id: JobKey): boolean
  /** The reason of the request that stands for `id`; undefined where there is none. */
  getCancellationReason(id: JobKey): string | undefined
  clearCancellation(id: JobKey): void
}
