import type { JobEvent } from '../job/event.ts'
import type { JobPolicy } from '../job/policy.ts'
import type { JobView } from '../job/view.ts'
import { decodeEvents } from './decodeEvents.ts'
import { StreamCut, TetherApiError } from './error.ts'
import { keepLease } from './keepLease.ts'
import type { Reconnect } from './Reconnect.ts'
import { SseParser } from './SseParser.ts'
import { type StreamAnswer, StreamConnection } from './StreamConnection.ts'
import { outcomeOfEvent } from './terminal.ts'
import { persist, TRY_MS } from './tryAgain.ts'

/** What a stream asks of its server after its first answer. */
export interface StreamServer {
  /** Attaches again, as a holder where the stream is to be one. */
  attach(after: number, signal: AbortSignal): Promise<StreamAnswer>
  renewLease(holder: string, signal: AbortSignal): Promise<void>
  job(signal: AbortSignal): Promise<JobView>
}

/** What of a job's policy concerns those who hold it. */
export type HoldTerms = Pick<JobPolicy, 'disconnectGraceMs' | 'leaseMs'>

export interface JobStreamOptions {
  readonly server: StreamServer
  readonly after: number
  readonly signal: AbortSignal | undefined
  /** Undefined: a connection that breaks is the end of the stream. */
  readonly reconnect: Reconnect | undefined
  /** Undefined where they are not known yet. */
  readonly terms: HoldTerms | undefined
}

/**
 * The events of one job as they come, ending after its terminal event. To be iterated once.
 *
 * Where its connection breaks it attaches again after the last event that came, as a holder where it was one, and goes on: every
 * event comes once and in order, also while the reader is busy with an earlier one. A `gap` is passed on like any event; its
 * `seq` is where the log goes on, which is lower than what was read where the reason is `log_lost`. A holder's lease is renewed
 * as long as the stream is open.
 *
 * The loop throws `StreamCut` where there is no way back (`ReconnectOptions` says how long one is looked for), `TetherApiError`
 * where the server refuses it, and the reason of the signal that the stream was opened with where that fires. Leaving the loop
 * early, by whatever way, closes the socket: the server sees its reader gone. An event of a type that this client does not know
 * is passed on like the others: a switch over types needs a default.
 */
export class JobStream implements AsyncIterable<JobEvent>, Disposable {
  readonly jobId: string
  readonly #server: StreamServer
  readonly #reconnect: Reconnect | undefined
  readonly #closing = new AbortController()
  /** Fires with `close` and with the caller's signal: what follows the first connection lives under it. */
  readonly #life: AbortSignal
  /** The connection that the reader has got to. */
  #read: StreamConnection
  /** The latest one, which is ahead of the reader where it was made anew while the reader was busy. */
  #current: StreamConnection
  #terms: HoldTerms | undefined
  #lastSeq: number
  /** May be ahead of `lastSeq`: events that came together are given to the reader one by one. */
  #receivedSeq: number
  /** The terminal event has come. */
  #hasEnded = false

  private constructor(answer: StreamAnswer, options: JobStreamOptions) {
    const { server, after, signal, reconnect, terms } = options
    this.jobId = answer.jobId
    this.#server = server
    this.#reconnect = reconnect
    this.#life = signal === undefined ? this.#closing.signal : AbortSignal.any([signal, this.#closing.signal])
    this.#current = new StreamConnection(answer)
    this.#read = this.#current
    this.#terms = terms
    this.#lastSeq = after
    this.#receivedSeq = after
  }

  /** The stream that begins with `answer`. Without a body there is nothing to come. */
  static open(answer: StreamAnswer, options: JobStreamOptions): JobStream {
    const stream = new JobStream(answer, options)
    stream.#watch(stream.#current)
    return stream
  }

  /** What the server calls this holder, undefined for an observer. Another one after each way back. */
  get holder(): string | undefined {
    return this.#current.holder
  }

  /** The `seq` of the last event that was read: what to attach after. */
  get lastSeq(): number {
    return this.#lastSeq
  }

