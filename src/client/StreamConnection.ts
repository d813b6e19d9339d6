import type { Readable } from 'node:stream'

/** The head of a stream's answer, and its body where there is anything to come. */
export interface StreamAnswer {
  readonly jobId: string
  /** What a lease of this holder is renewed with; undefined for an observer. */
  readonly holder: string | undefined
  /** Undefined: the reader has all of a job that ended (the server's 204). */
  readonly body: Readable | undefined
}

/** One connection of a stream, which may have several, one after another. */
export class StreamConnection {
  readonly holder: string | undefined
  /** The one after this; set by the stream. */
  next: Promise<StreamConnection> | undefined
  readonly #body: Readable | undefined
  readonly #over = new AbortController()

  constructor({ holder, body }: StreamAnswer) {
    this.holder = holder
    this.#body = body
  }

  /** Whether anything comes at all. */
  get hasBody(): boolean {
    return this.#body !== undefined
  }

  /** Fires when it is over, however that came: the end of everything that is done because it is open. */
  get over(): AbortSignal {
    return this.#over.signal
  }

  /** Why it broke; undefined while it stands, and where it was ended cleanly. */
  get cause(): Error | undefined {
    return this.#body?.errored ?? undefined
  }

  /** Calls `onClosed` once when it is closed. To be called in the turn of its making: an error that nobody hears is uncaught. */
  watch(onClosed: () => void): void {
    this.#body?.on('error', leaveToCause)
    this.#body?.once('close', () => {
      this.#over.abort()
      // After what came in the same turn was taken.
      setImmediate(onClosed)
    })
  }

  /** What comes, until it is over; `cause` then says why. */
  async *chunks(): AsyncGenerator<Uint8Array, void, undefined> {
    if (this.#body === undefined) return
    try {
      for await (const chunk of this.#body) yield chunk
    } catch (error) {
      if (this.cause === undefined) throw error
    }
  }

  /** Breaks it as the network would, with this cause. */
  break(cause: Error): void {
    this.#body?.destroy(cause)
  }

  /** Nobody reads it any more. The server sees its reader gone. */
  close(): void {
    this.#over.abort()
    this.#body?.destroy()
  }
}

/** Also of an error of our own making: undici says so where a body is destroyed before its end. */
function leaveToCause(): void {}
