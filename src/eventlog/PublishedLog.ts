import type { EventBatch } from '../store/JobStore.ts'
import type { BatchListener, FollowedLog } from './FollowedLog.ts'
import { PublishedBatch } from './PublishedBatch.ts'

/** The newest events stay in memory up to this (UTF-16 units, batches): who comes back after a moment needs no store. */
const RECENT_UNITS = 16 * 1024
const RECENT_BATCHES = 8

/** What is published here, in the order of the log, by whoever extends it. */
export abstract class PublishedLog implements FollowedLog {
  readonly #jobId: string
  readonly #listeners = new Set<BatchListener>()
  /** The newest batches, oldest first, without a hole. */
  #recent: EventBatch[] = []
  #recentUnits = 0
  #publishedSeq: number
  #hasEnded = false
  #lost: Error | undefined

  constructor(jobId: string, publishedSeq: number) {
    this.#jobId = jobId
    this.#publishedSeq = publishedSeq
  }

  get publishedSeq(): number {
    return this.#publishedSeq
  }

  get hasEnded(): boolean {
    return this.#hasEnded
  }

  get lost(): Error | undefined {
    return this.#lost
  }

  recentAfter(seq: number): readonly EventBatch[] | undefined {
    const [oldest] = this.#recent
    if (oldest === undefined || oldest.firstSeq > seq + 1) return undefined
    return this.#recent.filter(({ lastSeq }) => lastSeq > seq)
  }

  subscribe(listener: BatchListener): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
    }
  }

  /** Tells whoever follows, or comes to, that the rest cannot be shown: not now, or not from this process. */
  lose(error: Error): void {
    this.#lost = error
    for (const listener of this.#listeners) listener.onLost(error)
  }

  /** Shows what is in the store now. `isFinal`: it ends with the terminal event. */
  protected publish(batch: EventBatch, isFinal: boolean): void {
    this.#keepRecent(batch)
    this.#publishedSeq = batch.lastSeq
    this.#lost = undefined
    if (isFinal) this.#hasEnded = true
    if (this.#listeners.size === 0) return
    const published = new PublishedBatch(this.#jobId, batch, { isFinal, readers: this.#listeners.size })
    for (const listener of this.#listeners) listener.onBatch(published)
  }

  #keepRecent(batch: EventBatch): void {
    if (batch.firstSeq !== this.#publishedSeq + 1) {
      this.#recent = []
      this.#recentUnits = 0
    }
    this.#recent.push(batch)
    this.#recentUnits += batch.lines.length
    while (this.#recentUnits > RECENT_UNITS || this.#recent.length > RECENT_BATCHES) {
      this.#recentUnits -= this.#recent.shift()?.lines.length ?? 0
    }
  }
}
