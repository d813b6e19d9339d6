import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

const LOOPBACK = '127.0.0.1'

/**
 * Passes each connection on to the next of several servers on this machine that takes it, byte for byte, and tells either side how
 * the other one went: with FIN or with RST. What HTTP sends over one connection stays with one server.
 */
export class RoundRobinProxy {
  readonly #ports: readonly number[]
  readonly #server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => void this.#join(client))
  readonly #open = new Set<Socket>()
  /** By the port of a client, those of the servers which its connections from there went to: ports are used again. */
  readonly #serverPorts = new Map<number, Set<number>>()
  #next = 0
  #port = 0
  #closed: Promise<void> | undefined

  private constructor(ports: readonly number[]) {
    this.#ports = ports
  }

  /** Settles when it listens on `port`, or on a free one for 0. Rejects where that cannot be had. */
  static async listen(port: number, serverPorts: readonly number[]): Promise<RoundRobinProxy> {
    const proxy = new RoundRobinProxy(serverPorts)
    proxy.#server.listen(port, LOOPBACK)
    await once(proxy.#server, 'listening')
    const address = proxy.#server.address()
    if (address === null || typeof address === 'string') throw new Error('a server on a port must have one')
    proxy.#port = address.port
    return proxy
  }

  get url(): URL {
    return new URL(`http://${LOOPBACK}:${this.#port}`)
  }

  /** Whether a connection from this port of a client went to the server on that port. */
  wentTo(clientPort: number, serverPort: number): boolean {
    return this.#serverPorts.get(clientPort)?.has(serverPort) ?? false
  }

  /** Settles when nothing is open any more. Twice is harmless. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    for (const socket of this.#open) socket.destroy()
    await closed
  }

  async #join(client: Socket): Promise<void> {
    this.#keep(client)
    const { remotePort = 0 } = client
    const server = await this.#connectToNext()
    if (server === undefined) {
      client.resetAndDestroy()
      return
    }
    // It may have left meanwhile.
    if (client.destroyed) {
      server.destroy()
      return
    }
    const serverPorts = this.#serverPorts.get(remotePort) ?? new Set()
    this.#serverPorts.set(remotePort, serverPorts.add(server.remotePort ?? 0))
    passOn(client, server)
    passOn(server, client)
  }

  async #connectToNext(): Promise<Socket | undefined> {
    for (let tries = 0; tries < this.#ports.length; tries += 1) {
      const port = this.#ports[this.#next % this.#ports.length] ?? 0
      this.#next += 1
      const socket = connect({ host: LOOPBACK, port, allowHalfOpen: true, noDelay: true })
      this.#keep(socket)
      try {
        await once(socket, 'connect')
        return socket
      } catch {
        // This one is dead, whatever the error says: the next may be alive.
      }
    }
    return undefined
  }

  #keep(socket: Socket): void {
    this.#open.add(socket)
    // What it means for the other side is told when it closes.
    socket.on('error', () => undefined)
    socket.on('close', () => this.#open.delete(socket))
  }
}

/** The end of what `from` says is passed on by itself, behind the last byte; this is for the other ways to leave. */
function passOn(from: Socket, to: Socket): void {
  from.pipe(to)
  from.once('close', (hadError) => {
    if (hadError) to.resetAndDestroy()
    else if (!from.readableEnded) to.destroy()
  })
}
