import type { EventBatch } from '../store/JobStore.ts'
import { framesOf } from './frames.ts'

/** Events that are in the log now, encoded at most once for all the readers of one form. */
export class PublishedBatch {
  readonly firstSeq: number
  readonly lastSeq: number
  readonly isFinal: boolean
  /** Whether it is of changes of the job's status: a batch is of those or of outputs, never of both. */
  readonly isOfStatus: boolean
  readonly #jobId: string
  readonly #batch: EventBatch
  readonly #hasManyReaders: boolean
  #named: string | Buffer | undefined
  #unnamed: string | Buffer | undefined

  constructor(jobId: string, batch: EventBatch, options: { isFinal: boolean; readers: number }) {
    this.firstSeq = batch.firstSeq
    this.lastSeq = batch.lastSeq
    this.isFinal = options.isFinal
    this.isOfStatus = batch.lines.startsWith('{"type":"job.')
    this.#jobId = jobId
    this.#batch = batch
    this.#hasManyReaders = options.readers > 1
  }

  /** A lone reader gets the text, which saves a copy; several share one buffer, which saves encoding it for each. */
  frames(named: boolean): string | Buffer {
    if (named) return (this.#named ??= this.#encode(true))
    return (this.#unnamed ??= this.#encode(false))
  }

  #encode(named: boolean): string | Buffer {
    const text = framesOf(this.#jobId, this.#batch, this.firstSeq - 1, named)
    return this.#hasManyReaders ? Buffer.from(text) : text
  }
}
