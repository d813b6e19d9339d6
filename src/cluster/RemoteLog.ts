import { lastTypeOf } from '../eventlog/frames.ts'
import { PublishedLog } from '../eventlog/PublishedLog.ts'
import { isTerminalEvent } from '../job/event.ts'
import type { JobRef } from '../job/key.ts'
import { type EventBatch, StoreError } from '../store/JobStore.ts'
import { RedisFailure } from './RedisFailure.ts'

/** Where a job stands. */
export interface Head {
  readonly lastSeq: number
  readonly isTerminal: boolean
}

export interface RemoteLogOptions {
  readonly ref: JobRef
  /** Of its record, before which readers find everything in the store. */
  readonly lastSeq: number
  /** Reads a page of the log. */
  readonly read: (after: number) => Promise<readonly EventBatch[]>
  /** Called once, when it has ended or is lost: nothing more will come. */
  readonly onOver: () => void
}

/** What comes while the log is read is kept up to this (UTF-16 units); what is more is read. */
const MAX_HELD_UNITS = 256 * 1024

/**
 * The log of a job that runs in another process, told message by message. A message may be missing, so one that does not follow
 * the last one waits until what is between was read from the store; all is published in order, and only what is logged.
 */
export class RemoteLog extends PublishedLog {
  readonly #options: RemoteLogOptions
  readonly #ended = Promise.withResolvers<void>()
  /** Messages that came while the log was read. */
  #held: EventBatch[] = []
  #heldUnits = 0
  /** The log is known to have come so far. */
  #knownSeq = 0
  #isReading = false
  #isClosed = false
  /** No message has come since this was last set. */
  isSilent = true

  constructor(options: RemoteLogOptions) {
    super(options.ref.id, options.lastSeq)
    this.#options = options
    // Who waits for it is told; there may be nobody.
    this.#ended.promise.catch(() => undefined)
  }

  /** Settles when the terminal event is published. Rejects where the log is lost. Only while somebody follows it. */
  untilEnded(): Promise<void> {
    return this.#ended.promise
  }

  /** Nobody follows any more. */
  close(): void {
    this.#isClosed = true
  }

  /** Takes what was written, as it is heard. */
  receive(batch: EventBatch): void {
    this.isSilent = false
    if (this.#isClosed || batch.lastSeq <= this.publishedSeq) return
    if (!this.#isReading && batch.firstSeq === this.publishedSeq + 1) {
      this.#show(batch)
      return
    }
    this.#hold(batch)
    this.#readUpTo(batch.lastSeq)
  }

  /** Takes where the job stood at some time after `seenSeq` was published; undefined: it is gone. */
  compare(head: Head | undefined, seenSeq: number): void {
    if (this.#isClosed || this.hasEnded) return
    const { id } = this.#options.ref
    if (head === undefined) {
      this.lose(new StoreError(`the job ${id} is no longer in Redis: it was deleted, or Redis lost its data`))
    } else if (head.lastSeq < seenSeq) {
      this.lose(new StoreError(`Redis lost the log of ${id} after ${head.lastSeq}, where ${seenSeq} was the last`))
    } else if (head.lastSeq > this.publishedSeq || head.isTerminal) {
      this.#readUpTo(head.lastSeq)
    }
  }

  override lose(error: Error): void {
    if (this.#isClosed || this.hasEnded) return
    this.#isClosed = true
    super.lose(error)
    this.#ended.reject(error)
    this.#options.onOver()
  }

  #hold(batch: EventBatch): void {
    if (this.#heldUnits + batch.lines.length > MAX_HELD_UNITS) return
    this.#held.push(batch)
    this.#heldUnits += batch.lines.length
  }

  #readUpTo(seq: number): void {
    this.#knownSeq = Math.max(this.#knownSeq, seq)
    if (!this.#isReading) void this.#read()
  }

  async #read(): Promise<void> {
    this.#isReading = true
    try {
      do {
        // From before the last event where that is the end and was published without anybody knowing.
        const after = Math.min(this.publishedSeq, this.#knownSeq - 1)
        const batches = await this.#options.read(after)
        if (this.#isClosed) return
        if (batches.length === 0) throw new StoreError(`the log of ${this.#options.ref.id} has nothing after ${after}`)
        for (const batch of batches) this.#show(batch)
        this.#showHeld()
      } while (this.publishedSeq < this.#knownSeq)
    } catch (error) {
      if (!(error instanceof StoreError)) throw error
      // While Redis is away readers wait: the next message, or look at where the job stands, makes it read again.
      if (!(error instanceof RedisFailure)) this.lose(error)
    } finally {
      this.#isReading = false
      this.#knownSeq = 0
      this.#held = []
      this.#heldUnits = 0
    }
  }

  #showHeld(): void {
    const held = this.#held
    this.#held = []
    this.#heldUnits = 0
    for (const batch of held) {
      if (batch.firstSeq === this.publishedSeq + 1) this.#show(batch)
      else if (batch.lastSeq > this.publishedSeq) this.#hold(batch)
    }
  }

  #show(batch: EventBatch): void {
    const isFinal = isTerminalEvent(lastTypeOf(batch))
    this.publish(batch, isFinal)
    if (!isFinal || this.#isClosed) return
    this.#isClosed = true
    this.#ended.resolve()
    this.#options.onOver()
  }
}
