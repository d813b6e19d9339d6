import type { Clock } from '../clock.ts'

/** All who ask within this get one answer: anybody may ask, as often as they like. */
const SHARED_MS = 1000

/** Something that takes its time, asked at most once a second for whoever asks. */
export class SharedAnswer<T> {
  readonly #clock: Clock
  readonly #ask: () => Promise<T>
  #last: { readonly beganMs: number; readonly answer: Promise<T> } | undefined

  constructor(clock: Clock, ask: () => Promise<T>) {
    this.#clock = clock
    this.#ask = ask
  }

  get(): Promise<T> {
    const nowMs = this.#clock.monotonicMs()
    if (this.#last === undefined || nowMs - this.#last.beganMs >= SHARED_MS) {
      this.#last = { beganMs: nowMs, answer: this.#ask() }
    }
    return this.#last.answer
  }
}
