import { Backoff } from './Backoff.ts'
import { pause } from './pause.ts'
import { type Attempt, persist } from './tryAgain.ts'

/** Two renewals may be lost on the way before the lease runs out. */
const RENEWALS_A_LEASE = 3

/**
 * Renews a lease three times in its length, and where a renewal does not come through sends it again. Never resolves: it rejects
 * with the reason of `signal`, or with the server's refusal, which says that there is no such holder any more.
 */
export async function keepLease(options: {
  readonly leaseMs: number
  readonly renew: Attempt<void>
  readonly signal: AbortSignal
}): Promise<never> {
  const { leaseMs, renew, signal } = options
  const everyMs = leaseMs / RENEWALS_A_LEASE
  let dueMs = performance.now() + everyMs
  for (;;) {
    await pause(Math.max(0, dueMs - performance.now()), signal)
    await persist(renew, { signal, tryMs: everyMs, backoff: new Backoff(everyMs) })
    // What was due while a renewal took long is not made up for.
    dueMs = Math.max(dueMs + everyMs, performance.now())
  }
}