  /** Closes the socket, or ends the way back; a loop over the stream then ends without an error. Harmless when it has ended. */
  close(): void {
    this.#closing.abort()
    this.#current.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<JobEvent, void, undefined> {
    try {
      for (; this.#read.hasBody; this.#read = await this.#after(this.#read)) {
        const parser = new SseParser()
        for await (const chunk of this.#read.chunks()) {
          const { events, defect } = decodeEvents(parser, chunk)
          for (const event of events) this.#note(event)
          for (const event of events) {
            this.#lastSeq = event.seq
            yield event
          }
          if (this.#hasEnded) return
          // Not the network's fault: it would come again.
          if (defect !== undefined) throw new StreamCut(this.jobId, this.#lastSeq, defect)
        }
      }
    } catch (error) {
      if (!this.#closing.signal.aborted) throw error
    } finally {
      this.close()
    }
  }

  #note(event: JobEvent): void {
    this.#receivedSeq = event.seq
    this.#reconnect?.noteProgress()
    if (event.type === 'job.queued') this.#learn(event.job.policy)
    if (outcomeOfEvent(event.type) !== undefined) this.#hasEnded = true
  }

  #takeUp(answer: StreamAnswer): StreamConnection {
    const connection = new StreamConnection(answer)
    this.#watch(connection)
    return connection
  }

  #watch(connection: StreamConnection): void {
    this.#current = connection
    if (!connection.hasBody) return
    // At once and not when the reader gets there: the job's grace is running.
    connection.watch(() => {
      if (!this.#hasEnded) this.#after(connection).catch(leaveToReader)
    })
    // Past `job.queued`, which bears the policy, it must be asked for; a holder needs it also while nobody reads.
    const needsTerms = connection.holder !== undefined || (this.#reconnect !== undefined && this.#receivedSeq > 0)
    if (this.#terms !== undefined) this.#holdOn(connection, this.#terms)
    else if (needsTerms) void this.#askTerms(connection)
  }

  /** The connection that follows one that is over. */
  #after(connection: StreamConnection): Promise<StreamConnection> {
    return (connection.next ??= this.#resume(connection.cause))
  }

  async #resume(cause: unknown): Promise<StreamConnection> {
    this.#life.throwIfAborted()
    const cut = new StreamCut(this.jobId, this.#receivedSeq, cause)
    if (this.#reconnect === undefined) throw cut
    const terms = { graceMs: this.#terms?.disconnectGraceMs ?? 0, signal: this.#life }
    return await this.#reconnect.resume(cut, terms, async (signal) => this.#takeUp(await this.#attach(signal)))
  }

  async #attach(signal: AbortSignal): Promise<StreamAnswer> {
    const answer = await this.#server.attach(this.#receivedSeq, signal)
    if (answer.body !== undefined) return answer
    // The job has ended, and its last event bears the number of one that the log had lost, or of the gap that said so.
    return await this.#server.attach(this.#receivedSeq - 1, signal)
  }

  #learn(terms: HoldTerms): void {
    if (this.#terms !== undefined) return
    this.#terms = terms
    this.#holdOn(this.#current, terms)
  }

  async #askTerms({ over }: StreamConnection): Promise<void> {
    try {
      const { policy } = await persist((signal) => this.#server.job(signal), { signal: over, tryMs: TRY_MS })
      this.#learn(policy)
    } catch (error) {
      // What there is to say about the job, the stream says.
      if (!over.aborted && !(error instanceof TetherApiError)) throw error
    }
  }

  #holdOn(connection: StreamConnection, { leaseMs }: HoldTerms): void {
    const { holder, over } = connection
    if (holder === undefined || leaseMs === 0 || over.aborted) return
    const renew = (signal: AbortSignal): Promise<void> => this.#server.renewLease(holder, signal)
    keepLease({ leaseMs, renew, signal: over }).catch((refusal: Error) => this.#regainHold(connection, refusal))
  }

  /** The server has no such holder: the lease ran out on the way, or the job has ended and its last event is coming. */
  async #regainHold(connection: StreamConnection, refusal: Error): Promise<void> {
    const { over } = connection
    if (over.aborted) return
    // Where this cannot be said, the answer to the next attach says what is the matter.
    const isEnded = await this.#server.job(over).then(
      ({ terminal }) => terminal,
      () => false,
    )
    if (!isEnded) connection.break(refusal)
  }
}

/** Who reads the stream meets the error there. */
function leaveToReader(): void {}
