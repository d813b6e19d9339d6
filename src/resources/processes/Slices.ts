/** So many are looked at whatever the budget: a process that got no time from the system has not looked at anybody yet. */
const MIN_LOOKS = 200
/** Longer than this in one piece would be felt by everything else that the event loop serves (milliseconds). */
const SLICE_MS = 2

/** Cuts a long look at many processes into pieces between which the event loop turns, within a budget for the whole. */
export class Slices {
  readonly #endsMs: number
  #sliceEndsMs: number
  #looks = 0

  constructor(budgetMs: number) {
    const nowMs = performance.now()
    this.#endsMs = nowMs + budgetMs
    this.#sliceEndsMs = nowMs + SLICE_MS
  }

  /** Called before each look: whether there is time for it, at once or in the next turn of the loop. */
  next(): boolean | Promise<boolean> {
    this.#looks += 1
    const nowMs = performance.now()
    if (nowMs >= this.#endsMs && this.#looks > MIN_LOOKS) return false
    if (nowMs < this.#sliceEndsMs) return true
    return new Promise((resolve) => {
      setImmediate(() => {
        this.#sliceEndsMs = performance.now() + SLICE_MS
        resolve(true)
      })
    })
  }
}
