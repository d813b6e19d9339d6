import { Backoff } from './Backoff.ts'
import { isTemporary, StreamCut } from './error.ts'
import { type Attempt, TRY_MS, tryAgain } from './tryAgain.ts'

/** A connection of a stream that broke before the stream's end. */
export interface Loss {
  /** Undefined where the server mints the id and has not said it yet. */
  readonly jobId: string | undefined
  /** The `seq` of the last event that came, 0 before the first: where the stream goes on. */
  readonly lastSeq: number
  /** How long it is tried to come back, from now, milliseconds. */
  readonly tryForMs: number
  /** What broke; undefined where the server ended the stream cleanly, as one does that goes away while the job waits. */
  readonly cause: unknown
}

/** A stream that goes on after a loss. */
export interface Recovery {
  readonly jobId: string | undefined
  readonly lastSeq: number
  /** The time since the loss, milliseconds. */
  readonly afterMs: number
}

export interface ReconnectOptions {
  /**
   * From when it fires a connection that breaks is not made anew: `StreamCut` is thrown, at once where it is being tried just then.
   * For callers that have asked for the job's end. A connection that stands is not touched by it.
   */
  readonly signal?: AbortSignal
  /**
   * How long it is tried at least, milliseconds; longer where the job's `disconnectGraceMs` is. Counted from the loss after which
   * no event has come and no connection has lasted. Default 10000, which is how long a server that was started again waits for
   * the holder of a job. `Infinity`: until the signal fires.
   */
  readonly tryAtLeastMs?: number
  /** A connection broke and is about to be made anew. What it throws ends the stream. */
  readonly onLost?: (loss: Loss) => void
  /** The stream goes on. What it throws ends the stream. */
  readonly onBack?: (recovery: Recovery) => void
}

/** A server that was started again waits at least this long for the holder of a job (ARCHITECTURE, "What happens on a crash"). */
const RESTART_WAIT_MS = 10_000
/** A connection that lived longer than the longest wait was a good one, also where no event came: the next wait is short again. */
const SETTLED_MS = 2000

/** The ways back of one stream, one loss after another. */
export class Reconnect {
  readonly #options: ReconnectOptions
  readonly #noMore: AbortSignal
  readonly #backoff = new Backoff()
  #backAtMs = Number.NEGATIVE_INFINITY
  /** The first of the losses between which nothing was gained; undefined while all is well. */
  #lostAtMs: number | undefined

  /** `clientClosed` is as the options' own signal. */
  constructor(options: ReconnectOptions, clientClosed: AbortSignal) {
    this.#options = options
    this.#noMore = options.signal === undefined ? clientClosed : AbortSignal.any([options.signal, clientClosed])
  }

  /** Said when events come: where a server takes connections and breaks them at once, the waits get longer. */
  noteProgress(): void {
    this.#backoff.reset()
    this.#lostAtMs = undefined
  }

  /**
   * Tries `attempt` until it gives an answer, for `graceMs` or `tryAtLeastMs`, whichever is more. Time goes on where a server
   * answers and breaks the connection before anything has come, as one does that cannot read its log. Rejects with the refusal that
   * no further try can change; with a `StreamCut` like `cut`, its cause the last failure, when the time is up; with `cut` itself
   * where the options' signal fires or the client is closed; and with the reason of `signal` where that fires.
   */
  async resume<T>(
    cut: StreamCut,
    { graceMs, signal }: { readonly graceMs: number; readonly signal: AbortSignal },
    attempt: Attempt<T>,
  ): Promise<T> {
    const { tryAtLeastMs = RESTART_WAIT_MS, onLost, onBack } = this.#options
    const noMore = this.#noMore
    signal.throwIfAborted()
    if (noMore.aborted) throw cut
    const lostAtMs = performance.now()
    if (lostAtMs - this.#backAtMs > SETTLED_MS) this.noteProgress()
    this.#lostAtMs ??= lostAtMs
    const { jobId, lastSeq } = cut
    const forMs = Math.max(0, Math.max(graceMs, tryAtLeastMs) - (lostAtMs - this.#lostAtMs))
    onLost?.({ jobId, lastSeq, tryForMs: forMs, cause: cut.cause })
    // The answer's body lives on under the signal of its try, which therefore must not be the caller's own.
    const ended = new AbortController()
    const end = (): void => ended.abort(cut)
    noMore.addEventListener('abort', end)
    try {
      const answer = await tryAgain(attempt, cut, {
        signal: AbortSignal.any([signal, ended.signal]),
        forMs,
        tryMs: TRY_MS,
        backoff: this.#backoff,
      })
      this.#backAtMs = performance.now()
      onBack?.({ jobId, lastSeq, afterMs: this.#backAtMs - lostAtMs })
      return answer
    } catch (error) {
      throw error !== cut && isTemporary(error) ? new StreamCut(jobId, lastSeq, error) : error
    } finally {
      noMore.removeEventListener('abort', end)
    }
  }
}
