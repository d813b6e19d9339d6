import { setTimeout as sleep } from 'node:timers/promises'

/** How long the servers may need, once all clients are gone, to be as they were before. */
export const CALM_DEADLINE_MS = 30_000
export const LOOK_AGAIN_MS = 50

/** Settles when it holds, or at the deadline: what did not come about is found by who looks next. */
export async function within(deadlineMs: number, holds: () => Promise<boolean>): Promise<void> {
  const endsMs = performance.now() + deadlineMs
  while (!(await holds()) && performance.now() < endsMs) await sleep(LOOK_AGAIN_MS)
}
