/** Of a call's time, so much (half of it at the most) is kept for looking at what came of it. */
const RESERVE_MS = 10_000

/** Nothing is worth trying for less. */
export const MIN_MS = 1500

/** How much time a call has left. It may take a little longer than its limit, where it is at its end and has to tell why. */
export class CallTime {
  /** Of `performance.now()`. */
  readonly startMs = performance.now()
  readonly #endsMs: number
  readonly #reserveMs: number

  constructor(limitMs: number) {
    this.#endsMs = this.startMs + limitMs
    this.#reserveMs = Math.min(RESERVE_MS, limitMs / 2)
  }

  /** For a call whose whole limit is for its work. */
  static ofWork(workMs: number): CallTime {
    return new CallTime(workMs + Math.min(RESERVE_MS, workMs))
  }

  get leftMs(): number {
    return Math.max(MIN_MS, this.#endsMs - performance.now())
  }

  /** What is left for the work itself. */
  get workMs(): number {
    return Math.max(Math.min(MIN_MS, this.#reserveMs), this.#endsMs - this.#reserveMs - performance.now())
  }
}
