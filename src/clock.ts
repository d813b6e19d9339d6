/** Time as everything here takes it in, so that a test can put its own in its place. */
export interface Clock {
  /** Wall time, milliseconds since the epoch: what is shown and stored. */
  now(): number
  /** Monotonic milliseconds: what durations are taken from. */
  monotonicMs(): number
  /** Calls `run` once after `delayMs` (0 to 2147483647; 0: in the next turn). Returns its undo. It keeps the process alive. */
  schedule(delayMs: number, run: () => void): () => void
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  schedule(delayMs, run) {
    // A timer of 0 ms waits for 1.
    if (delayMs === 0) {
      const immediate = setImmediate(run)
      return () => clearImmediate(immediate)
    }
    const timer = setTimeout(run, delayMs)
    return () => clearTimeout(timer)
  },
}
