import { Backoff } from './Backoff.ts'
import { ConnectionLost, isTemporary, TetherApiError } from './error.ts'
import { pause } from './pause.ts'

/** One sending of a request. Its signal fires when it is not waited for any more. */
export type Attempt<T> = (signal: AbortSignal) => Promise<T>

export interface Persistence {
  /** Ends it at once, also in the middle of a wait; its reason is what is thrown. */
  readonly signal: AbortSignal
  /** How long it goes on, milliseconds; the last try begins when they are over. Default: until the signal fires. */
  readonly forMs?: number
  /** A try that has no answer by then counts as a connection that broke, milliseconds. Default: each may take what it takes. */
  readonly tryMs?: number
  readonly backoff?: Backoff
}

/** A `tryMs` for what is answered at once: a try that hangs longer uses up the time of several. */
export const TRY_MS = 10_000
/** The last try begins when the time is over, and has this long. */
const MIN_TRY_MS = 1000
/** The longest that a timer of Node takes; one that is asked for more fires at once. */
const MAX_WAIT_MS = 2_147_483_647

/** Sends a request, and again where it failed for now (`isTemporary`). Throws what `tryAgain` throws. */
export async function persist<T>(attempt: Attempt<T>, options: Persistence): Promise<T> {
  try {
    return await attemptWithin(attempt, options.tryMs, options.signal)
  } catch (error) {
    return await tryAgain(attempt, error, options)
  }
}

/**
 * Sends a request again that failed with `failure`, with waits between the tries and as long as a server says (Retry-After).
 * Throws the failure that is not temporary, or the last one when the time is up, or before that where the server wants to be
 * asked later than that.
 */
export async function tryAgain<T>(attempt: Attempt<T>, failure: unknown, options: Persistence): Promise<T> {
  const {
    signal,
    forMs = Number.POSITIVE_INFINITY,
    tryMs = Number.POSITIVE_INFINITY,
    backoff = new Backoff(),
  } = options
  const endMs = performance.now() + forMs
  let last = failure
  for (;;) {
    signal.throwIfAborted()
    const leftMs = endMs - performance.now()
    const askedMs = retryAfterMsOf(last)
    if (!isTemporary(last) || leftMs <= 0 || askedMs > leftMs) throw last
    await pause(Math.min(leftMs, MAX_WAIT_MS, Math.max(askedMs, backoff.nextMs())), signal)
    try {
      return await attemptWithin(attempt, Math.min(tryMs, Math.max(MIN_TRY_MS, endMs - performance.now())), signal)
    } catch (error) {
      last = error
    }
  }
}

/** An answer may outlive the try, as the body of a stream does: it stays under `signal`, and the limit does not touch it. */
async function attemptWithin<T>(attempt: Attempt<T>, tryMs: number | undefined, signal: AbortSignal): Promise<T> {
  if (tryMs === undefined || tryMs === Number.POSITIVE_INFINITY) return await attempt(signal)
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(new ConnectionLost(`no answer within ${Math.ceil(tryMs)} ms`)), tryMs)
  try {
    return await attempt(AbortSignal.any([signal, late.signal]))
  } finally {
    clearTimeout(timer)
  }
}

function retryAfterMsOf(error: unknown): number {
  return error instanceof TetherApiError ? (error.retryAfterSeconds ?? 0) * 1000 : 0
}
