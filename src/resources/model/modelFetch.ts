import { TaskFailure } from '../../job/failure.ts'
import { streamOf } from './streamOf.ts'

/** So much of an answer is looked at, and so much of it told (UTF-16 units). */
const MAX_LOOKED_AT_UNITS = 4096
const MAX_TOLD_UNITS = 200

/** An answer in one piece is kept until it has its end. What is longer has none, and would fill the memory of the server. */
const MAX_WHOLE_BYTES = 16 * 1024 * 1024

/** An answer that is an error is read as a whole before it is understood. */
const MAX_ERROR_BYTES = 64 * 1024

/** What a `Response` does not take as the words of its status (RFC 9112, section 4), though a server may send them. */
const NO_REASON_PHRASE = /[^\t\x20-\x7e\x80-\xff]/gu

/**
 * `fetch` for a provider. Providers look for events in whatever comes with a 200: in the page of a proxy, or in an error as JSON,
 * they find none, and say only that the stream has ended. Such an answer rejects with what it says. By its text, since a stream of
 * events that goes by another name is one all the same. What a server says is bounded, whatever it is, and `conceal` takes the keys
 * out of what is told of it, before it is cut.
 */
export function modelFetch(fetch: typeof globalThis.fetch, conceal: (text: string) => string): typeof globalThis.fetch {
  return async (input, init) => {
    const response = await fetch(input, init)
    const type = response.headers.get('content-type') ?? ''
    if (response.body === null) return response
    if (!response.ok) return shortened(response, response.body)
    if (!isStreamAsked(init)) return withBody(response, wholeOf(response.body))
    if (/^text\/event-stream\b/i.test(type)) return withBody(response, streamOf(response.body))
    const [looked, body] = response.body.tee()
    const text = await beginningOf(looked)
    if (!/^\s*[<{[]/.test(text)) return withBody(response, streamOf(body))
    await body.cancel()
    throw new TaskFailure(
      'TETHER_MODEL_FAILED',
      `the model server must answer with a stream of events, and answered ${response.status} with ${type || 'something'}: ${wordsIn(text, conceal)}`,
    )
  }
}

/** The same answer with the beginning of its body. */
async function shortened(
  { status, statusText, headers }: Response,
  body: ReadableStream<Uint8Array>,
): Promise<Response> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  // Leaving the loop cancels the rest.
  for await (const chunk of body) {
    chunks.push(chunk.subarray(0, MAX_ERROR_BYTES - bytes))
    bytes += chunk.length
    if (bytes >= MAX_ERROR_BYTES) break
  }
  // A server may answer with a number that is none (Fetch Standard: 200 to 599).
  return new Response(Buffer.concat(chunks), {
    status: Math.min(status, 599),
    statusText: statusText.replaceAll(NO_REASON_PHRASE, '?'),
    headers,
  })
}

function withBody({ status, headers }: Response, body: ReadableStream<Uint8Array>): Response {
  return new Response(body, { status, headers })
}

function wholeOf(body: ReadableStream<Uint8Array>): ReadableStream<Uint8Array> {
  let bytes = 0
  const bounded = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      bytes += chunk.length
      if (bytes > MAX_WHOLE_BYTES) throw new Error(`its answer has more than ${MAX_WHOLE_BYTES} bytes`)
      controller.enqueue(chunk)
    },
  })
  return body.pipeThrough(bounded)
}

/** Providers send their request as a text of JSON. */
function isStreamAsked(init: RequestInit | undefined): boolean {
  return typeof init?.body === 'string' && init.body.includes('"stream":true')
}

/** Of JSON and of pages the beginning; of a stream only what comes first, since the rest may take its time. */
async function beginningOf(body: ReadableStream<Uint8Array>): Promise<string> {
  const reader = body.getReader()
  const decoder = new TextDecoder()
  let text = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return text
    text += decoder.decode(value, { stream: true })
    if (text.length > MAX_LOOKED_AT_UNITS || /^\s*[^\s<{[]/.test(text)) break
  }
  // Of the two branches of a stream, that one is cancelled settles when the other is.
  reader.cancel().catch(() => undefined)
  return text
}

/** The message of an error as JSON, else how it begins. */
function wordsIn(text: string, conceal: (text: string) => string): string {
  const message = /"message"\s*:\s*("(?:[^"\\\p{Cc}]|\\["\\/bfnrt]|\\u[0-9a-f]{4})*")/iu.exec(text)?.[1]
  const words = message === undefined ? text : String(JSON.parse(message))
  return conceal(words).replaceAll(/\s+/g, ' ').trim().slice(0, MAX_TOLD_UNITS)
}
