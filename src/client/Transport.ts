import { Agent, type Dispatcher } from 'undici'
import { ConnectionLost, ServerUnreachable, TetherApiError } from './error.ts'
import { readAnswer } from './readAnswer.ts'

export interface Request {
  readonly body?: object
  readonly headers?: Readonly<Record<string, string>>
  readonly query?: Readonly<Record<string, string | number | undefined>>
  readonly signal?: AbortSignal | undefined
}

export interface TransportOptions {
  readonly server: string
  readonly token: string | undefined
  readonly maxSilenceMs: number
}

export const DEFAULT_SERVER = 'http://127.0.0.1:3000'

/** The longest `wait` of a cancel is 60 s. */
const HEADERS_TIMEOUT_MS = 90_000

/** Node names the step that failed: after these no byte of the request can have reached a server. */
const CONNECTING: ReadonlySet<unknown> = new Set(['connect', 'getaddrinfo'])
/** Codes of a handshake that failed (TLS), and of an answer that is no HTTP: no Tether server has taken the request. */
const NO_TETHER = /^(UND_ERR_CONNECT_TIMEOUT|EPROTO|HPE_|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|ERR_TLS|ERR_SSL)/

/** The connections to one server, and what their failures mean (`TetherClient` says which there are). */
export class Transport {
  readonly #base: URL
  readonly #token: string | undefined
  /** HTTP/1.1 only: there, leaving a stream closes a socket, which every proxy passes on. */
  readonly #agent: Agent

  /** @throws {TypeError} where `server` is not an absolute http or https URL. */
  constructor({ server, token, maxSilenceMs }: TransportOptions) {
    this.#base = parseServer(server)
    this.#token = token
    this.#agent = new Agent({
      allowH2: false,
      headersTimeout: HEADERS_TIMEOUT_MS,
      bodyTimeout: maxSilenceMs,
      connect: { timeout: 10_000, keepAlive: true, keepAliveInitialDelay: 5_000 },
    })
  }

  /** The server's URL, with a slash at its end. */
  get server(): string {
    return this.#base.href
  }

  /** The answer's head; a refusal is read and thrown. */
  async send(method: Dispatcher.HttpMethod, path: string, request: Request): Promise<Dispatcher.ResponseData> {
    const { body, headers, query, signal } = request
    const url = new URL(path, this.#base)
    for (const [name, value] of Object.entries(query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value))
    }
    try {
      const answer = await this.#agent.request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method,
        headers: {
          ...(this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        body: body === undefined ? null : JSON.stringify(body),
        signal: signal ?? null,
      })
      if (answer.statusCode >= 300) await readAnswer(answer, this.#base.href)
      return answer
    } catch (error) {
      throw this.#failureOf(error, signal)
    }
  }

  /** The JSON of an answer. */
  async ask<T>(method: Dispatcher.HttpMethod, path: string, request: Request): Promise<T> {
    return await this.read<T>(await this.send(method, path, request), request.signal)
  }

  async read<T>(answer: Dispatcher.ResponseData, signal: AbortSignal | undefined): Promise<T> {
    try {
      return await readAnswer<T>(answer, this.#base.href)
    } catch (error) {
      throw this.#failureOf(error, signal)
    }
  }

  /** Closes every connection. */
  async close(): Promise<void> {
    await this.#agent.destroy()
  }

  #failureOf(error: unknown, signal: AbortSignal | undefined): unknown {
    if (signal?.aborted === true) return signal.reason
    if (!(error instanceof Error) || error instanceof TetherApiError) return error
    if (isNotConnected(error))
      return new ServerUnreachable(`no server at ${this.#base.href}: ${reasonOf(error)}`, { cause: error })
    // Our own errors have no code, nor has a bug; undici says so itself where it refused the request.
    if (!('code' in error) || error.code === 'UND_ERR_INVALID_ARG') return error
    return new ConnectionLost(`the connection to ${this.#base.href} broke: ${error.message}`, { cause: error })
  }
}

function parseServer(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url === undefined || !['http:', 'https:'].includes(url.protocol)) {
    throw new TypeError(`server must be an http or https URL such as ${DEFAULT_SERVER}, got ${JSON.stringify(text)}`)
  }
  // Relative paths are resolved against it, which would drop the last segment of a path without a slash at its end.
  if (!url.pathname.endsWith('/')) url.pathname += '/'
  url.search = ''
  url.hash = ''
  return url
}

/** A name with several addresses gives one error for each of them, wrapped. */
function isNotConnected(error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.every(isNotConnected)
  if (!(error instanceof Error)) return false
  if ('syscall' in error && CONNECTING.has(error.syscall)) return true
  if (error.name === 'HTTPParserError') return true
  return 'code' in error && typeof error.code === 'string' && NO_TETHER.test(error.code)
}

/** The message of an error that wraps several is empty. */
function reasonOf(error: Error): string {
  return error.message === '' && 'code' in error ? String(error.code) : error.message
}
