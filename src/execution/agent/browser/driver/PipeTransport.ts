import type { Readable, Writable } from 'node:stream'
import type { ConnectOverCDPTransport } from 'playwright-core'

/** No answer of ours comes near it (bytes): a screenshot of 10 MiB has 14 of them in base64. */
const MAX_MESSAGE_BYTES = 64 * 1024 * 1024

/** What came and was not handed on yet; past either the browser waits. */
const MAX_WAITING = 256
const MAX_WAITING_BYTES = 16 * 1024 * 1024

/**
 * What a page can make the browser say as often and as long as it likes, and nobody here listens to. It is dropped unread, so that
 * a page that logs without end does not keep us from hearing anything else.
 */
const UNHEARD = [
  'Runtime.consoleAPICalled',
  'Runtime.exceptionThrown',
  'Log.entryAdded',
  'Network.webSocketFrameReceived',
  'Network.webSocketFrameSent',
].map((method) => Buffer.from(`{"method":"${method}"`))

const END = 0

/** In so many bytes from its beginning it is told what a message is, and in so many to its end for whom. */
const BEGINNING_BYTES = 64
const ENDING_BYTES = 256

/**
 * The browser's end of `--remote-debugging-pipe`: JSON texts, each ended by a zero byte. It has no port that others on this machine
 * could connect to, and ends with the browser.
 */
export class PipeTransport implements ConnectOverCDPTransport {
  onmessage?: (message: object) => void
  onclose?: (reason?: string) => void
  readonly #toBrowser: Writable
  readonly #fromBrowser: Readable
  #parts: Buffer[] = []
  #bytes = 0
  #waiting: Buffer[] = []
  #waitingBytes = 0
  #isHandingOn = false

  constructor(toBrowser: Writable, fromBrowser: Readable) {
    this.#toBrowser = toBrowser
    this.#fromBrowser = fromBrowser
  }

  /** Begins to read; Playwright does not ask for it. */
  open(): void {
    // It breaks with the browser, whose exit says all there is to say.
    this.#toBrowser.on('error', () => undefined)
    this.#fromBrowser.on('error', () => undefined)
    this.#fromBrowser.on('data', (chunk: Buffer) => this.#take(chunk))
    this.#fromBrowser.once('close', () => this.onclose?.('the browser is gone'))
  }

  send(message: object): void {
    if (this.#toBrowser.writable) this.#toBrowser.write(`${JSON.stringify(message)}\0`)
  }

  close(): void {
    this.#toBrowser.destroy()
    this.#fromBrowser.destroy()
  }

  #take(chunk: Buffer): void {
    let start = 0
    for (let end = chunk.indexOf(END); end !== -1; end = chunk.indexOf(END, start)) {
      this.#add(chunk.subarray(start, end))
      this.#end()
      start = end + 1
    }
    if (start < chunk.length) this.#add(chunk.subarray(start))
  }

  #add(part: Buffer): void {
    this.#bytes += part.length
    const [first] = this.#parts
    if (first === undefined) this.#parts = [part]
    else if (first.length < BEGINNING_BYTES) this.#parts = [Buffer.concat([first, part])]
    else if (this.#bytes <= MAX_MESSAGE_BYTES && !isUnheard(first)) this.#parts.push(part)
    // Of what nobody gets to see, the beginning and the end are kept.
    else this.#parts = [first, Buffer.concat(this.#parts.slice(1).concat(part)).subarray(-ENDING_BYTES)]
  }

  #end(): void {
    const [first] = this.#parts
    if (first !== undefined && !isUnheard(first)) {
      const message = this.#bytes > MAX_MESSAGE_BYTES ? refusalOf(this.#parts) : Buffer.concat(this.#parts)
      this.#waiting.push(message)
      this.#waitingBytes += message.length
    }
    this.#parts = []
    this.#bytes = 0
    if (this.#waiting.length > MAX_WAITING || this.#waitingBytes > MAX_WAITING_BYTES) this.#fromBrowser.pause()
    this.#handOn()
  }

  /** One message a turn of the event loop: Playwright counts on what one sets off being done before the next comes. */
  #handOn(): void {
    if (this.#isHandingOn) return
    this.#isHandingOn = true
    setImmediate(() => {
      this.#isHandingOn = false
      const message = this.#waiting.shift()
      if (message === undefined) return
      this.#waitingBytes -= message.length
      if (this.#waiting.length === 0) this.#fromBrowser.resume()
      else this.#handOn()
      if (message.length > 0) this.onmessage?.(JSON.parse(message.toString('utf8')))
    })
  }
}

function isUnheard(beginning: Buffer): boolean {
  return UNHEARD.some((method) => beginning.subarray(0, method.length).equals(method))
}

/** An answer that is too large is an error for whoever asked; an event that is, is nothing. */
function refusalOf(parts: readonly Buffer[]): Buffer {
  const id = /^\{"id":(\d+)/.exec(parts[0]?.toString('latin1') ?? '')?.[1]
  if (id === undefined) return Buffer.alloc(0)
  const sessionId = /"sessionId":"(\w+)"\}$/.exec(parts.at(-1)?.toString('latin1') ?? '')?.[1]
  const error = { code: -32000, message: "the browser's answer is too large" }
  return Buffer.from(JSON.stringify({ id: Number(id), error, ...(sessionId === undefined ? {} : { sessionId }) }))
}
