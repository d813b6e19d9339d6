import type { Clock } from '../clock.ts'

/** All who ask within this get one answer: anybody may ask, as often as they like. */
const SHARED_MS = 1000

/** Something that takes its time, asked at most once a second for whoever asks, and never again before it has answered. */
export class SharedAnswer<T> {
  readonly #clock: Clock
  readonly #ask: () => Promise<T>
  #last: { readonly beganMs: number; readonly answer: Promise<T>; isOver: boolean } | undefined

  constructor(clock: Clock, ask: () => Promise<T>) {
    this.#clock = clock
    this.#ask = ask
  }

  get(): Promise<T> {
    const nowMs = this.#clock.monotonicMs()
    const last = this.#last
    if (last !== undefined && (!last.isOver || nowMs - last.beganMs < SHARED_MS)) return last.answer
    const asked = { beganMs: nowMs, answer: this.#ask(), isOver: false }
    const end = (): void => {
      asked.isOver = true
    }
    asked.answer.then(end, end)
    this.#last = asked
    return asked.answer
  }
}
