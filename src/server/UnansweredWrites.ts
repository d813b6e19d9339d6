import { readFile } from 'node:fs/promises'
import type { AddressInfo, Socket } from 'node:net'
import type { Clock } from '../clock.ts'
import {
  type ConnectionEnds,
  KERNEL_TABLES,
  parseEnds,
  type UnansweredConnection,
  unansweredIn,
} from './kernelTable.ts'
import type { ServerCounters } from './ServerCounters.ts'
import type { ServerLogger } from './ServerLogger.ts'
import type { OpenResponses } from './sse/OpenResponses.ts'

/**
 * So often may data be sent again without an answer. The kernel does so after 0.2 s (or, where that is longer, some round trips)
 * and then twice as late each time: the fifth is 6.2 s after the first sending, which is about what keep-alive takes on a silent
 * stream. Not fewer: a network that is away for some seconds and comes back is seen to be there again only by the next
 * retransmission, and must not end a job.
 */
const MAX_RETRANSMISSIONS = 5

/**
 * So many probes of a window that is shut may stay without an answer, as many as keep-alive sends. The longer a client has not
 * read, the rarer they are, up to one in two minutes, and each that is not answered makes the next twice as late: five would take
 * four times as long as three.
 */
const MAX_WINDOW_PROBES = 3

/**
 * For so long must nothing have been answered. Where the kernel is set to retransmit sooner (`rto_min` of a route,
 * `tcp_thin_linear_timeouts`) the limits above are reached within a second.
 */
const MIN_UNANSWERED_MS = 6000

/** Between two looks. */
const PAUSE_MS = 2000

/** Before the look that confirms: the answer to the retransmission that reached the limit may have been on its way. */
const CONFIRM_MS = 1000

/**
 * A pause is a hundred times as long as the look before took of a processor, so that looking takes one in a hundred of a core.
 * Measured (Node 26.10, Linux 6.18, a core of a small virtual machine): 6 ms a look with 1,000 connections, which is 0.4 % at one
 * in 2 s, and 28 ms with 10,000, at one in 2.8 s; of them 0.3 ms and 1.4 ms in the loop. The rest is the kernel's, in Node's
 * thread pool: 4 ms for its hash table of 262,144 places and 2.3 µs a connection. A pause is never longer than would do for about
 * 100,000, since whatever else the pool does during a look counts too.
 */
const PAUSE_PER_LOOK = 100
const MAX_PAUSE_MS = 30_000

/** Where there is no such table, there is none later either: not Linux, or not to be read. */
const NO_TABLE: readonly unknown[] = ['ENOENT', 'ENOTDIR', 'EACCES', 'EPERM']

/** What is known of a connection from the looks before. */
interface Suspicion {
  readonly sinceMs: number
  readonly isAtLimit: boolean
}

export interface UnansweredWritesOptions {
  readonly open: OpenResponses
  readonly clock: Clock
  readonly logger: ServerLogger
  readonly counters: ServerCounters
  /** Reads one of `KERNEL_TABLES`; default: from the file system. */
  readonly readTable?: (path: string) => Promise<Buffer>
  /** What Node's thread pool has used of a processor so far, in ms; default: as the system counts it. */
  readonly poolCpuMs?: () => number
}

/**
 * Finds clients that vanished without a word (the cable pulled, the lid closed) while they were being written to. Keep-alive does
 * not: data that waits for an answer suppresses its probes, and the kernel tries to send that for a quarter of an hour while its
 * buffer takes megabytes more. `TCP_USER_TIMEOUT` is made for this, but Node does not set it. So this looks, now and then, into the
 * kernel's table of connections, and destroys open responses whose client's machine has answered nothing for 6 to 9 s; 'close'
 * then tells the rest, as for any disconnect. A client that only reads slowly is never meant: its kernel answers.
 */
export class UnansweredWrites {
  readonly #open: OpenResponses
  readonly #clock: Clock
  readonly #logger: ServerLogger
  readonly #counters: ServerCounters
  readonly #readTable: (path: string) => Promise<Buffer>
  readonly #poolCpuMs: () => number
  #addresses: () => readonly AddressInfo[] = () => []
  /** By the connection's ends; of the last look alone, so it forgets what is answered or gone. */
  #suspicions: ReadonlyMap<string, Suspicion> = new Map()
  /** A look is under way, or a pause before one. */
  #isBusy = false
  /** Stopped, or there is no table. */
  #isOver = false
  #isFailing = false
  #cancelPause: (() => void) | undefined
  #look: Promise<void> | undefined

  constructor(options: UnansweredWritesOptions) {
    const {
      open,
      clock,
      logger,
      counters,
      readTable = (path) => readFile(path),
      poolCpuMs = usedByOtherThreads,
    } = options
    this.#open = open
    this.#clock = clock
    this.#logger = logger
    this.#counters = counters
    this.#readTable = readTable
    this.#poolCpuMs = poolCpuMs
  }

