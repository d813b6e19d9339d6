import type { JobRef } from '../job/key.ts'
import type { JobStore } from '../store/JobStore.ts'
import { framesOf } from './frames.ts'
import type { BatchListener, JobLog } from './JobLog.ts'
import type { PublishedBatch } from './PublishedBatch.ts'

/** Where a reader's frames go. */
export interface FrameSink {
  /** Takes frames. `false` says that the reader's budget is used up: it gets nothing more until it calls `resume`. */
  write(frames: string | Buffer): boolean
  /** The log is over and all of it was written. */
  end(): void
  /** The log could not be read: what was written is not the whole, so this must not look like an end. */
  fail(error: Error): void
}

/** One page of the log at a time is in memory for a reader that is behind. */
const PAGE_BYTES = 256 * 1024

/**
 * A cursor on one job's log. It subscribes first, reads what is stored up to there, then follows; `sentSeq` alone says what
 * comes next, so nothing is left out or repeated. A reader that falls behind lets the live batches go by and reads from the
 * store at its own pace: the job does not wait for it, and nothing piles up in memory for it.
 */
export class JobReader implements BatchListener {
  readonly #ref: JobRef
  readonly #store: JobStore
  readonly #sink: FrameSink
  readonly #named: boolean
  /** Undefined once the job has ended before the reader came: then the store has all there is. */
  readonly #log: JobLog | undefined
  readonly #lastSeq: number
  #unsubscribe: (() => void) | undefined
  #sentSeq: number
  #isLive = false
  #isReading = false
  #hasRoom = true
  #isClosed = false

  constructor(options: {
    ref: JobRef
    store: JobStore
    sink: FrameSink
    named: boolean
    log: JobLog | undefined
    /** Of a job that has ended: the number of its terminal event. */
    lastSeq: number
    after: number
  }) {
    this.#ref = options.ref
    this.#store = options.store
    this.#sink = options.sink
    this.#named = options.named
    this.#log = options.log
    this.#lastSeq = options.lastSeq
    this.#sentSeq = options.after
  }

  /** The number of the last event that the sink was given. */
  get sentSeq(): number {
    return this.#sentSeq
  }

  start(): void {
    this.#unsubscribe = this.#log?.subscribe(this)
    this.#advance()
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
    this.#unsubscribe?.()
  }

  onBatch(batch: PublishedBatch): void {
    if (!this.#isLive) return
    if (!this.#hasRoom) {
      this.#isLive = false
      return
    }
    // Live means that everything before this batch was sent, so its frames are sent as a whole.
    this.#sentSeq = batch.lastSeq
    try {
      this.#hasRoom = this.#sink.write(batch.frames(this.#named))
    } catch (error) {
      // Whoever publishes has other readers, and a log to write: one sink that is broken must not reach it.
      this.#fail(error)
      return
    }
    if (batch.isFinal) this.#finish()
  }

  #advance(): void {
    if (this.#isLive || this.#isReading || this.#isClosed) return
    if (this.#isCaughtUp()) {
      if (this.#log === undefined || this.#log.hasEnded) this.#finish()
      else this.#isLive = true
      return
    }
    this.#isReading = true
    void this.#catchUp()
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
      const page = await this.#store.readEvents(this.#ref, this.#sentSeq, PAGE_BYTES)
      if (this.#isClosed) return
      if (page.firstKeptSeq > this.#sentSeq + 1) this.#sendGap(page.firstKeptSeq - 1)
      let frames = ''
      let lastSeq = this.#sentSeq
      for (const batch of page.batches) {
        frames += framesOf(this.#ref.id, batch, lastSeq, this.#named)
        lastSeq = Math.max(lastSeq, batch.lastSeq)
      }
      if (frames === '') {
        // It may have been deleted meanwhile. An end without the terminal event must not look like one.
        if (this.#sentSeq < this.#writtenSeq()) {
          throw new Error(`the log of ${this.#ref.id} has nothing after ${this.#sentSeq}, yet more was written`)
        }
        this.#finish()
        return
      }
      this.#sentSeq = lastSeq
      this.#hasRoom = this.#sink.write(frames)
    }
  }

  #sendGap(to: number): void {
    const from = this.#sentSeq + 1
    const event = this.#named ? 'event: gap\n' : ''
    const data = {
      type: 'gap',
      jobId: this.#ref.id,
      seq: to,
      at: new Date().toISOString(),
      from,
      to,
      reason: 'retention',
    }
    this.#sink.write(`id: ${to}\n${event}data: ${JSON.stringify(data)}\n\n`)
    this.#sentSeq = to
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
