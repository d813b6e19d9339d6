import type { ServerResponse } from 'node:http'
import type { Holder } from '../jobs/Holder.ts'
import type { StreamQuota } from './StreamQuota.ts'

/** Whoever has to know that the connection is over. */
export interface ClosesWithPresence {
  onClosed(): void
}

/**
 * A client that is there, from the first byte of its request until its response is closed. 'close' of the response is the one
 * event that always comes: the request's own means that its body was read, `request.signal` aborts on a POST with nobody gone,
 * and `onResponse` never runs for a stream that was aborted. It is listened to before anything asynchronous, so a client that
 * leaves while its job is being created is seen to leave.
 */
export class Presence {
  readonly raw: ServerResponse
  readonly holder: Holder | undefined
  readonly #quota: StreamQuota
  readonly #subject: string
  #attached: ClosesWithPresence | undefined
  #abort: AbortController | undefined
  #isOver = false

  constructor(raw: ServerResponse, subject: string, quota: StreamQuota, holder: Holder | undefined) {
    this.raw = raw
    this.holder = holder
    this.#subject = subject
    this.#quota = quota
  }

  /** Takes its place in the quota and gives it back by itself. @throws {TetherError} `TETHER_QUOTA` */
  begin(): void {
    this.#quota.take(this.#subject)
    // Whoever was asked who this is, or a hook of an app around ours, may have taken a while: 'close' has come then, and does not again.
    if (this.raw.destroyed) this.#end()
    else this.raw.once('close', () => this.#end())
  }

  /** Whether the connection is over. To be asked after every await: 'close' may have come, and then nothing else will. */
  get isGone(): boolean {
    return this.#isOver || this.raw.destroyed
  }

  /** Aborts when the connection is over, for what waits only because this client does. */
  get signal(): AbortSignal {
    this.#abort ??= new AbortController()
    if (this.isGone) this.#abort.abort()
    return this.#abort.signal
  }

  attach(attached: ClosesWithPresence): void {
    this.#attached = attached
  }

  /** The server ends the response from here on, so what follows is no disconnect. */
  release(): void {
    this.holder?.release()
  }

  /** The response breaks off in the middle through no doing of the client's. */
  cutOff(): void {
    this.holder?.cutOff()
  }

  #end(): void {
    this.#isOver = true
    this.#quota.giveBack(this.#subject)
    this.holder?.leave('client_disconnected')
    this.#abort?.abort()
    this.#attached?.onClosed()
  }
}
