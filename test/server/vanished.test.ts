import { mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseFrames } from '../world.ts'
import { Cable } from './far/Cable.ts'
import { FarClient } from './far/FarClient.ts'
import { FarServer } from './far/FarServer.ts'
import { Namespace, removeLeftovers, whyNoNamespaces } from './far/Namespace.ts'
import { patiently } from './far/patiently.ts'
import type { RawRequest } from './RawClient.ts'

const reason = whyNoNamespaces()
// A summary that counts skipped tests does not say which, or why.
if (reason !== undefined) process.stderr.write(`clients that vanish are not tested here: ${reason}\n`)

const VANISHED = { status: 'cancelled', cancellation: { cause: 'client_disconnected' } }
/** Longer than what is waited for, so that a test that fails says what that was. */
const TIMEOUT_MS = 90_000

/** No test sees as many ticks, or one that comes so late. */
const FOR_EVER = 1_000_000

/** Nothing is sent again between 3.1 s and 6.3 s after the first sending, so this outage ends while the limit is all but reached. */
const OUTAGE_MS = 4000

/** A window that was shut for long enough is probed as rarely as this; had the answers not counted, it had been found before. */
const RARE_PROBES_MS = 8000

const opened = new AsyncDisposableStack()
let machine: Namespace
/** As it is by default; its connections stand in the table for IPv4. */
let server: FarServer
/** One that is never silent for as long as keep-alive needs; its connections stand in the table for IPv6. */
let talkative: FarServer
let cables = 0

/** A client at a machine of its own. */
class Far {
  readonly client: FarClient
  readonly cable: Cable
  readonly #machine: Namespace

  private constructor(far: Namespace, cable: Cable, client: FarClient) {
    this.#machine = far
    this.cable = cable
    this.client = client
  }

  static async connect(to: FarServer, family: 'IPv4' | 'IPv6' = 'IPv4'): Promise<Far> {
    cables += 1
    const n = cables
    const far = await Namespace.open(`client${n}`)
    const cable = await Cable.plugIn(machine, far, n)
    return new Far(far, cable, new FarClient(far, cable.serverAddress[family], to.port))
  }

  /** The cable goes first, so the end of the client's program is told to nobody. */
  async vanish(): Promise<void> {
    await this.cable.pull()
    this.client.kill()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#machine[Symbol.asyncDispose]()
  }
}

function ticks(path: string, jobId: string, input: { intervalMs: number; bytes?: number; count?: number }): RawRequest {
  return { method: 'POST', path, body: { task: 'ticks', jobId, input: { count: FOR_EVER, ...input } } }
}

describe.skipIf(reason !== undefined)(
  `far away${reason === undefined ? '' : ` (not here: ${reason})`}`,
  { timeout: TIMEOUT_MS },
  () => {
    beforeAll(async () => {
      await removeLeftovers()
      const folder = mkdtempSync(join(tmpdir(), 'tether-far-'))
      opened.defer(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }))
      machine = opened.use(await Namespace.open('server'))
      ;[server, talkative] = await Promise.all([
        FarServer.start(machine, { DATA_DIR: join(folder, 'server'), HOST: '0.0.0.0' }),
        FarServer.start(machine, { DATA_DIR: join(folder, 'talkative'), HOST: '::', HEARTBEAT_MS: '2000' }),
      ])
    }, TIMEOUT_MS)

    afterAll(() => opened.disposeAsync())

    const STREAMS = {
      'a silent stream': { to: () => server, family: 'IPv4', intervalMs: FOR_EVER, path: '/execute/stream' },
      'a stream of 20 events/s': { to: () => server, family: 'IPv4', intervalMs: 50, path: '/execute/stream' },
      'a stream of 200 events/s': { to: () => server, family: 'IPv4', intervalMs: 5, path: '/execute/stream' },
      'a stream of heartbeats': { to: () => talkative, family: 'IPv6', intervalMs: FOR_EVER, path: '/execute/stream' },
      'a request that waits': { to: () => talkative, family: 'IPv4', intervalMs: FOR_EVER, path: '/execute' },
    } as const

    test.concurrent.each(Object.entries(STREAMS))(
      'a client that vanishes from %s is found, and its job ended',
      async (what, { to, family, intervalMs, path }) => {
        await using far = await Far.connect(to(), family)
        const id = `job-${what.replaceAll(/\W/g, '-')}`
        far.client.request(ticks(path, id, { intervalMs }))
        await far.client.until(path === '/execute' ? '\r\n\r\n' : intervalMs === FOR_EVER ? 'job.started' : 'tick 10')
        await far.vanish()
        expect(await to().ended(id)).toMatchObject(VANISHED)
      },
    )

    test.concurrent('a client that does not read and then vanishes is found, and its job ended', async () => {
      await using far = await Far.connect(server)
      far.client.request(ticks('/execute/stream', 'job-deaf', { intervalMs: 20, bytes: 8192 }))
      await far.client.until('tick 1.')
      far.client.stopReading()
      await patiently(
        () => 'its window is shut',
        () => server.endOf(far.cable.serverAddress.IPv4)?.isWindowShut,
      )
      await far.vanish()
      expect(await server.ended('job-deaf')).toMatchObject(VANISHED)
    })

    test.concurrent('a client that does not read and stays is let be, however long', async () => {
      await using far = await Far.connect(server)
      far.client.request(ticks('/execute/stream', 'job-stays', { intervalMs: 20, bytes: 8192 }))
      await far.client.until('tick 1.')
      far.client.stopReading()
      await patiently(
        () => `its window is probed rarely: ${JSON.stringify(server.endOf(far.cable.serverAddress.IPv4))}`,
        () => {
          const end = server.endOf(far.cable.serverAddress.IPv4)
          return end?.isWindowShut === true && end.timerMs > RARE_PROBES_MS
        },
      )
      expect(server.job('job-stays')).toMatchObject({ status: 'running' })
      const { length } = far.client.received
      far.client.readOn()
      await patiently(
        () => 'it reads on',
        () => far.client.received.length > length + 1_000_000,
      )
      expect(server.job('job-stays')).toMatchObject({ status: 'running' })
    })

    test.concurrent('a network that comes back after some seconds has cost nothing', async () => {
      await using far = await Far.connect(server)
      far.client.request(ticks('/execute/stream', 'job-outage', { intervalMs: 50, count: 300 }))
      await far.client.until('tick 10\\n')
      await far.cable.pull()
      // The outage's length is the test's subject.
      await new Promise((resolve) => setTimeout(resolve, OUTAGE_MS))
      await far.cable.putBack()
      await far.client.until('event: job.succeeded')
      const events = parseFrames(far.client.received)
      expect(events.map((event) => event.seq)).toEqual(events.map((_, index) => index + 1))
      const text = events.map((event) => (event.type === 'output' ? event.text : '')).join('')
      expect(text).toBe(Array.from({ length: 300 }, (_, n) => `tick ${n + 1}\n`).join(''))
      expect(await server.ended('job-outage')).toMatchObject({ status: 'succeeded' })
    })

    test.concurrent('a client that only looks on and vanishes is found too', async () => {
      await using far = await Far.connect(talkative)
      far.client.request({ path: '/jobs/events' })
      await far.client.until('retry:')
      expect(talkative.endOf(far.cable.serverAddress.IPv4)).toBeDefined()
      await far.vanish()
      await patiently(
        () => 'its connection is gone',
        () => talkative.endOf(far.cable.serverAddress.IPv4) === undefined,
      )
    })
  },
)
