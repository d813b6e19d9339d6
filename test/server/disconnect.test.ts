import { describe, expect, test } from 'vitest'
import { parseJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT } from '../../src/job/key.ts'
import type { StoreChange } from '../../src/store/JobStore.ts'
import type { Tether } from '../../src/tether.ts'
import { eventsOf, eventually, Gate, HeldStore, openWorld, taskOf, typesOf } from '../world.ts'
import { RawClient, textOf } from './RawClient.ts'
import { ask, jobOf, startJob } from './requests.ts'

const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))
const ID = 'job-12345'
const REF = { tenant: DEFAULT_TENANT, id: parseJobId(ID) }
const START = { task: 'waits', jobId: ID }

const LEAVINGS = {
  FIN: (client: RawClient) => client.socket.end(),
  RST: (client: RawClient) => client.socket.resetAndDestroy(),
} as const

/** How a holder attaches to the job ID, which its request starts where it is not there. */
const HOLDERS = {
  'POST /execute/stream': { method: 'POST', path: '/execute/stream', body: START },
  'POST /execute': { method: 'POST', path: '/execute', body: START },
} as const

const CASES = Object.keys(HOLDERS).flatMap((route) => Object.keys(LEAVINGS).map((how) => [route, how] as const))

function isCreate(changes: readonly StoreChange[]): boolean {
  return changes.some((change) => change.kind === 'create')
}

async function untilEnded(url: string): Promise<void> {
  await eventually(`${ID} has ended`, async () => (await jobOf(url, ID)).terminal)
}

function pick<T extends object>(table: T, key: string): T[keyof T] {
  const found = Object.entries(table).find(([name]) => name === key)?.[1]
  if (found === undefined) throw new Error(`there is no ${key}`)
  return found
}

/** A store whose creations of jobs wait for `gate`. */
async function worldWithHeldCreation(gate: Gate): Promise<{ tether: Tether; held: HeldStore }> {
  const all: HeldStore[] = []
  const tether = await openWorld({
    // One stream at a time: that there is room again says that the server saw the first one go.
    settings: { MAX_STREAMS_PER_CLIENT: '1' },
    tasks: [waits],
    wrapStore: (store) => {
      const held = new HeldStore(store)
      held.holdCommits((changes) => (isCreate(changes) ? gate.opened : Promise.resolve()))
      all.push(held)
      return held
    },
  })
  const [held] = all
  if (held === undefined) throw new Error('the store was not wrapped')
  return { tether, held }
}

async function untilRoom(url: string): Promise<void> {
  await eventually('the server has seen the client leave', async () => {
    const client = await RawClient.connect(url)
    client.request({ path: '/jobs/events' })
    await client.until(/\r\n\r\n/)
    client.socket.destroy()
    return client.received.startsWith('HTTP/1.1 200')
  })
}

describe.each(CASES)('%s that is left with %s', (route, how) => {
  const leave = pick(LEAVINGS, how)
  const request = pick(HOLDERS, route)

  test('while its job runs ends the job', async () => {
    const tether = await openWorld({ tasks: [waits] })
    const client = await RawClient.connect(tether.url)
    client.request(request)
    await client.until(/\r\n\r\n/)
    await eventually('it runs', async () => (await jobOf(tether.url, ID)).status === 'running')
    leave(client)
    await untilEnded(tether.url)
    expect(await jobOf(tether.url, ID)).toMatchObject({
      status: 'cancelled',
      cancellation: { cause: 'client_disconnected' },
    })
  })

  test('while its job is being recorded: the job is recorded, then ended, and nothing is written', async () => {
    const gate = new Gate()
    const { tether, held } = await worldWithHeldCreation(gate)
    const client = await RawClient.connect(tether.url)
    client.request(request)
    await eventually('the job is being recorded', () => held.asked.some(isCreate))
    leave(client)
    await untilRoom(tether.url)
    gate.open()
    await untilEnded(tether.url)
    expect(await jobOf(tether.url, ID)).toMatchObject({
      status: 'cancelled',
      cancellation: { cause: 'client_disconnected' },
    })
    expect(typesOf(await eventsOf(tether, REF))).not.toContain('output')
    expect(client.received).toBe('')
  })

  test('before its body is whole starts nothing', async () => {
    const { url } = await openWorld({ settings: { MAX_STREAMS_PER_CLIENT: '1' }, tasks: [waits] })
    const client = await RawClient.connect(url)
    client.socket.write(textOf(request).slice(0, -5))
    await eventually(
      'the request has begun',
      async () => (await ask(url, '/execute', { body: { task: 'nothing' } })).status === 429,
    )
    leave(client)
    await untilRoom(url)
    expect((await ask(url, '/jobs')).json).toMatchObject({ jobs: [] })
  })
})

