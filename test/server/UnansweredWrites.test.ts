import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pino } from 'pino'
import { describe, expect, onTestFinished, test } from 'vitest'
import { Presence } from '../../src/server/Presence.ts'
import { zeroCounters } from '../../src/server/ServerCounters.ts'
import { StreamQuota } from '../../src/server/StreamQuota.ts'
import { LiveResponse } from '../../src/server/sse/LiveResponse.ts'
import { OpenResponses } from '../../src/server/sse/OpenResponses.ts'
import { UnansweredWrites } from '../../src/server/UnansweredWrites.ts'
import { ManualClock } from '../cancellation/ManualClock.ts'
import { RawClient } from './RawClient.ts'

const HEADING = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n'

interface Row {
  readonly retransmissions?: number
  readonly windowProbes?: number
  readonly localPort?: number
  readonly remotePort?: number
  /** As the table writes it. */
  readonly remoteAddress?: string
}

class SilentResponse extends LiveResponse {
  readonly kind = 'outcome'
  protected readonly sentEvents = 0
  protected readonly heartbeat = ''
  override onClosed(): void {}
  override shutDown(): void {}
}

/** A server's open responses, each on a socket of its own, and a kernel's table that says of them what the test wants. */
class Watched {
  readonly clock = new ManualClock()
  readonly counters = zeroCounters()
  readonly open = new OpenResponses(new ManualClock(), { heartbeatMs: 15_000, stallMs: 60_000 })
  readonly log: { level: number; msg: string }[] = []
  readonly looks: string[] = []
  cpuMs = 0
  /** What a look does: gives a table, or fails. */
  read: () => Promise<string> | string = () => HEADING
  readonly writes: UnansweredWrites
  readonly #server: Server
  readonly #responses: ServerResponse[] = []

  private constructor(server: Server) {
    this.#server = server
    server.on('request', (_request, response: ServerResponse) => this.#responses.push(response))
    this.writes = new UnansweredWrites({
      open: this.open,
      clock: this.clock,
      counters: this.counters,
      logger: pino({}, { write: (line) => this.log.push(JSON.parse(line)) }),
      readTable: async (path) => {
        this.looks.push(path)
        return Buffer.from(await this.read())
      },
      poolCpuMs: () => this.cpuMs,
    })
    this.writes.start(() => [this.address])
  }

  static async start(host = '127.0.0.1'): Promise<Watched> {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, host, resolve))
    onTestFinished(() => {
      server.closeAllConnections()
      server.close()
    })
    return new Watched(server)
  }

  get address(): AddressInfo {
    const address = this.#server.address()
    if (address === null || typeof address === 'string') throw new Error('the server has no port')
    return address
  }

  /** A response that stays open, seen from both ends. */
  async respond(): Promise<{ raw: ServerResponse; close: () => void }> {
    const client = await RawClient.connect(`http://127.0.0.1:${this.address.port}`)
    client.request({ path: '/' })
    const raw = await this.#next()
    const response = new SilentResponse(new Presence(raw, 'test', new StreamQuota(1), undefined), this.counters)
    this.open.add(response)
    return { raw, close: () => this.open.remove(response) }
  }

  /** Lets time pass, and looks that fall due come to their end. */
  async pass(ms: number): Promise<void> {
    this.clock.advance(ms)
    await new Promise((resolve) => setImmediate(resolve))
  }

  rowsOf(raw: ServerResponse, row: Row): string {
    const {
      retransmissions = 0,
      windowProbes = 0,
      localPort = this.address.port,
      remotePort,
      remoteAddress = '0100007F',
    } = row
    const port = remotePort ?? raw.socket?.remotePort ?? 0
    const timer = windowProbes > 0 ? '04' : '01'
    const ends = `0100007F:${hex(localPort, 4)} ${remoteAddress}:${hex(port, 4)}`
    const rest = `     0        ${windowProbes} 198128 3 00000000b5e824d7 22 0 0 138 -1\n`
    return `${HEADING}   0: ${ends} 01 000000DC:00000000 ${timer}:000001B8 ${hex(retransmissions, 8)}${rest}`
  }

  async #next(): Promise<ServerResponse> {
    for (;;) {
      const response = this.#responses.shift()
      if (response !== undefined) return response
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}

function hex(value: number, digits: number): string {
  return value.toString(16).toUpperCase().padStart(digits, '0')
}

function errorOf(code: string): Error {
  return Object.assign(new Error(code), { code })
}

