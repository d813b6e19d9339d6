import type { Clock } from './clock.ts'

/** Settles as `promise` does, or rejects with the signal's reason where that fires first. */
export async function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise
  signal.throwIfAborted()
  const aborted = Promise.withResolvers<never>()
  const onAbort = (): void => aborted.reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([promise, aborted.promise])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/**
 * Resolves with `true` when `promise` does, and with `false` when `atMostMs` have passed or `signal` fires, whichever comes first.
 * Rejects as `promise` does; where it does so later, nobody is told.
 */
export async function waitAtMost(
  promise: Promise<unknown>,
  atMostMs: number,
  clock: Clock,
  signal?: AbortSignal,
): Promise<boolean> {
  const over = Promise.withResolvers<false>()
  const cancelTimer = clock.schedule(atMostMs, () => over.resolve(false))
  const onAbort = (): void => over.resolve(false)
  signal?.addEventListener('abort', onAbort, { once: true })
  if (signal?.aborted === true) over.resolve(false)
  try {
    return await Promise.race([promise.then(() => true), over.promise])
  } finally {
    cancelTimer()
    signal?.removeEventListener('abort', onAbort)
  }
}
