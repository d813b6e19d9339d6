import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'
import { MessageFilter } from './MessageFilter.ts'

/** One connection of a client, and ours to the server that goes with it. */
interface Pair {
  readonly client: Socket
  readonly server: Socket
  readonly heldRequests: Buffer[]
  losesAnswers: boolean
}

/** Stands between a store and Redis, and lets a connection be cut at any place: before a command arrived, or after. */
export class RedisProxy {
  readonly #server: Server
  readonly #pairs: Pair[] = []
  /** What the client sends from now on arrives later, with `deliver`, even where its connection is cut meanwhile. */
  holdsRequests = false
  /** What the server answers from now on is lost. */
  losesAnswers = false
  /** Whether the next message of a channel is lost. */
  dropsMessage: () => boolean = () => false
  /** Of the server that the next connections lead to. */
  target: number
  #port = 0

  private constructor(port: number) {
    this.target = port
    this.#server = createServer((client) => this.#join(client, connect(this.target, '127.0.0.1')))
  }

  /** It ends with the test. */
  static async start(port: number): Promise<RedisProxy> {
    const proxy = new RedisProxy(port)
    await proxy.up()
    onTestFinished(() => {
      proxy.#server.close()
      for (const { client, server } of proxy.#pairs) {
        client.destroy()
        server.destroy()
      }
    })
    return proxy
  }

  get url(): string {
    return `redis://127.0.0.1:${this.#port}`
  }

  /** Takes connections, on the same port each time. */
  async up(): Promise<void> {
    this.#server.listen(this.#port, '127.0.0.1')
    await once(this.#server, 'listening')
    const address = this.#server.address()
    if (address !== null && typeof address !== 'string') this.#port = address.port
  }

  /** Refuses new connections. */
  down(): void {
    this.#server.close()
  }

  /** How many bytes wait for `deliver`. */
  get heldBytes(): number {
    return this.#pairs.flatMap(({ heldRequests }) => heldRequests).reduce((sum, { length }) => sum + length, 0)
  }

  /** Cuts every connection at the client's end; the server does not notice. */
  cut(): void {
    for (const { client } of this.#pairs) client.destroy()
  }

  /** What the server answers on the connections of now is lost, and nobody is told. */
  silence(): void {
    for (const pair of this.#pairs) pair.losesAnswers = true
  }

  /** What was held arrives, on the connection on which it was sent. */
  deliver(): void {
    for (const { server, heldRequests } of this.#pairs) {
      for (const chunk of heldRequests.splice(0)) server.write(chunk)
    }
  }

  #join(client: Socket, server: Socket): void {
    const pair: Pair = { client, server, heldRequests: [], losesAnswers: false }
    this.#pairs.push(pair)
    for (const socket of [client, server]) socket.on('error', () => undefined)
    client.on('data', (chunk: Buffer) => {
      if (this.holdsRequests) pair.heldRequests.push(chunk)
      else server.write(chunk)
    })
    const filter = new MessageFilter(() => this.dropsMessage())
    server.on('data', (chunk: Buffer) => {
      const passed = filter.pass(chunk)
      if (!this.losesAnswers && !pair.losesAnswers && client.writable) client.write(passed)
    })
    server.on('close', () => client.destroy())
  }
}
