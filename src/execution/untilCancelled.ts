import type { JobScope } from '../cancellation/JobScope.ts'

/**
 * Settles as `working` does, or rejects with the job's `JobStopped` as soon as the job is cancelled, unless this code is shielded.
 * `working` then goes on, seen by nobody: where its end matters, the scope must hold it.
 */
export async function untilCancelled<T>(scope: JobScope, working: Promise<T>): Promise<T> {
  const cancelled = Promise.withResolvers<never>()
  const isShielded = scope.isShielded
  const unlisten = scope.onRequest((kind) => {
    if (kind !== 'cancel' || isShielded) return
    try {
      scope.checkpoint()
    } catch (error) {
      cancelled.reject(error)
    }
  })
  try {
    return await Promise.race([working, cancelled.promise])
  } finally {
    unlisten()
  }
}
