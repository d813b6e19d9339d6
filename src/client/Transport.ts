import { TetherApiError } from './error.ts'
import { readAnswer } from './readAnswer.ts'
import type { Wire, WireAnswer } from './Wire.ts'

export interface Request {
  readonly body?: object
  readonly headers?: Readonly<Record<string, string>>
  readonly query?: Readonly<Record<string, string | number | undefined>>
  readonly signal?: AbortSignal | undefined
}

export interface TransportOptions {
  readonly server: string
  /** What a relative `server` is relative to. */
  readonly base: string | undefined
  readonly token: string | undefined
  readonly wire: Wire
}

export const DEFAULT_SERVER = 'http://127.0.0.1:3000'

/** The requests to one server, and what their failures mean (`BaseClient` says which there are). */
export class Transport {
  readonly #base: URL
  readonly #token: string | undefined
  readonly #wire: Wire

  /** @throws {TypeError} where `server` is not an absolute http or https URL. */
  constructor({ server, base, token, wire }: TransportOptions) {
    this.#base = parseServer(server, base)
    this.#token = token
    this.#wire = wire
  }

  /** The server's URL, with a slash at its end. */
  get server(): string {
    return this.#base.href
  }

  /** The answer's head; a refusal is read and thrown. */
  async send(method: string, path: string, request: Request): Promise<WireAnswer> {
    const { body, headers, query, signal } = request
    const url = new URL(path, this.#base)
    for (const [name, value] of Object.entries(query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value))
    }
    try {
      const answer = await this.#wire.send({
        method,
        url,
        headers: {
          ...(this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal,
      })
      if (answer.status >= 300) await readAnswer(answer, this.#base.href)
      return answer
    } catch (error) {
      throw this.#failureOf(error, signal)
    }
  }

  /** The JSON of an answer. */
  async ask<T>(method: string, path: string, request: Request): Promise<T> {
    return await this.read<T>(await this.send(method, path, request), request.signal)
  }

  async read<T>(answer: WireAnswer, signal: AbortSignal | undefined): Promise<T> {
    try {
      return await readAnswer<T>(answer, this.#base.href)
    } catch (error) {
      throw this.#failureOf(error, signal)
    }
  }

  /** Closes every connection. */
  async close(): Promise<void> {
    await this.#wire.close()
  }

  #failureOf(error: unknown, signal: AbortSignal | undefined): unknown {
    if (signal?.aborted === true) return signal.reason
    if (!(error instanceof Error) || error instanceof TetherApiError) return error
    return this.#wire.failureOf(error, this.#base.href)
  }
}

function parseServer(text: string, base: string | undefined): URL {
  const url = URL.canParse(text, base) ? new URL(text, base) : undefined
  if (url === undefined || !['http:', 'https:'].includes(url.protocol)) {
    throw new TypeError(`server must be an http or https URL such as ${DEFAULT_SERVER}, got ${JSON.stringify(text)}`)
  }
  // Relative paths are resolved against it, which would drop the last segment of a path without a slash at its end.
  if (!url.pathname.endsWith('/')) url.pathname += '/'
  url.search = ''
  url.hash = ''
  return url
}
