import { connect, type Socket } from 'node:net'

/** Streams that are begun alike. */
export interface StreamOrder {
  readonly url: string
  readonly path: string
  /** Left out: the stream is asked for with GET. */
  readonly body?: string
  /** A stream counts as begun once this stands in what it sent. */
  readonly begunBy: string
}

/** A stream as cheap as a reader can be: it counts bytes and keeps the last two pieces, in which the last event's number is. */
export class StreamSocket {
  bytes = 0
  readonly #socket: Socket
  readonly #begun = Promise.withResolvers<void>()
  readonly #begunBy: string
  #head = ''
  #hasBegun = false
  #before: Buffer = Buffer.alloc(0)
  #last: Buffer = Buffer.alloc(0)

  constructor({ url, path, body, begunBy }: StreamOrder) {
    const { hostname, port, host } = new URL(url)
    const length =
      body === undefined ? '' : `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n`
    this.#begunBy = begunBy
    const socket = connect({ host: hostname, port: Number(port), noDelay: true })
    socket.on('data', (bytes: Buffer) => this.#take(bytes))
    socket.on('error', (error) => this.#begun.reject(error))
    socket.on('close', () => this.#begun.reject(new Error(`the stream ended before it had begun: ${this.#head}`)))
    socket.write(
      `${body === undefined ? 'GET' : 'POST'} ${path} HTTP/1.1\r\nhost: ${host}\r\n${length}\r\n${body ?? ''}`,
    )
    this.#socket = socket
  }

  get begun(): Promise<void> {
    return this.#begun.promise
  }

  /** Reads nothing more until `resume`: what comes waits in the kernel, and then in the server. */
  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  /** Calls `listener` with each piece that comes. */
  onBytes(listener: (bytes: Buffer) => void): void {
    this.#socket.on('data', listener)
  }

  get jobId(): string {
    const id = /^x-tether-job-id: (.*)$/im.exec(this.#head)?.[1]?.trim()
    if (id === undefined) throw new Error(`the stream named no job: ${this.#head.slice(0, 500)}`)
    return id
  }

  /** The last number that stands after `mark` in what came; 0 where there is none. */
  lastNumberAfter(mark: string): number {
    const text = Buffer.concat([this.#before, this.#last]).toString('latin1')
    const at = text.lastIndexOf(mark)
    return at === -1 ? 0 : Number.parseInt(text.slice(at + mark.length, at + mark.length + 16), 10)
  }

  drop(how: 'fin' | 'rst'): void {
    if (how === 'rst') this.#socket.resetAndDestroy()
    else this.#socket.destroy()
  }

  #take(bytes: Buffer): void {
    this.bytes += bytes.length
    this.#before = this.#last
    this.#last = bytes
    if (this.#hasBegun) return
    this.#head += bytes.toString('latin1')
    if (!this.#head.includes(this.#begunBy)) return
    this.#hasBegun = true
    this.#begun.resolve()
  }
}
