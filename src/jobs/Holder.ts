import { v7 as uuidv7 } from 'uuid'
import type { Cause } from '../job/cancellation.ts'

/** How a holder may be lost. */
export type LeaveCause = Extract<Cause, 'client_disconnected' | 'slow_consumer' | 'lease_missed'>

/**
 * One open stream or request that holds a job. It exists from the first byte of its request on, before there is a job to hold,
 * so that a client that leaves while its job is being created has left all the same.
 */
export class Holder {
  readonly id = `holder_${uuidv7().replaceAll('-', '')}`
  #left: LeaveCause | undefined
  #isReleased = false
  #isExpectedBack = false
  #onGone: ((cause: LeaveCause | undefined) => void) | undefined

  /** Why it left; undefined while it is there, and after `release`. */
  get left(): LeaveCause | undefined {
    return this.#left
  }

  get isReleased(): boolean {
    return this.#isReleased
  }

  /** The client is gone. Only the first call counts, and none after `release`. */
  leave(cause: LeaveCause): void {
    if (this.#left !== undefined || this.#isReleased) return
    this.#left = cause
    this.#onGone?.(cause)
  }

  /** Whether the server cut it off in the middle: it has not left, and will come back if its client still wants the job. */
  get isExpectedBack(): boolean {
    return this.#isExpectedBack
  }

  /** The server cannot go on with the stream, though the job goes on. */
  cutOff(): void {
    if (this.#left === undefined && !this.#isReleased) this.#isExpectedBack = true
    this.release()
  }

  /** The server itself ends the stream: that is never a disconnect. */
  release(): void {
    if (this.#isReleased) return
    this.#isReleased = true
    if (this.#left === undefined) this.#onGone?.(undefined)
    this.#onGone = undefined
  }

  /**
   * Binds it to its job. `onGone` is told why it left, or undefined where it was released. Where it has left already, `onGone`
   * is not called: ask `left`.
   */
  bind(onGone: (cause: LeaveCause | undefined) => void): void {
    if (this.#left === undefined && !this.#isReleased) this.#onGone = onGone
  }
}
