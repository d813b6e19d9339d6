import type { Readable } from 'node:stream'
import { Agent, type Dispatcher } from 'undici'
import { ConnectionLost, ServerUnreachable } from './error.ts'
import { HEADERS_TIMEOUT_MS, type StreamBody, type Wire, type WireAnswer, type WireRequest } from './Wire.ts'

/** Node names the step that failed: after these no byte of the request can have reached a server. */
const CONNECTING: ReadonlySet<unknown> = new Set(['connect', 'getaddrinfo'])
/** Codes of a handshake that failed (TLS), and of an answer that is no HTTP: no Tether server has taken the request. */
const NO_TETHER = /^(UND_ERR_CONNECT_TIMEOUT|EPROTO|HPE_|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|ERR_TLS|ERR_SSL)/

/** Connections of Node. HTTP/1.1 only: there, leaving a stream closes a socket, which every proxy passes on. */
export class UndiciWire implements Wire {
  readonly #agent: Agent

  constructor({ maxSilenceMs }: { readonly maxSilenceMs: number }) {
    this.#agent = new Agent({
      allowH2: false,
      headersTimeout: HEADERS_TIMEOUT_MS,
      bodyTimeout: maxSilenceMs,
      connect: { timeout: 10_000, keepAlive: true, keepAliveInitialDelay: 5_000 },
    })
  }

  async send({ method, url, headers, body, signal }: WireRequest): Promise<WireAnswer> {
    const answer = await this.#agent.request({
      origin: url.origin,
      path: `${url.pathname}${url.search}`,
      method,
      headers,
      body: body ?? null,
      signal: signal ?? null,
    })
    return {
      status: answer.statusCode,
      header: (name) => headerOf(answer, name),
      text: () => answer.body.text(),
      stream: () => new ReadableBody(answer.body),
    }
  }

  failureOf(error: Error, server: string): Error {
    if (isNotConnected(error)) {
      return new ServerUnreachable(`no server at ${server}: ${reasonOf(error)}`, { cause: error })
    }
    // Our own errors have no code, nor has a bug; undici says so itself where it refused the request.
    if (!('code' in error) || error.code === 'UND_ERR_INVALID_ARG') return error
    return new ConnectionLost(`the connection to ${server} broke: ${error.message}`, { cause: error })
  }

  async close(): Promise<void> {
    await this.#agent.destroy()
  }
}

class ReadableBody implements StreamBody {
  readonly #body: Readable

  constructor(body: Readable) {
    this.#body = body
    // An error that nobody hears is uncaught: undici makes one also where a body is destroyed before its end.
    body.on('error', leaveToCause)
  }

  get cause(): Error | undefined {
    return this.#body.errored ?? undefined
  }

  watch(onOver: () => void, onTaken: () => void): void {
    this.#body.once('close', () => {
      onOver()
      setImmediate(onTaken)
    })
  }

  chunks(): AsyncIterable<Uint8Array> {
    return this.#body
  }

  close(cause?: Error): void {
    this.#body.destroy(cause)
  }
}

function leaveToCause(): void {}

function headerOf(answer: Dispatcher.ResponseData, name: string): string | undefined {
  const value = answer.headers[name]
  return Array.isArray(value) ? value[0] : value
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
