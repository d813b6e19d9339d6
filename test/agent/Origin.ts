import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'
import { eventually } from '../world.ts'
import { SeenConnection } from './SeenConnection.ts'

/** Called once a request's head is there, with all that has come so far, which grows with what follows. */
export type Handler = (socket: Socket, received: { text: string }, connection: SeenConnection) => void

/** A server of which a test says every byte, and which sees how its sockets end. */
export class Origin {
  readonly connections: SeenConnection[] = []
  /** What came on each connection. */
  readonly received: { text: string }[] = []
  readonly #handler: Handler
  readonly #server = createServer({ allowHalfOpen: true }, (socket) => this.#take(socket))

  private constructor(handler: Handler) {
    this.#handler = handler
  }

  static async start(handler: Handler = () => undefined): Promise<Origin> {
    const origin = new Origin(handler)
    origin.#server.listen(0, '127.0.0.1')
    await once(origin.#server, 'listening')
    onTestFinished(async () => {
      await origin.untilClosed()
      origin.#server.close()
    })
    return origin
  }

  get host(): string {
    const address = this.#server.address()
    if (address === null || typeof address === 'string') throw new Error('the origin listens on no port')
    return `127.0.0.1:${address.port}`
  }

  get url(): string {
    return `http://${this.host}`
  }

  /** Settles when all of its sockets were closed; gives how. */
  async untilClosed(): Promise<readonly (string | undefined)[]> {
    await eventually('the origin sees its sockets closed', () => this.connections.every(({ isOpen }) => !isOpen))
    return this.connections.map(({ closedBy }) => closedBy)
  }

  #take(socket: Socket): void {
    const connection = new SeenConnection(socket)
    const received = { text: '' }
    this.connections.push(connection)
    this.received.push(received)
    // What is half open would stay so.
    socket.once('end', () => socket.destroy())
    let heads = 0
    socket.on('data', (bytes: Buffer) => {
      received.text += bytes.toString('latin1')
      const seen = received.text.split('\r\n\r\n').length - 1
      if (seen <= heads) return
      heads = seen
      connection.requests += 1
      this.#handler(socket, received, connection)
    })
  }
}

/** An answer that is whole. */
export function answerOf(body: string, head = ''): string {
  return `HTTP/1.1 200 OK\r\ncontent-length: ${Buffer.byteLength(body)}\r\n${head}\r\n${body}`
}
