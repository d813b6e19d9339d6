/**
 * Turns of the loop between two processes that are started. Starting one blocks the loop for milliseconds, and libuv takes one
 * new connection a turn: a burst of commands would leave clients waiting to be heard, those that come to cancel among them.
 */
const TURNS_BETWEEN = 8

/** Lets commands start one after the other, with room between them for everything else. On an idle loop that costs nothing. */
export class SpawnGate {
  readonly #waiting = new Set<() => void>()
  #turnsLeft = 0

  /** Settles when it is the caller's turn, or as soon as `leave` was called: ask then whether to go on. */
  pass(): { readonly passed: Promise<void>; readonly leave: () => void } {
    const { promise, resolve } = Promise.withResolvers<void>()
    if (this.#turnsLeft === 0) {
      this.#close()
      resolve()
    } else this.#waiting.add(resolve)
    return {
      passed: promise,
      leave: () => {
        this.#waiting.delete(resolve)
        resolve()
      },
    }
  }

  #close(): void {
    this.#turnsLeft = TURNS_BETWEEN
    setImmediate(() => this.#turn())
  }

  #turn(): void {
    this.#turnsLeft -= 1
    if (this.#turnsLeft > 0) {
      setImmediate(() => this.#turn())
      return
    }
    const [next] = this.#waiting
    if (next === undefined) return
    this.#waiting.delete(next)
    this.#close()
    next()
  }
}