describe('a client that', () => {
  test.each(Object.keys(LEAVINGS))('only looks and leaves with %s ends nothing', async (how) => {
    const ends = new Gate()
    const slow = taskOf('slow', async () => ends.opened)
    const { url } = await openWorld({ settings: { MAX_STREAMS_PER_CLIENT: '1' }, tasks: [slow] })
    await startJob(url, { task: 'slow', jobId: ID, onDisconnect: 'cancel' })
    const client = await RawClient.connect(url)
    client.request({ path: `/jobs/${ID}/events` })
    await client.until('job.started')
    pick(LEAVINGS, how)(client)
    await untilRoom(url)
    expect((await jobOf(url, ID)).status).toBe('running')
    ends.open()
    await untilEnded(url)
    expect((await jobOf(url, ID)).status).toBe('succeeded')
  })

  test('attached with ?hold=true and leaves ends the job', async () => {
    const { url } = await openWorld({ tasks: [waits] })
    await startJob(url, { task: 'waits', jobId: ID, onDisconnect: 'stop' })
    const client = await RawClient.connect(url)
    client.request({ path: `/jobs/${ID}/events?hold=true` })
    await client.until('job.started')
    client.socket.destroy()
    await untilEnded(url)
    expect(await jobOf(url, ID)).toMatchObject({ status: 'stopped', stop: { cause: 'client_disconnected' } })
  })

  test('leaves while another holds ends nothing; the last one does', async () => {
    const { url } = await openWorld({ settings: { MAX_STREAMS_PER_CLIENT: '2' }, tasks: [waits] })
    const [first, second] = [await RawClient.connect(url), await RawClient.connect(url)]
    for (const client of [first, second]) {
      client.request(HOLDERS['POST /execute/stream'])
      await client.until('job.started')
    }
    first.socket.destroy()
    await untilRoom(url)
    expect((await jobOf(url, ID)).status).toBe('running')
    second.socket.destroy()
    await untilEnded(url)
  })

  test('closes its side only has left', async () => {
    const { url } = await openWorld({ tasks: [waits] })
    const client = await RawClient.connect(url, { allowHalfOpen: true })
    client.request(HOLDERS['POST /execute/stream'])
    await client.until('job.started')
    client.socket.end()
    await untilEnded(url)
    await client.closed
    expect(await jobOf(url, ID)).toMatchObject({ cancellation: { cause: 'client_disconnected' } })
  })

  test('sends a GET with a body that nobody reads is seen to leave', async () => {
    const { url } = await openWorld({ tasks: [waits] })
    await startJob(url, { task: 'waits', jobId: ID, onDisconnect: 'cancel' })
    const client = await RawClient.connect(url)
    client.request({ path: `/jobs/${ID}/events?hold=true`, headers: { 'content-length': '50000000' } })
    client.socket.write('x'.repeat(4_000_000))
    await client.until('job.started')
    client.socket.resetAndDestroy()
    await untilEnded(url)
  })

  test('leaves while it waits for a cancel withdraws nothing', async () => {
    const ends = new Gate()
    const stubborn = taskOf('stubborn', async () => ends.opened)
    const { url } = await openWorld({ tasks: [stubborn] })
    await startJob(url, { task: 'stubborn', jobId: ID })
    await eventually('it runs', async () => (await jobOf(url, ID)).status === 'running')
    const client = await RawClient.connect(url)
    client.request({ method: 'POST', path: `/jobs/${ID}/cancel?wait=60` })
    await eventually('it is asked', async () => (await jobOf(url, ID)).status === 'cancelling')
    client.socket.resetAndDestroy()
    ends.open()
    await untilEnded(url)
    expect((await jobOf(url, ID)).status).toBe('cancelled')
  })

  test('asks for the head of a stream starts nothing', async () => {
    const { url } = await openWorld({ tasks: [waits] })
    const client = await RawClient.connect(url)
    client.request({ ...HOLDERS['POST /execute/stream'], method: 'HEAD' })
    await client.until('HTTP/1.1 404 Not Found')
    expect((await ask(url, '/jobs')).json).toMatchObject({ jobs: [] })
  })

  test('pipelines a stream behind another request is refused it, and no job is started', async () => {
    const ends = new Gate()
    const slow = taskOf('slow', async () => ends.opened)
    const { url } = await openWorld({ tasks: [slow, waits] })
    const client = await RawClient.connect(url)
    client.socket.write(
      textOf({ method: 'POST', path: '/execute', body: { task: 'slow' } }) + textOf(HOLDERS['POST /execute/stream']),
    )
    await client.until('HTTP/1.1 200 OK')
    ends.open()
    await client.until('HTTP/1.1 400 Bad Request')
    expect(client.received).toContain('a stream must not be pipelined behind another request')
    expect((await ask(url, `/jobs/${ID}`)).status).toBe(404)
  })

  test('pipelines another request behind its stream keeps the stream', async () => {
    const { url } = await openWorld()
    const client = await RawClient.connect(url)
    const body = { task: 'ticks', input: { count: 3, intervalMs: 5 } }
    client.socket.write(textOf({ method: 'POST', path: '/execute/stream', body }) + textOf({ path: '/tasks' }))
    await client.until('"tasks":')
    expect(client.received.indexOf('event: job.succeeded')).toBeGreaterThan(0)
    expect(client.received.indexOf('event: job.succeeded')).toBeLessThan(client.received.indexOf('"tasks":'))
  })
})

test('a thousand clients that leave at once leave nothing behind', async () => {
  const tether = await openWorld({ settings: { CONCURRENCY: '1000' }, tasks: [waits] })
  const { url } = tether
  const clients = await Promise.all(
    Array.from({ length: 1000 }, async () => {
      const client = await RawClient.connect(url)
      client.request({ method: 'POST', path: '/execute/stream', body: { task: 'waits' } })
      await client.until('job.started')
      return client
    }),
  )
  expect(tether.orchestrator.getActiveExecutionCount()).toBe(1000)
  for (const [index, client] of clients.entries()) pick(LEAVINGS, index % 2 === 0 ? 'FIN' : 'RST')(client)
  await eventually('no job is active', () => tether.jobs.activeCount === 0)
})
