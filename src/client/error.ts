import type { JobEvent } from '../job/event.ts'
import type { TerminalStatus } from '../job/status.ts'

/** The server refused a request. `code` is API (docs/errors.md), `message` is prose. */
export class TetherApiError extends Error {
  override readonly name = 'TetherApiError'
  readonly statusCode: number
  readonly code: string
  /** From the header Retry-After: the server says when asking again makes sense. */
  readonly retryAfterSeconds: number | undefined

  constructor(statusCode: number, code: string, message: string, retryAfterSeconds?: number) {
    super(message)
    this.statusCode = statusCode
    this.code = code
    this.retryAfterSeconds = retryAfterSeconds
  }
}

/** Nothing was started or changed: no connection could be made, or what answered is not a Tether server. */
export class ServerUnreachable extends Error {
  override readonly name = 'ServerUnreachable'
}

/**
 * The connection broke while the server was answering. Whether the request took effect is not known.
 * A stream that breaks so throws the narrower `StreamCut`.
 */
export class ConnectionLost extends Error {
  override readonly name: string = 'ConnectionLost'
}

/** A stream ended without the terminal event of its job. The job may go on: attach to it after `lastSeq` to see. */
export class StreamCut extends ConnectionLost {
  override readonly name = 'StreamCut'
  /** Undefined where the server minted the id and the connection broke before it said so. */
  readonly jobId: string | undefined
  /** The `seq` of the last event that was read, 0 before the first. */
  readonly lastSeq: number

  constructor(jobId: string | undefined, lastSeq: number, cause?: unknown) {
    const job = jobId === undefined ? 'a job whose id is not known' : `job ${jobId}`
    const why = cause instanceof Error ? `: ${cause.message}` : ''
    super(`the stream of ${job} ended after event ${lastSeq}, without a terminal event${why}`, { cause })
    this.jobId = jobId
    this.lastSeq = lastSeq
  }
}

/** The last event of a job. */
export type TerminalEvent = Extract<JobEvent, { readonly type: `job.${TerminalStatus}` }>

/** A job that ended in another way than with a result. `event` says how, with its receipt where there is one. */
export class JobEnded extends Error {
  override readonly name = 'JobEnded'
  readonly event: Exclude<TerminalEvent, { readonly type: 'job.succeeded' }>

  /** `cause` is the reason of the signal that had it cancelled, undefined where none did. */
  constructor(event: Exclude<TerminalEvent, { readonly type: 'job.succeeded' }>, cause: unknown) {
    super(`job ${event.jobId} ended ${event.type.slice('job.'.length)}${whyOf(event)}`, { cause })
    this.event = event
  }

  get jobId(): string {
    return this.event.jobId
  }
}

function whyOf(event: JobEnded['event']): string {
  if ('failure' in event) return `: ${event.failure.code}, ${event.failure.message}`
  const { cause, reason } = event.type === 'job.stopped' ? event.stop : event.cancellation
  return ` (${cause})${reason === '' ? '' : `: ${reason}`}`
}

/** The result of a job was asked for that was let run on alone. */
export class JobDetached extends Error {
  override readonly name = 'JobDetached'

  constructor(jobId: string) {
    super(`job ${jobId} was detached from: it runs on, and its result is to be asked for at the server`)
  }
}

/**
 * Whether the same request may go through when it is sent again: the connection broke, no Tether server answered (a proxy's page
 * counts as that), or the server refused it for now: 429, and everything from 500 on.
 */
export function isTemporary(error: unknown): boolean {
  if (error instanceof TetherApiError) return error.statusCode === 429 || error.statusCode >= 500
  return error instanceof ConnectionLost || error instanceof ServerUnreachable
}
