import { connect, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'

export interface RawRequest {
  readonly method?: string
  readonly path: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
}

/** A connection of which the test says every byte: what an HTTP library would hide is what is looked at here. */
export class RawClient {
  readonly socket: Socket
  /** Everything that came, as text. */
  received = ''
  /** One text for each time that the kernel had something. */
  readonly chunks: string[] = []
  readonly closed: Promise<void>
  #isClosed = false

  private constructor(socket: Socket) {
    this.socket = socket
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#isClosed = true
        resolve()
      })
    })
    // A reset is what some tests are about, and 'close' follows it.
    socket.on('error', () => undefined)
  }

  static async connect(
    url: string,
    options: { readonly isReading?: boolean; readonly allowHalfOpen?: boolean } = {},
  ): Promise<RawClient> {
    const { hostname, port } = new URL(url)
    const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: options.allowHalfOpen ?? false })
    const client = new RawClient(socket)
    onTestFinished(() => void socket.destroy())
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    if (options.isReading !== false) client.read()
    return client
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  read(): void {
    this.socket.setEncoding('utf8')
    this.socket.on('data', (chunk: string) => {
      this.received += chunk
      this.chunks.push(chunk)
    })
  }

  request({ method = 'GET', path, headers = {}, body }: RawRequest): void {
    this.socket.write(textOf({ method, path, headers, body }))
  }

  /** Settles when `text` has come. */
  async until(text: string | RegExp): Promise<void> {
    const deadline = performance.now() + 10_000
    while (typeof text === 'string' ? !this.received.includes(text) : !text.test(this.received)) {
      if (this.#isClosed) throw new Error(`the connection closed before ${text}; got: ${this.received}`)
      if (performance.now() > deadline) throw new Error(`${text} did not come within 10 s; got: ${this.received}`)
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }
}

export function textOf({ method = 'GET', path, headers = {}, body }: RawRequest): string {
  const text = body === undefined ? '' : JSON.stringify(body)
  const all = {
    host: 'localhost',
    ...(body === undefined
      ? {}
      : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(text)) }),
    ...headers,
  }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${text}`
}
