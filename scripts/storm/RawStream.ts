import { connect, type Socket } from 'node:net'
import { type SseFrame, SseParser } from '../../src/client/SseParser.ts'
import type { Leave } from './plan.ts'

const HEAD_END = '\r\n\r\n'
const LINE_END = '\r\n'

/**
 * One HTTP/1.1 exchange over a socket of its own, with nothing between us and the socket: what leaves, and when, and whether
 * with FIN or RST, is ours to say. Reads the answer as server-sent events in chunks (RFC 9112, section 7.1).
 */
export class RawStream {
  readonly #socket: Socket
  readonly #parser = new SseParser()
  readonly #closed = Promise.withResolvers<void>()
  readonly #headSeen = Promise.withResolvers<void>()
  readonly #finished = Promise.withResolvers<boolean>()
  readonly #typesSeen = new Set<string>()
  #unparsed: Buffer = Buffer.alloc(0)
  #status: number | undefined
  #jobId: string | undefined
  #lastSeq = 0
  #lastType = ''
  #chunkLeft = 0
  #hasLeft = false
  #isClosed = false
  #isFinished = false
  #localPort = 0
  #problem: string | undefined
  #waiting: { readonly wanted: (type: string) => boolean; readonly resolve: (isSeen: boolean) => void } | undefined

  private constructor(socket: Socket, afterSeq: number) {
    this.#socket = socket
    this.#lastSeq = afterSeq
  }

  /**
   * Settles when the connection is there; nothing has been sent. Rejects where there is none. The events that come must follow
   * `afterSeq` without a gap.
   */
  static async open(url: URL, afterSeq = 0): Promise<RawStream> {
    // The other side's FIN ends the stream; ours need not, which is what `end` is about.
    const socket = connect({ host: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port), noDelay: true })
    const stream = new RawStream(socket, afterSeq)
    socket.on('data', (bytes: Buffer) => stream.#take(bytes))
    const connected = new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    socket.on('error', (error) => stream.#fail(error.message))
    socket.on('close', () => stream.#close())
    await connected
    stream.#localPort = socket.localPort ?? 0
    return stream
  }

  /** Of our end; the same once it is closed. */
  get localPort(): number {
    return this.#localPort
  }

  get status(): number | undefined {
    return this.#status
  }

  get jobId(): string | undefined {
    return this.#jobId
  }

  /** The number of the last event that came. */
  get lastSeq(): number {
    return this.#lastSeq
  }

  /** The type of the last event that came. */
  get lastType(): string {
    return this.#lastType
  }

  /** What was wrong with what came, or that the connection broke before we left it. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** Settles when the connection is closed, by whichever side. */
  get closed(): Promise<void> {
    return this.#closed.promise
  }

  /** Settles when the answer has begun, or when the connection is closed without one. */
  get answered(): Promise<void> {
    return this.#headSeen.promise
  }

  /** Settles with whether the answer came to its own end; `false` when the connection was closed before. */
  get finished(): Promise<boolean> {
    return this.#finished.promise
  }

  send(bytes: Buffer): Promise<void> {
    return new Promise((resolve) => this.#socket.write(bytes, () => resolve()))
  }

  /** Settles with whether an event of such a type came, or has come before; `false` when the answer was over first. */
  until(wanted: (type: string) => boolean): Promise<boolean> {
    if ([...this.#typesSeen].some(wanted)) return Promise.resolve(true)
    if (this.#isClosed || this.#isFinished) return Promise.resolve(false)
    return new Promise((resolve) => {
      this.#waiting = { wanted, resolve }
    })
  }

  /** The wall time at which it left. */
  leave(how: Leave): number {
    this.#hasLeft = true
    const at = Date.now()
    if (how === 'reset') this.#socket.resetAndDestroy()
    else if (how === 'destroy') this.#socket.destroy()
    else this.#socket.end()
    return at
  }

  #take(bytes: Buffer): void {
    this.#unparsed = this.#unparsed.length === 0 ? bytes : Buffer.concat([this.#unparsed, bytes])
    if (this.#status === undefined && !this.#takeHead()) return
    while (this.#takeChunk()) {}
  }

  #takeHead(): boolean {
    const end = this.#unparsed.indexOf(HEAD_END)
    if (end === -1) return false
    const head = this.#unparsed.toString('latin1', 0, end)
    this.#unparsed = this.#unparsed.subarray(end + HEAD_END.length)
    this.#status = Number(head.slice('HTTP/1.1 '.length, 'HTTP/1.1 '.length + 3))
    this.#jobId = /^x-tether-job-id: (.*)$/im.exec(head)?.[1]?.trim()
    this.#headSeen.resolve()
    return true
  }

  /** Whether there was something of a chunk to take. */
  #takeChunk(): boolean {
    if (this.#chunkLeft === 0) {
      const end = this.#unparsed.indexOf(LINE_END)
      if (end === -1) return false
      const size = this.#unparsed.toString('latin1', 0, end)
      // Each chunk ends with an empty line of its own, which stands before the next one's size.
      if (size !== '') this.#chunkLeft = Number.parseInt(size, 16)
      if (size === '0') this.#finish()
      this.#unparsed = this.#unparsed.subarray(end + LINE_END.length)
      return true
    }
    if (this.#unparsed.length === 0) return false
    const piece = this.#unparsed.subarray(0, this.#chunkLeft)
    this.#chunkLeft -= piece.length
    this.#unparsed = this.#unparsed.subarray(piece.length)
    for (const frame of this.#parser.push(piece)) this.#seen(frame)
    return true
  }

  #finish(): void {
    this.#isFinished = true
    this.#finished.resolve(true)
    this.#waiting?.resolve(false)
    this.#waiting = undefined
  }

  #seen(frame: SseFrame): void {
    if (frame.event !== 'gap') {
      const seq = Number(frame.id)
      if (seq !== this.#lastSeq + 1) this.#fail(`event ${seq} came after ${this.#lastSeq}`)
      this.#lastSeq = seq
      this.#lastType = frame.event
    }
    this.#typesSeen.add(frame.event)
    if (this.#waiting?.wanted(frame.event) !== true) return
    const { resolve } = this.#waiting
    this.#waiting = undefined
    resolve(true)
  }

  #fail(problem: string): void {
    // A connection that we left may break as it likes.
    if (!this.#hasLeft) this.#problem ??= problem
  }

  #close(): void {
    this.#isClosed = true
    this.#closed.resolve()
    this.#headSeen.resolve()
    this.#finished.resolve(false)
    this.#waiting?.resolve(false)
    this.#waiting = undefined
  }
}
