import type { StreamBody } from './Wire.ts'

/** The head of a stream's answer, and its body where there is anything to come. */
export interface StreamAnswer {
  readonly jobId: string
  /** What a lease of this holder is renewed with; undefined for an observer. */
  readonly holder: string | undefined
  /** Undefined: the reader has all of a job that ended (the server's 204). */
  readonly body: StreamBody | undefined
}

/** One connection of a stream, which may have several, one after another. */
export class StreamConnection {
  readonly holder: string | undefined
  /** The one after this; set by the stream. */
  next: Promise<StreamConnection> | undefined
  readonly #body: StreamBody | undefined
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
    return this.#body?.cause
  }

  /** Calls `onClosed` once when it is closed and what came in the same turn was taken. To be called in the turn of its making. */
  watch(onClosed: () => void): void {
    this.#body?.watch(() => this.#over.abort(), onClosed)
  }

  /** What comes, until it is over; `cause` then says why. */
  async *chunks(): AsyncGenerator<Uint8Array, void, undefined> {
    if (this.#body === undefined) return
    try {
      for await (const chunk of this.#body.chunks()) yield chunk
    } catch (error) {
      if (this.cause === undefined) throw error
    }
  }

  /** Breaks it as the network would, with this cause. */
  break(cause: Error): void {
    this.#body?.close(cause)
  }

  /** Nobody reads it any more. The server sees its reader gone. */
  close(): void {
    this.#over.abort()
    this.#body?.close()
  }
}
