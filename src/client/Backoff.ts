const FIRST_MS = 100
const MAX_MS = 2000

/**
 * How long to wait before each further try: a random part of a ceiling that doubles from 100 ms to 2 s ("full jitter"), so that
 * clients which lost one server at one moment do not come back at one moment.
 */
export class Backoff {
  readonly #maxMs: number
  #ceilingMs: number

  /** `maxMs` is the highest ceiling. Default 2000. */
  constructor(maxMs = MAX_MS) {
    this.#maxMs = maxMs
    this.#ceilingMs = Math.min(FIRST_MS, maxMs)
  }

  nextMs(): number {
    const ceilingMs = this.#ceilingMs
    this.#ceilingMs = Math.min(2 * ceilingMs, this.#maxMs)
    return Math.random() * ceilingMs
  }

  /** The next wait is a short one again. */
  reset(): void {
    this.#ceilingMs = Math.min(FIRST_MS, this.#maxMs)
  }
}
