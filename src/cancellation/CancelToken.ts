import { AsyncLocalStorage } from 'node:async_hooks'

/** What the code of a job can ask about its end, also where it was handed no context (`currentToken`). */
export interface CancelToken {
  /** Fires when the job is cancelled; its `reason` is a `JobStopped`. */
  readonly signal: AbortSignal
  /** Fires when the job is stopped or cancelled, whichever comes first. */
  readonly stopSignal: AbortSignal
  readonly isStopRequested: boolean
  readonly isCancelled: boolean
  /** A boundary. @throws {JobStopped} where the job was asked to stop or was cancelled, each time, except in shielded code */
  checkpoint(): void
}

const current = new AsyncLocalStorage<CancelToken>()

/** Calls `work`; everything that comes of it finds `token`. */
export function runWithToken<T>(token: CancelToken, work: () => T): T {
  return current.run(token, work)
}

/**
 * The token of the job whose code runs; undefined where it is no job's. It is kept over awaits, timers, files and streams; an event
 * listener runs in the context of whoever emits: hand the token on to those.
 */
export function currentToken(): CancelToken | undefined {
  return current.getStore()
}
