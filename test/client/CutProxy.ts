import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'

/** A TCP proxy before a server, which breaks connections as networks do. */
export class CutProxy {
  /**
   * After how many bytes of the server's each connection to come is broken, in order; the ones after those live. 0 is before the
   * answer, -1 before the server hears of it at all.
   */
  readonly cuts: number[] = []
  /** New connections are taken and nothing goes through them, in either direction. */
  holdsNew = false
  /** How many connections were taken. */
  connectionCount = 0
  #target: URL
  #port = 0
  #server: Server | undefined
  readonly #open = new Set<Socket>()

  constructor(server: string) {
    this.#target = new URL(server)
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`
  }

  /** Where connections go from now on. */
  aimAt(server: string): void {
    this.#target = new URL(server)
  }

  /** Takes connections, on the same port each time. */
  async up(): Promise<void> {
    const server = createServer((client) => this.#relay(client))
    server.listen(this.#port, '127.0.0.1')
    await once(server, 'listening')
    this.#server = server
    const { port } = server.address() as AddressInfo
    this.#port = port
  }

  /** Breaks every connection, and refuses new ones. */
  async down(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    server?.close()
    this.cut()
    if (server !== undefined) await once(server, 'close')
  }

  /** Breaks every connection. */
  cut(): void {
    for (const socket of this.#open) socket.destroy()
  }

  #relay(client: Socket): void {
    this.connectionCount += 1
    this.#track(client)
    if (this.holdsNew) return
    let left = this.cuts.shift() ?? Number.POSITIVE_INFINITY
    if (left < 0) {
      client.destroy()
      return
    }
    const server = connect(Number(this.#target.port), this.#target.hostname)
    this.#track(server)
    client.on('close', () => server.destroy())
    server.on('close', () => client.destroy())
    client.pipe(server)
    server.on('data', (bytes: Buffer) => {
      const passed = bytes.subarray(0, left)
      left -= passed.length
      client.write(passed)
      if (left > 0) return
      // What was passed shall arrive.
      server.pause()
      client.end(() => client.destroy())
    })
    server.on('end', () => client.end())
  }

  #track(socket: Socket): void {
    this.#open.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => this.#open.delete(socket))
  }
}

/** A proxy before `server` that ends with the test. */
export async function openProxy(server: string): Promise<CutProxy> {
  const proxy = new CutProxy(server)
  await proxy.up()
  onTestFinished(() => proxy.down())
  return proxy
}
