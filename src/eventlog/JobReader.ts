import type { JobRef } from '../job/key.ts'
import type { BatchListener, FollowedLog } from './FollowedLog.ts'
import { framesOf, gapFrame } from './frames.ts'
import type { LogPages } from './LogPages.ts'
import type { PublishedBatch } from './PublishedBatch.ts'

/** Where a reader's frames go. */
export interface FrameSink {
  /** Takes frames. `false` says that the reader's budget is used up: it gets nothing more until it calls `resume`. */
  write(frames: string | Buffer): boolean
  /** Takes a page of the log. `false` until all of it has gone out: who is behind has one page in memory, not a budget full. */
  writePage(frames: Buffer): boolean
  /** How long a page may be now. */
  readonly pageBytes: number
  /** The log is over and all of it was written. */
  end(): void
  /** The log could not be read: what was written is not the whole, so this must not look like an end. */
  fail(error: Error): void
}

/**
 * A cursor on one job's log. It subscribes first, reads what is stored up to there, then follows; `sentSeq` alone says what
 * comes next, so nothing is left out or repeated. A reader that falls behind lets the live batches go by and reads from the
 * store at its own pace: the job does not wait for it, and nothing piles up in memory for it.
 */
export class JobReader implements BatchListener {
  readonly #ref: JobRef
  readonly #pages: LogPages
  readonly #sink: FrameSink
  readonly #named: boolean
  /** Undefined once the job has ended before the reader came: then the store has all there is. */
  readonly #log: FollowedLog | undefined
  readonly #lastSeq: number
  /** The log lost its tail: what the reader saw of it is void, and its numbers will be given again. */
  readonly #isPastEnd: boolean
  #unsubscribe: (() => void) | undefined
  #sentSeq: number
  #sentCount = 0
  /** Defined while what is published goes straight to the sink. */
  #leaveLive: (() => void) | undefined
  readonly #onClosed: (() => void) | undefined
  #isReading = false
  #hasRoom = true
  #isClosed = false

  constructor(options: {
    ref: JobRef
    pages: LogPages
    sink: FrameSink
    named: boolean
    log: FollowedLog | undefined
    /** The number of the last event that is in the log now. */
    lastSeq: number
    /** The reader has what comes up to here. */
    after: number
    readonly onClosed?: () => void
  }) {
    this.#ref = options.ref
    this.#pages = options.pages
    this.#sink = options.sink
    this.#named = options.named
    this.#log = options.log
    this.#lastSeq = options.lastSeq
    this.#sentSeq = Math.min(options.after, options.lastSeq)
    this.#isPastEnd = options.after > options.lastSeq
    this.#onClosed = options.onClosed
  }

  /** The number of the last event that the sink was given. */
  get sentSeq(): number {
    return this.#sentSeq
  }

  /** How many events of the log the sink was given; what is told of a gap is none. */
  get sentCount(): number {
    return this.#sentCount
  }

  start(): void {
    this.#unsubscribe = this.#log?.subscribe(this)
    if (this.#isPastEnd) this.#sendLostTail()
    this.#advance()
  }

  #sendLostTail(): void {
    const [from, to] = [this.#sentSeq, this.#sentSeq]
    this.#sink.write(gapFrame(this.#ref.id, { from, to, reason: 'log_lost' }, this.#named))
    // What took the place of a lost event may be the end, which every reader gets.
    if (this.#log === undefined) this.#sentSeq -= 1
  }

  /** The sink has room again. */
  resume(): void {
    if (this.#hasRoom) return
    this.#hasRoom = true
    this.#advance()
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#endLive()
    this.#unsubscribe?.()
    this.#onClosed?.()
  }

  onBatch(batch: PublishedBatch): void {
    if (this.#leaveLive === undefined) return
    try {
      this.#take(batch)
    } catch (error) {
      // Whoever publishes has other readers, and a log to write: one sink that is broken must not reach it.
      this.#fail(error)
    }
    if (batch.isFinal && this.#sentSeq >= batch.lastSeq) this.#finish()
  }

  #take(batch: PublishedBatch): void {
    // A log that another process writes may be told of later than this reader found it in the store.
    if (batch.lastSeq <= this.#sentSeq) return
    if (!this.#hasRoom) {
      this.#endLive()
    } else if (batch.firstSeq === this.#sentSeq + 1) {
      this.#sentSeq = batch.lastSeq
      this.#sentCount += batch.lastSeq - batch.firstSeq + 1
      this.#hasRoom = this.#sink.write(batch.frames(this.#named))
    } else {
      this.#endLive()
      this.#advance()
    }
  }

  #advance(): void {
    if (this.#leaveLive !== undefined || this.#isReading || this.#isClosed) return
    if (!this.#isCaughtUp() && !this.#sendRecent()) {
      this.#isReading = true
      void this.#catchUp()
      return
    }
    if (this.#hasRoom) this.#goLive()
  }

  /** Sends what is missing from memory. `false` where the store alone has it. */
  #sendRecent(): boolean {
    const batches = this.#log?.recentAfter(this.#sentSeq)
    if (batches === undefined) return false
    const frames = batches.map((batch) => framesOf(this.#ref.id, batch, this.#sentSeq, this.#named)).join('')
    const lastSeq = batches.at(-1)?.lastSeq ?? this.#sentSeq
    this.#sentCount += lastSeq - this.#sentSeq
    this.#sentSeq = lastSeq
    this.#hasRoom = this.#sink.write(frames)
    return true
  }

  #goLive(): void {
    const log = this.#log
    if (log === undefined || log.hasEnded) this.#finish()
    else if (log.lost !== undefined) this.#fail(log.lost)
    else this.#leaveLive = this.#pages.joinLive()
  }

  #endLive(): void {
    this.#leaveLive?.()
    this.#leaveLive = undefined
  }

  async #catchUp(): Promise<void> {
    try {
      await this.#readPages()
    } catch (error) {
      this.#fail(error)
    } finally {
      this.#isReading = false
    }
    if (this.#hasRoom) this.#advance()
  }

  /** Whether the store has nothing for this reader now. An ended log is read until a page comes back empty. */
  #isCaughtUp(): boolean {
    return this.#log !== undefined && this.#sentSeq >= this.#log.publishedSeq
  }

  #writtenSeq(): number {
    return this.#log === undefined ? this.#lastSeq : this.#log.publishedSeq
  }

  async #readPages(): Promise<void> {
    while (this.#hasRoom && !this.#isClosed && !this.#isCaughtUp()) {
      const after = this.#sentSeq
      const page = await this.#pages.read({
        ref: this.#ref,
        after,
        named: this.#named,
        maxBytes: this.#sink.pageBytes,
      })
      if (this.#isClosed) return
      if (page.lastSeq === after) {
        // It may have been deleted meanwhile. An end without the terminal event must not look like one.
        if (after < this.#writtenSeq()) {
          throw new Error(`the log of ${this.#ref.id} has nothing after ${after}, yet more was written`)
        }
        this.#finish()
        return
      }
      this.#sentSeq = page.lastSeq
      this.#sentCount += page.events
      this.#hasRoom = this.#sink.writePage(page.frames)
    }
  }

  onLost(error: Error): void {
    this.#fail(error)
  }

  #fail(error: unknown): void {
    if (this.#isClosed) return
    this.close()
    this.#sink.fail(error instanceof Error ? error : new Error(String(error)))
  }

  #finish(): void {
    if (this.#isClosed) return
    this.close()
    this.#sink.end()
  }
}
