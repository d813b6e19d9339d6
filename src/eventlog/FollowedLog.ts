import type { EventBatch } from '../store/JobStore.ts'
import type { PublishedBatch } from './PublishedBatch.ts'

/** Whoever follows a live log. Called synchronously, in order, with what is in the log. */
export interface BatchListener {
  /** Where it does not begin right after the one before, what is between is in the store alone, or was taken by the log's limit. */
  onBatch(batch: PublishedBatch): void
  /** What follows cannot be shown: the store does not take it, or has lost it, or this process ends before it is written. */
  onLost(error: Error): void
}

/** The log of a job that has not ended, as readers need it. */
export interface FollowedLog {
  /** The number of the last event that was shown to readers, and is in the store. */
  readonly publishedSeq: number
  /** Whether the terminal event is in the store and was shown. */
  readonly hasEnded: boolean
  /** Why readers are not shown what follows. Undefined again once they are. */
  readonly lost: Error | undefined
  /** What was published after `seq`, the first batch perhaps from before it; undefined where that is in the store alone. */
  recentAfter(seq: number): readonly EventBatch[] | undefined
  /** Follows the log from the next batch on. Returns its undo. */
  subscribe(listener: BatchListener): () => void
}
