import { TaskFailure } from '../../job/failure.ts'
import { messageOf } from '../../job/messageOf.ts'
import { isTemporaryStatus } from '../../resources/model/isTemporaryStatus.ts'
import { CutAnswer } from './ModelAnswer.ts'

/** What is known of a call that failed, as the providers' `APICallError` tells it. */
interface CallError {
  readonly statusCode: number | undefined
  readonly headers: Readonly<Record<string, string>>
  readonly isRetryable: boolean
  readonly message: string
}

/** A server that asks for a longer wait than this has a reason that a retry does not meet. */
const MAX_RETRY_AFTER_MS = 60_000

/** How long the server wants a call that failed so to wait before it is made again; undefined where that is of no use. */
export function retryWaitOf(error: unknown, nowMs: number): { readonly leastMs: number } | undefined {
  const call = callErrorOf(error)
  if (error instanceof CutAnswer || isCut(call)) return { leastMs: 0 }
  if (call === undefined) return undefined
  const { statusCode, isRetryable } = call
  const isTemporary = statusCode === undefined ? isRetryable : isTemporaryStatus(statusCode)
  if (!isTemporary) return undefined
  const leastMs = retryAfterMs(call.headers, nowMs)
  return leastMs > MAX_RETRY_AFTER_MS ? undefined : { leastMs }
}

/** The one error that a job fails with whose model call did. `model` is the name that was asked for. */
export function modelFailureOf(error: unknown, model: string): TaskFailure {
  if (error instanceof TaskFailure) return error
  const call = callErrorOf(error)
  const cause = { cause: error }
  if (isCut(call)) return modelFailureOf(CutAnswer.by(error), model)
  if (call === undefined) {
    const message = messageOf(error)
    return new TaskFailure('TETHER_MODEL_FAILED', `the call of the model ${model} failed: ${message}`, {
      ...cause,
      retryable: error instanceof CutAnswer,
    })
  }
  switch (call.statusCode) {
    case 401:
    case 403:
      return new TaskFailure(
        'TETHER_MODEL_UNAUTHORIZED',
        `the model server refused the key for the model ${model} (${call.statusCode}): ${call.message}`,
        cause,
      )
    case 404:
      return new TaskFailure(
        'TETHER_MODEL_UNAVAILABLE',
        `the model server has no model ${model} (404): ${call.message}`,
        cause,
      )
    default: {
      const status = call.statusCode === undefined ? '' : ` (${call.statusCode})`
      const isTemporary = retryWaitOf(error, 0) !== undefined || call.statusCode === 429
      return new TaskFailure('TETHER_MODEL_FAILED', `the call of the model ${model} failed${status}: ${call.message}`, {
        ...cause,
        retryable: isTemporary,
      })
    }
  }
}

/** The server had begun its answer: what failed is the connection, or what came over it. */
function isCut(call: CallError | undefined): boolean {
  return call?.statusCode !== undefined && call.statusCode < 300
}

/** By its fields and not by its class: which copy of the package threw it is nobody's business. */
function callErrorOf(error: unknown): CallError | undefined {
  if (!(error instanceof Error) || !('isRetryable' in error) || !('url' in error)) return undefined
  const { statusCode, responseHeaders, isRetryable, message } = error as Error & Record<string, unknown>
  return {
    statusCode: typeof statusCode === 'number' ? statusCode : undefined,
    headers:
      typeof responseHeaders === 'object' && responseHeaders !== null
        ? (responseHeaders as Record<string, string>)
        : {},
    isRetryable: isRetryable === true,
    message,
  }
}

/** RFC 9110, section 10.2.3: seconds or a date; some servers say milliseconds besides. 0 where it says nothing that can be waited for. */
function retryAfterMs(headers: Readonly<Record<string, string>>, nowMs: number): number {
  const ms = Number.parseFloat(headers['retry-after-ms'] ?? '')
  if (Number.isFinite(ms)) return Math.max(0, ms)
  const text = headers['retry-after']?.trim() ?? ''
  if (text === '') return 0
  const seconds = Number(text)
  if (Number.isFinite(seconds)) return Math.max(0, seconds * 1000)
  const date = Date.parse(text)
  return Number.isNaN(date) ? 0 : Math.max(0, date - nowMs)
}
