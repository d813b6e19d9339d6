import { ConnectionLost } from '../error.ts'
import { HEADERS_TIMEOUT_MS, type StreamBody, type Wire, type WireAnswer, type WireRequest } from '../Wire.ts'

/** `fetch` failed, for whatever reason: it tells neither which, nor whether a request had got through. */
class FetchFailure extends Error {
  override readonly name = 'FetchFailure'
}

/** A browser's connections. They end with the page, which is their holder's leaving. */
export class FetchWire implements Wire {
  readonly #maxSilenceMs: number
  readonly #closing = new AbortController()

  constructor({ maxSilenceMs }: { readonly maxSilenceMs: number }) {
    this.#maxSilenceMs = maxSilenceMs
  }

  async send({ method, url, headers, body, signal }: WireRequest): Promise<WireAnswer> {
    // What is wrong with it is the caller's mistake and shall not look like the network's.
    const sent = new Headers(headers)
    const ending = new AbortController()
    const late = setTimeout(() => ending.abort(new FetchFailure('no answer came')), HEADERS_TIMEOUT_MS)
    const signals = [this.#closing.signal, ending.signal, ...(signal === undefined ? [] : [signal])]
    try {
      const answer = await fetch(url, {
        method,
        headers: sent,
        body: body ?? null,
        signal: AbortSignal.any(signals),
        cache: 'no-store',
        redirect: 'error',
      })
      return {
        status: answer.status,
        header: (name) => answer.headers.get(name) ?? undefined,
        text: () => answer.text().catch(throwFailure),
        stream: () => new FetchBody(answer.body, ending, this.#maxSilenceMs),
      }
    } catch (error) {
      throw failureOf(error)
    } finally {
      clearTimeout(late)
    }
  }

  failureOf(error: Error, server: string): Error {
    if (!(error instanceof FetchFailure)) return error
    return new ConnectionLost(`the connection to ${server} broke, or there is none: ${error.message}`, { cause: error })
  }

  async close(): Promise<void> {
    this.#closing.abort(new FetchFailure('the client was closed'))
  }
}

class FetchBody implements StreamBody {
  cause: Error | undefined
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>
  readonly #ending: AbortController
  readonly #maxSilenceMs: number

  /** Aborting `ending` closes the connection. */
  constructor(body: ReadableStream<Uint8Array> | null, ending: AbortController, maxSilenceMs: number) {
    this.#reader = (body ?? new Blob([]).stream()).getReader()
    this.#ending = ending
    this.#maxSilenceMs = maxSilenceMs
  }

  watch(onOver: () => void, onTaken: () => void): void {
    const over = (): void => {
      onOver()
      setTimeout(onTaken)
    }
    this.#reader.closed.then(over, (error: unknown) => {
      this.cause ??= failureOf(error)
      over()
    })
  }

  async *chunks(): AsyncGenerator<Uint8Array, void, undefined> {
    for (;;) {
      const { done, value } = await this.#next()
      if (done) return
      yield value
    }
  }

  close(cause?: Error): void {
    this.cause ??= cause
    // An abort that comes after the end is nothing, and one before makes `closed` reject.
    this.#ending.abort(cause ?? new FetchFailure('the stream was closed'))
  }

  /** Silence is counted only while something is waited for: a reader that is busy hears nothing. */
  async #next(): ReturnType<ReadableStreamDefaultReader<Uint8Array>['read']> {
    const limitMs = this.#maxSilenceMs
    const silent =
      limitMs > 0 && setTimeout(() => this.close(new FetchFailure(`nothing came for ${limitMs} ms`)), limitMs)
    try {
      return await this.#reader.read()
    } catch (error) {
      this.cause ??= failureOf(error)
      throw this.cause
    } finally {
      if (silent !== false) clearTimeout(silent)
    }
  }
}

function throwFailure(error: unknown): never {
  throw failureOf(error)
}

function failureOf(error: unknown): Error {
  if (error instanceof FetchFailure) return error
  return new FetchFailure(error instanceof Error ? error.message : String(error), { cause: error })
}
