import type { Readable } from 'node:stream'
import type { JobEvent } from '../job/event.ts'
import { StreamCut } from './error.ts'
import { SseParser } from './SseParser.ts'
import { outcomeOfEvent } from './terminal.ts'

/**
 * The events of one job as they come, ending after its terminal event. To be iterated once.
 *
 * It throws `StreamCut` where the connection ends before the terminal event, and the reason of the signal it was opened with
 * where that fires. Leaving the loop early, by whatever way, closes the socket: the server sees its reader gone.
 * An event of a type that this client does not know is passed on like the others: a switch over types needs a default.
 */
export class JobStream implements AsyncIterable<JobEvent>, Disposable {
  readonly jobId: string
  /** What a lease of this holder is renewed with; undefined for an observer. */
  readonly holder: string | undefined
  readonly #body: Readable | undefined
  readonly #signal: AbortSignal | undefined
  #lastSeq: number
  #closed = false

  /** Without a `body` there is nothing to come: the reader has all of a job that ended (the server's 204). */
  constructor(options: {
    jobId: string
    holder: string | undefined
    body: Readable | undefined
    after: number
    signal: AbortSignal | undefined
  }) {
    this.jobId = options.jobId
    this.holder = options.holder
    this.#body = options.body
    this.#lastSeq = options.after
    this.#signal = options.signal
  }

  /** The `seq` of the last event that was read: what to attach after. */
  get lastSeq(): number {
    return this.#lastSeq
  }

  /** Closes the socket; a loop over the stream then ends without an error. Harmless when it has ended. */
  close(): void {
    this.#closed = true
    // Without a loop that listens, undici's abort would come up as an uncaught error.
    this.#body?.on('error', ignoreOwnAbort).destroy()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<JobEvent, void, undefined> {
    if (this.#body === undefined) return
    const parser = new SseParser()
    try {
      for await (const chunk of this.#body) {
        for (const frame of parser.push(chunk)) {
          const event = parseJobEvent(frame.data)
          this.#lastSeq = event.seq
          yield event
          if (outcomeOfEvent(event.type) !== undefined) return
        }
      }
    } catch (error) {
      if (this.#closed) return
      throw this.#signal?.aborted === true ? this.#signal.reason : this.#cut(error)
    } finally {
      this.#body.destroy()
    }
    if (!this.#closed) throw this.#cut()
  }

  #cut(cause?: unknown): StreamCut {
    return new StreamCut(this.jobId, this.#lastSeq, cause)
  }
}

function ignoreOwnAbort(): void {}

/** @throws {TypeError} where the text is not the JSON of an event: then what answers does not speak this protocol. */
function parseJobEvent(text: string): JobEvent {
  const value: unknown = JSON.parse(text)
  if (typeof value !== 'object' || value === null || !('type' in value) || typeof value.type !== 'string') {
    throw new TypeError(`an event must be a JSON object with a type, got ${text.slice(0, 80)}`)
  }
  if (!('seq' in value) || !Number.isSafeInteger(value.seq)) {
    throw new TypeError(`an event must have a whole number as seq, got ${text.slice(0, 80)}`)
  }
  // The fields of each type are the server's promise (protocol, section 4) and not looked at one by one.
  return value as JobEvent
}
