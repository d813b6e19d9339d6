/** How long the head of an answer may take. The longest `wait` of a cancel is 60 s. */
export const HEADERS_TIMEOUT_MS = 90_000

/** One request, ready to be sent. */
export interface WireRequest {
  readonly method: string
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | undefined
  /** Aborting it closes the connection, also while the answer's body comes; its reason is thrown. */
  readonly signal: AbortSignal | undefined
}

/** An answer whose head is there. Its body is to be read or closed, once. */
export interface WireAnswer {
  readonly status: number
  /** `name` in lower case. */
  header(name: string): string | undefined
  /** The whole body. */
  text(): Promise<string>
  /** The body as it comes. */
  stream(): StreamBody
}

/** A body that comes for as long as its connection stands. */
export interface StreamBody {
  /** Why it broke; undefined while it stands, and where it was ended cleanly. */
  readonly cause: Error | undefined
  /**
   * Calls `onOver` when it is over, however that came, and then `onTaken` when what had come by then was taken. To be called in the
   * turn of its making.
   */
  watch(onOver: () => void, onTaken: () => void): void
  /** What comes, until it is over; throws where it broke. */
  chunks(): AsyncIterable<Uint8Array>
  /** Ends the connection; with a cause, as the network would. Harmless when it is over. */
  close(cause?: Error): void
}

/** What carries requests to one server: Node's sockets, or a browser's `fetch`. */
export interface Wire {
  send(request: WireRequest): Promise<WireAnswer>
  /**
   * What an error of `send`, of an answer's text or of its stream means, where no signal was the reason: `ServerUnreachable`,
   * `ConnectionLost`, or itself where it is a mistake of the caller.
   */
  failureOf(error: Error, server: string): Error
  /** Closes every connection. */
  close(): Promise<void>
}
