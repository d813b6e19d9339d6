import { messageOf } from '../../job/messageOf.ts'
import type { Glimpse } from './MainThreadPause.ts'
import { type BlockFields, placeFields } from './report.ts'

/** How long a place is waited for before the block is told without. Loops are paused in 20 to 50 ms, on a busy machine in 500. */
const PLACE_PATIENCE_MS = 1000

export interface BlockOptions {
  /** How long the loop had not turned when that was noticed. */
  readonly ms: number
  readonly jobIds: readonly string[]
  readonly running: number
  /** Asks for a glimpse of the main thread in this block, once. Returns its undo. @throws {Error} saying why there can be none. */
  readonly look: (onGlimpse: (glimpse: Glimpse) => void) => () => void
  readonly tell: (fields: BlockFields) => void
}

/**
 * One time that the event loop does not turn, from when it was noticed to its end. It is told as soon as its place is seen; where
 * none comes in time, without one, and once more if it is seen later and the block still goes on.
 */
export class Block {
  readonly #options: BlockOptions
  #stopLooking: (() => void) | undefined
  #place: Partial<BlockFields> = { noPlace: 'it is in native code, which cannot be paused' }
  #askedAtMs = 0
  #isTold = false
  #toldMs = 0
  #hasNews = true

  constructor(options: BlockOptions) {
    this.#options = options
  }

  /** Asks where the main thread is. */
  open(): void {
    this.#askedAtMs = performance.now()
    try {
      this.#stopLooking = this.#options.look((glimpse) => this.#see(glimpse))
    } catch (error) {
      this.#place = { noPlace: messageOf(error) }
      this.#tell(this.#options.ms)
    }
  }

  /** It lasts for `ms` now. */
  goOn(ms: number): void {
    if (!this.#hasNews) return
    if (this.#isTold || performance.now() - this.#askedAtMs >= PLACE_PATIENCE_MS) this.#tell(ms)
  }

  /** It is over. Returns what is to be said of the whole. */
  end(ms: number): BlockFields {
    this.#stopLooking?.()
    // Looks are apart, so the last of them may have been before what was told.
    return this.#fields(Math.max(ms, this.#toldMs))
  }

  #see(glimpse: Glimpse): void {
    this.#place = { ...placeFields(glimpse), ...(this.#isTold ? { isApproximate: true } : {}) }
    this.#hasNews = true
    // One that comes late mostly comes as the block ends: whether it goes on is known at the next look.
    if (!this.#isTold) this.#tell(this.#options.ms + performance.now() - this.#askedAtMs)
  }

  #tell(ms: number): void {
    this.#hasNews = false
    this.#isTold = true
    this.#toldMs = ms
    this.#options.tell(this.#fields(ms))
  }

  #fields(ms: number): BlockFields {
    const { jobIds, running } = this.#options
    return {
      ms: Math.round(ms),
      jobIds,
      ...(running > jobIds.length ? { running } : {}),
      ...this.#place,
    }
  }
}
