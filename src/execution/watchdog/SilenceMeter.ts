/** What one look at the beats says. `ms` is how long there has been none, or was none. */
export type Look =
  | { readonly kind: 'turning' }
  | { readonly kind: 'blocked'; readonly ms: number }
  | { readonly kind: 'over'; readonly ms: number }

/**
 * Measures for how long there were no beats. Time in which the watching thread did not run either does not count: then the
 * whole process was suspended (SIGSTOP, a machine asleep) or had no processor, and the loop is not to blame.
 */
export class SilenceMeter {
  readonly #blockedMs: number
  readonly #lateMs: number
  #beats = -1
  #silentMs = 0
  #isBlocked = false

  /** Silence of `blockedMs` is a block. A look that comes `lateMs` or more after the one before is one that was suspended. */
  constructor(options: { readonly blockedMs: number; readonly lateMs: number }) {
    this.#blockedMs = options.blockedMs
    this.#lateMs = options.lateMs
  }

  /** `elapsedMs`: since the look before, by the watching thread's clock. */
  look(beats: number, elapsedMs: number): Look {
    if (beats !== this.#beats) return this.#hear(beats)
    if (elapsedMs < this.#lateMs) this.#silentMs += elapsedMs
    // What was silent before may have been the suspension's beginning. A block that is known already stays one.
    else if (!this.#isBlocked) this.#silentMs = 0
    this.#isBlocked ||= this.#silentMs >= this.#blockedMs
    return this.#isBlocked ? { kind: 'blocked', ms: this.#silentMs } : { kind: 'turning' }
  }

  #hear(beats: number): Look {
    const look: Look = this.#isBlocked ? { kind: 'over', ms: this.#silentMs } : { kind: 'turning' }
    this.#beats = beats
    this.#silentMs = 0
    this.#isBlocked = false
    return look
  }
}
