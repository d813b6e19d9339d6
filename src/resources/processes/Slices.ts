/** Longer than this in one piece would be felt by everything else that the event loop serves (milliseconds). */
const SLICE_MS = 2

/** Cuts a long look at many processes into pieces between which the event loop turns, within a budget for the whole. */
export class Slices {
  readonly #endsMs: number
  #sliceEndsMs: number

  constructor(budgetMs: number) {
    const nowMs = performance.now()
    this.#endsMs = nowMs + budgetMs
    this.#sliceEndsMs = nowMs + SLICE_MS
  }

  get isSpent(): boolean {
    return performance.now() >= this.#endsMs
  }

  /** Undefined while there is time in this piece (so that a short look takes no turn), else the next turn of the loop. */
  breathe(): Promise<void> | undefined {
    if (performance.now() < this.#sliceEndsMs) return undefined
    return new Promise((resolve) => {
      setImmediate(() => {
        this.#sliceEndsMs = performance.now() + SLICE_MS
        resolve()
      })
    })
  }
}
