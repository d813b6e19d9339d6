import { type Clock, systemClock } from '../src/clock.ts'

interface Timer {
  readonly dueMs: number
  readonly run: () => void
  cancel: () => void
}

/** The system's clock, which a test sets forward: timers that are due then fire, the rest come as much earlier. */
export class JumpingClock implements Clock {
  readonly #timers = new Set<Timer>()
  #aheadMs = 0

  now(): number {
    return systemClock.now() + this.#aheadMs
  }

  monotonicMs(): number {
    return systemClock.monotonicMs() + this.#aheadMs
  }

  schedule(delayMs: number, run: () => void): () => void {
    // What is to happen in the next turn happens there.
    if (delayMs === 0) return systemClock.schedule(0, run)
    const timer: Timer = { dueMs: this.monotonicMs() + delayMs, run, cancel: () => undefined }
    this.#timers.add(timer)
    this.#arm(timer)
    return () => {
      this.#timers.delete(timer)
      timer.cancel()
    }
  }

  jump(ms: number): void {
    this.#aheadMs += ms
    for (const timer of this.#timers) {
      timer.cancel()
      this.#arm(timer)
    }
  }

  #arm(timer: Timer): void {
    const remainingMs = Math.max(0, Math.ceil(timer.dueMs - this.monotonicMs()))
    timer.cancel = systemClock.schedule(remainingMs, () => {
      this.#timers.delete(timer)
      timer.run()
    })
  }
}