  /** Looks from now on while there are open responses. `addresses` says where the server listens, all with one port. */
  start(addresses: () => readonly AddressInfo[]): void {
    this.#addresses = addresses
    this.#open.whenOpened(() => this.#pause(PAUSE_MS))
  }

  /** Settles when no look is under way, and none will be. */
  async stop(): Promise<void> {
    this.#isOver = true
    this.#cancelPause?.()
    await this.#look
  }

  #pause(pauseMs: number): void {
    if (this.#isOver || this.#isBusy) return
    this.#isBusy = true
    this.#cancelPause = this.#clock.schedule(pauseMs, () => {
      this.#look = this.#lookAndGoOn()
    })
  }

  async #lookAndGoOn(): Promise<void> {
    if (this.#open.size === 0) {
      this.#isBusy = false
      return
    }
    // Not how long it takes: on a busy machine that says nothing, and a pause of half a minute would follow from one hiccup.
    const cpuMs = this.#poolCpuMs()
    let isUndecided = false
    try {
      isUndecided = this.#judge(await this.#unanswered())
      this.#isFailing = false
    } catch (error) {
      this.#onFailure(error)
    }
    this.#isBusy = false
    const usedMs = this.#poolCpuMs() - cpuMs
    const pauseMs = Math.max(isUndecided ? CONFIRM_MS : PAUSE_MS, usedMs * PAUSE_PER_LOOK)
    this.#pause(Math.min(pauseMs, MAX_PAUSE_MS))
  }

  async #unanswered(): Promise<readonly UnansweredConnection[]> {
    const addresses = this.#addresses()
    const families = new Set(addresses.map(({ family }) => (family === 'IPv6' ? 'IPv6' : 'IPv4')))
    const unanswered: UnansweredConnection[][] = []
    for (const family of families) {
      const table = await this.#readTable(KERNEL_TABLES[family])
      unanswered.push(unansweredIn(table, addresses[0]?.port ?? 0))
    }
    return unanswered.flat()
  }

  /** Whether there are connections that the next look decides on. */
  #judge(unanswered: readonly UnansweredConnection[]): boolean {
    const nowMs = this.#clock.monotonicMs()
    const suspicions = new Map<string, Suspicion>()
    const lost: ConnectionEnds[] = []
    let isUndecided = false
    for (const { ends, retransmissions, windowProbes } of unanswered) {
      const before = this.#suspicions.get(ends)
      const sinceMs = before?.sinceMs ?? nowMs
      const isAtLimit = retransmissions >= MAX_RETRANSMISSIONS || windowProbes >= MAX_WINDOW_PROBES
      suspicions.set(ends, { sinceMs, isAtLimit })
      if (!isAtLimit) continue
      if (before?.isAtLimit === true && nowMs - sinceMs >= MIN_UNANSWERED_MS) lost.push(parseEnds(ends))
      else isUndecided = true
    }
    this.#suspicions = suspicions
    if (lost.length > 0) this.#destroy(lost)
    return isUndecided
  }

  /** Connections that bear no open response are left alone: nothing is held by them. */
  #destroy(lost: readonly ConnectionEnds[]): void {
    const ports = new Set(lost.map(({ remotePort }) => remotePort))
    const names = new Set(lost.map(nameOf))
    for (const response of this.#open) {
      const { socket } = response
      // The port is at hand; for its own address, a socket has to ask the kernel.
      if (socket === null || !ports.has(socket.remotePort ?? 0) || !names.has(nameOf(socket))) continue
      this.#counters.vanishedClients += 1
      response.destroy()
    }
  }

  #onFailure(error: unknown): void {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (NO_TABLE.includes(code)) {
      this.#isOver = true
      this.#logger.info(
        { err: error },
        'clients that vanish while they are written to are found late: there is no table of connections',
      )
      return
    }
    if (!this.#isFailing)
      this.#logger.error({ err: error }, 'the table of connections could not be read; it is tried again')
    this.#isFailing = true
  }
}

/** Threads other than the loop's: those of the pool, mostly. */
function usedByOtherThreads(): number {
  const [all, own] = [process.cpuUsage(), process.threadCpuUsage()]
  return (all.user + all.system - own.user - own.system) / 1000
}

function nameOf({ localAddress, remoteAddress, remotePort }: Pick<Socket, keyof ConnectionEnds>): string {
  return `${withoutZone(localAddress)} ${withoutZone(remoteAddress)} ${remotePort}`
}

function withoutZone(address = ''): string {
  return address.split('%', 1)[0] ?? ''
}
