import type { JobEvent } from '../job/event.ts'
import type { Json } from '../job/json.ts'
import type { JobView } from '../job/view.ts'
import type { CancelAnswer } from './CancelAnswer.ts'
import { JobDetached, JobEnded, type TerminalEvent, TetherApiError } from './error.ts'
import type { JobSpec } from './JobSpec.ts'
import type { JobStream } from './JobStream.ts'
import { outcomeOfEvent } from './terminal.ts'
import { persist, TRY_MS } from './tryAgain.ts'

/** What a run asks of its server. */
export interface RunServer {
  stream(spec: JobSpec, signal: AbortSignal): Promise<JobStream>
  end(kind: 'cancel' | 'stop', reason: string | undefined, signal: AbortSignal): Promise<CancelAnswer>
  leaveRunning(signal: AbortSignal): Promise<JobView>
}

/** For so long what is asked of the server is sent again where it does not come through. */
const SEND_FOR_MS = 10_000

/** Protocol, section 4. */
const MAX_REASON_LENGTH = 500

/**
 * A job that this program started and holds: its events, to be read once, and its result. A connection that breaks is made anew,
 * as `JobStream` says.
 *
 * When the signal fires that it was given, the job is cancelled; the events go on to the terminal one, which has the receipt. Where
 * the server refuses that, the job is left, as by `close`, and `result` rejects with the refusal.
 * Leaving the loop early, `close` and the end of the program are its holder's leaving, which cancels it where `onDisconnect` does
 * not say otherwise. Only `detach` lets it run on.
 */
export class JobRun<Result = Json> implements AsyncIterable<JobEvent>, Disposable {
  /** Known from the start: minted here, where the caller did not. */
  readonly id: string
  readonly #server: RunServer
  readonly #stream: Promise<JobStream>
  readonly #signal: AbortSignal | undefined
  readonly #closing = new AbortController()
  readonly #outcome = Promise.withResolvers<Json>()
  #isRead = false
  #hasDetached = false

  constructor(spec: JobSpec & { readonly jobId: string }, server: RunServer, signal: AbortSignal | undefined) {
    this.id = spec.jobId
    this.#server = server
    this.#signal = signal
    // Who asks for no result shall not be told of its failure as of one that nobody caught.
    this.#outcome.promise.catch(leaveToReader)
    this.#stream = signal?.aborted === true ? Promise.reject(signal.reason) : server.stream(spec, this.#closing.signal)
    this.#stream.catch((error: unknown) => {
      this.#fail(error)
      // Nobody may ever read it.
      signal?.removeEventListener('abort', this.#onAbort)
    })
    if (signal?.aborted !== true) signal?.addEventListener('abort', this.#onAbort)
  }

  /**
   * Resolves with the job's result. Rejects with `JobEnded` where it ends in another way, `JobDetached` after `detach`, and what
   * the loop throws where the stream fails or is left. Where nobody reads the events, they are read for it: to see them, begin the
   * loop first.
   */
  get result(): Promise<Result> {
    if (!this.#isRead) void this.#drain()
    // Its shape is what the task promises to whoever knows it.
    return this.#outcome.promise as Promise<Result>
  }

  /** Hard: the job's work is ended now. Also before the server has heard of the job. */
  async cancel(reason?: string): Promise<CancelAnswer> {
    return await this.#end('cancel', reason)
  }

  /** Cooperative: what is in flight finishes, and the job ends at its next boundary. Also before the server has heard of the job. */
  async stop(reason?: string): Promise<CancelAnswer> {
    return await this.#end('stop', reason)
  }

  /**
   * Lets the job run on without this program: its policy is `continue` from here on, and the loop over its events ends. Rejects where
   * the server refuses that, or cannot be told within 10 s; the job is then held as before.
   */
  async detach(): Promise<void> {
    await this.#stream
    try {
      await persist((signal) => this.#server.leaveRunning(signal), {
        signal: this.#closing.signal,
        forMs: SEND_FOR_MS,
        tryMs: TRY_MS,
      })
    } catch (error) {
      // It has ended, and what there is to say of that is on its way.
      if (isFinished(error)) return
      throw error
    }
    this.#hasDetached = true
    this.#fail(new JobDetached(this.id))
    await this.#leave()
  }

  /** Leaves the job, as its holder: see above. The loop ends without an error. Harmless when it has ended. */
  close(): void {
    this.#fail(new DOMException(`the run of job ${this.id} was closed`, 'AbortError'))
    void this.#leave()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<JobEvent, void, undefined> {
    if (this.#isRead) throw new Error('the events of a run can be read once, and reading them for its result counts')
    this.#isRead = true
    try {
      for await (const event of await this.#stream) {
        this.#note(event)
        yield event
      }
    } catch (error) {
      this.#fail(error)
      if (!this.#hasDetached && !this.#closing.signal.aborted) throw error
    } finally {
      this.close()
    }
  }

  readonly #onAbort = (): void => {
    const { reason }: { reason: unknown } = this.#signal ?? { reason: undefined }
    const text = reason instanceof Error ? reason.message : String(reason)
    this.#end('cancel', text).catch((error: unknown) => {
      // It has ended already, and the loop gets to that.
      if (isFinished(error)) return
      // Refused, or not to be had through: what is left is to leave it, which its server takes for a cancel.
      this.#fail(error)
      this.close()
    })
  }

  async #end(kind: 'cancel' | 'stop', reason: string | undefined): Promise<CancelAnswer> {
    return await persist((signal) => this.#server.end(kind, reason?.slice(0, MAX_REASON_LENGTH), signal), {
      signal: new AbortController().signal,
      forMs: SEND_FOR_MS,
      tryMs: TRY_MS,
    })
  }

  async #drain(): Promise<void> {
    try {
      for await (const event of this) void event
    } catch {
      // The result is rejected with it.
    }
  }

  #note(event: JobEvent): void {
    if (!isTerminal(event)) return
    this.#signal?.removeEventListener('abort', this.#onAbort)
    if (event.type === 'job.succeeded') this.#outcome.resolve(event.result)
    else this.#fail(new JobEnded(event, this.#signal?.aborted === true ? this.#signal.reason : undefined))
  }

  #fail(error: unknown): void {
    this.#outcome.reject(error)
  }

  async #leave(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#onAbort)
    this.#closing.abort()
    await this.#stream.then(
      (stream) => stream.close(),
      () => undefined,
    )
  }
}

function isTerminal(event: JobEvent): event is TerminalEvent {
  return outcomeOfEvent(event.type) !== undefined
}

function isFinished(error: unknown): boolean {
  return error instanceof TetherApiError && error.code === 'TETHER_JOB_FINISHED'
}

/** Who reads the events, or asks for the result, meets the error there. */
function leaveToReader(): void {}