describe('a response whose client answers nothing', () => {
  test('is destroyed at the fifth retransmission, once another look has seen it too', async () => {
    const watched = await Watched.start()
    const { raw } = await watched.respond()
    for (const retransmissions of [1, 3, 4, 5]) {
      watched.read = () => watched.rowsOf(raw, { retransmissions })
      await watched.pass(2000)
    }
    expect(raw.destroyed).toBe(false)
    await watched.pass(999)
    expect(watched.looks).toHaveLength(4)
    await watched.pass(1)
    expect(raw.destroyed).toBe(true)
    expect(watched.counters.vanishedClients).toBe(1)
  })

  test('is destroyed at the third probe of its window, where its window is shut', async () => {
    const watched = await Watched.start()
    const { raw } = await watched.respond()
    for (const windowProbes of [1, 1, 2, 2, 3]) {
      watched.read = () => watched.rowsOf(raw, { windowProbes })
      await watched.pass(2000)
    }
    expect(raw.destroyed).toBe(false)
    await watched.pass(1000)
    expect(raw.destroyed).toBe(true)
  })

  test('is let be where the answer to the last retransmission was on its way', async () => {
    const watched = await Watched.start()
    const { raw } = await watched.respond()
    for (const retransmissions of [1, 3, 4, 5]) {
      watched.read = () => watched.rowsOf(raw, { retransmissions })
      await watched.pass(2000)
    }
    watched.read = () => HEADING
    await watched.pass(60_000)
    expect(raw.destroyed).toBe(false)
  })

  test('is let be for six seconds, however soon its kernel sends again', async () => {
    const watched = await Watched.start()
    const { raw } = await watched.respond()
    watched.read = () => watched.rowsOf(raw, { retransmissions: 9 })
    for (const ms of [2000, 1000, 1000, 1000, 1000, 1000]) await watched.pass(ms)
    expect(raw.destroyed).toBe(false)
    await watched.pass(1000)
    expect(raw.destroyed).toBe(true)
  })

  test.each([
    ['of another client', { remoteAddress: '0200007F' }],
    ['of another port of its client', { remotePort: 1 }],
    ['of another port of the server', { localPort: 1 }],
    ['with an answer now and then', { retransmissions: 4 }],
    ['with probes that are answered', { retransmissions: 0, windowProbes: 2 }],
  ])('is not mistaken for a connection %s', async (_what, row) => {
    const watched = await Watched.start()
    const { raw } = await watched.respond()
    watched.read = () => watched.rowsOf(raw, { retransmissions: 15, ...row })
    for (let look = 0; look < 20; look += 1) await watched.pass(2000)
    expect(watched.looks.length).toBeGreaterThan(18)
    expect(raw.destroyed).toBe(false)
  })
})

describe('a look', () => {
  test('is taken every two seconds while there are open responses, and none otherwise', async () => {
    const watched = await Watched.start()
    expect(watched.clock.timers).toBe(0)
    const [first, second] = [await watched.respond(), await watched.respond()]
    for (let look = 0; look < 5; look += 1) await watched.pass(2000)
    expect(watched.looks).toHaveLength(5)
    first.close()
    await watched.pass(2000)
    second.close()
    await watched.pass(10_000)
    expect(watched.looks).toHaveLength(6)
    expect(watched.clock.timers).toBe(0)
    await watched.respond()
    await watched.pass(2000)
    expect(watched.looks).toHaveLength(7)
  })

  test.each([
    [5, 2000],
    [20, 2000],
    [29, 2900],
    [250, 25_000],
    [10_000, 30_000],
  ])('that takes %i ms of a processor is followed by a pause of %i', async (usedMs, pauseMs) => {
    const watched = await Watched.start()
    await watched.respond()
    watched.read = () => {
      watched.cpuMs += usedMs
      return HEADING
    }
    await watched.pass(2000)
    await watched.pass(pauseMs - 1)
    expect(watched.looks).toHaveLength(1)
    await watched.pass(1)
    expect(watched.looks).toHaveLength(2)
  })

  test.each([
    ['127.0.0.1', '/proc/net/tcp'],
    ['::', '/proc/net/tcp6'],
  ])('of a server at %s is at %s', async (host, path) => {
    const watched = await Watched.start(host)
    await watched.respond()
    await watched.pass(2000)
    expect(watched.looks).toEqual([path])
  })

  test.each(['ENOENT', 'EACCES'])('that fails with %s is the last one, and said to be so once', async (code) => {
    const watched = await Watched.start()
    const { close } = await watched.respond()
    watched.read = () => Promise.reject(errorOf(code))
    await watched.pass(2000)
    close()
    await watched.respond()
    await watched.pass(60_000)
    expect(watched.looks).toHaveLength(1)
    expect(watched.clock.timers).toBe(0)
    expect(watched.log).toMatchObject([{ level: 30, err: { code } }])
  })

  test('that fails otherwise is tried again, and each time of trouble said once', async () => {
    const watched = await Watched.start()
    await watched.respond()
    const fine = (): string => HEADING
    const fails = (): Promise<string> => Promise.reject(errorOf('EMFILE'))
    for (const read of [fails, fails, fine, fails, fails]) {
      watched.read = read
      await watched.pass(2000)
    }
    expect(watched.looks).toHaveLength(5)
    expect(watched.log).toMatchObject([
      { level: 50, err: { code: 'EMFILE' } },
      { level: 50, err: { code: 'EMFILE' } },
    ])
  })
})

describe('stopping', () => {
  test('takes the timer back, also twice', async () => {
    const watched = await Watched.start()
    await watched.respond()
    await Promise.all([watched.writes.stop(), watched.writes.stop()])
    expect(watched.clock.timers).toBe(0)
    await watched.respond()
    expect(watched.clock.timers).toBe(0)
  })

  test('waits for the look that is under way, which is the last', async () => {
    const watched = await Watched.start()
    await watched.respond()
    const table = Promise.withResolvers<string>()
    watched.read = () => table.promise
    await watched.pass(2000)
    let isStopped = false
    const stop = async (): Promise<void> => {
      await watched.writes.stop()
      isStopped = true
    }
    const stopped = stop()
    await watched.pass(10_000)
    expect(isStopped).toBe(false)
    table.resolve(HEADING)
    await stopped
    expect(watched.clock.timers).toBe(0)
  })
})
