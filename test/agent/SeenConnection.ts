import type { Socket } from 'node:net'

/** A socket, as this end of it sees it. */
export class SeenConnection {
  readonly closed: Promise<void>
  requests = 0
  /** Who closed it first, and how; undefined while it is open. */
  closedBy: 'client FIN' | 'client RST' | 'server' | undefined
  /** By the clock of this process. */
  closedAtMs: number | undefined
  readonly #socket: Socket

  constructor(socket: Socket) {
    this.#socket = socket
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()))
    socket.once('end', () => this.#close('client FIN'))
    socket.on('error', () => this.#close('client RST'))
    socket.once('close', () => this.#close('server'))
  }

  get isOpen(): boolean {
    return this.closedBy === undefined
  }

  cut(how: 'FIN' | 'RST'): void {
    this.#close('server')
    if (how === 'RST') this.#socket.resetAndDestroy()
    else this.#socket.destroy()
  }

  #close(by: NonNullable<SeenConnection['closedBy']>): void {
    this.closedBy ??= by
    this.closedAtMs ??= performance.now()
  }
}
