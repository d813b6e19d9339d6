import type { Clock } from '../../src/clock.ts'

/** Time that passes only where a test says so. */
export class ManualClock implements Clock {
  #nowMs = 1_700_000_000_000
  #timers = new Set<{ readonly atMs: number; readonly order: number; readonly run: () => void }>()
  #scheduled = 0

  now(): number {
    return this.#nowMs
  }

  monotonicMs(): number {
    return this.#nowMs
  }

  /** How many timers have not fired and were not taken back. */
  get timers(): number {
    return this.#timers.size
  }

  schedule(delayMs: number, run: () => void): () => void {
    this.#scheduled += 1
    const timer = { atMs: this.#nowMs + delayMs, order: this.#scheduled, run }
    this.#timers.add(timer)
    return () => {
      this.#timers.delete(timer)
    }
  }

  /** Lets `ms` pass: what falls due runs in its order, each at its own time. */
  advance(ms: number): void {
    const endsMs = this.#nowMs + ms
    for (let next = this.#next(endsMs); next !== undefined; next = this.#next(endsMs)) {
      this.#timers.delete(next)
      this.#nowMs = next.atMs
      next.run()
    }
    this.#nowMs = endsMs
  }

  #next(untilMs: number) {
    return [...this.#timers]
      .filter(({ atMs }) => atMs <= untilMs)
      .toSorted((a, b) => a.atMs - b.atMs || a.order - b.order)[0]
  }
}
