import { expect, onTestFinished, test, vi } from 'vitest'
import { StreamCut } from '../../src/client/error.ts'
import type { JobStream } from '../../src/client/JobStream.ts'
import type { Loss } from '../../src/client/Reconnect.ts'
import { TetherClient } from '../../src/client/TetherClient.ts'
import { openWorld } from '../world.ts'
import { openProxy } from './CutProxy.ts'
import { type FakeServer, startFakeServer } from './FakeServer.ts'

// Leases (docs/protocol.md, section 3): a stream that holds a job says by itself that it is still there.

const LEASED = { task: 'ticks', input: {}, jobId: 'job_leased', leaseMs: 240 }

async function start(): Promise<{ server: FakeServer; client: TetherClient }> {
  const server = await startFakeServer()
  return { server, client: clientOf(server.url) }
}

function clientOf(server: string): TetherClient {
  const client = new TetherClient({ server })
  onTestFinished(() => client.close())
  return client
}

async function typesOf(stream: JobStream): Promise<string[]> {
  const types: string[] = []
  for await (const event of stream) types.push(event.type)
  return types
}

function renewalsOf(server: FakeServer): unknown[] {
  return server.requestsTo('POST', /lease$/).map(({ body }) => body)
}

/** Polls as long as it takes for so many renewals. */
async function renewed(server: FakeServer, count: number): Promise<void> {
  await vi.waitFor(() => expect(renewalsOf(server).length).toBeGreaterThanOrEqual(count), 5000)
}

test('a job with a lease runs on as long as its stream is open, also while nobody reads it', async () => {
  const world = await openWorld()
  const client = clientOf(world.url)
  const ticks = { task: 'ticks', input: { count: 80, intervalMs: 15 } }
  const read = await client.stream({ ...ticks, leaseMs: 300 })
  const unread = await client.stream({ ...ticks, leaseMs: 300 })
  expect((await typesOf(read)).at(-1)).toBe('job.succeeded')
  await vi.waitFor(async () => expect((await client.job(unread.jobId)).status).toBe('succeeded'))
})

test('a lease is renewed three times in its length, while the stream is open and no longer', async () => {
  const { server, client } = await start()
  const beganAtMs = performance.now()
  const stream = await client.stream(LEASED)
  await renewed(server, 6)
  // Six renewals of 80 ms each; a machine that is busy makes it longer, never shorter.
  expect(performance.now() - beganAtMs).toBeGreaterThan(470)
  for (const renewal of renewalsOf(server)) expect(renewal).toEqual({ holder: stream.holder })
  stream.close()
  await vi.waitFor(() => expect(server.job.disconnects).toBe(1))
  const count = renewalsOf(server).length
  const other = await client.stream({ ...LEASED, jobId: 'job_other_' })
  await vi.waitFor(() => expect(server.requestsTo('POST', /job_other_.lease$/).length).toBeGreaterThan(3), 5000)
  expect(server.requestsTo('POST', /job_leased.lease$/)).toHaveLength(count)
  other.close()
})

test('a job without a lease, and one that is only looked at, are left alone', async () => {
  const { server, client } = await start()
  const unleased = await client.stream({ ...LEASED, jobId: 'job_unleased', leaseMs: 0 })
  await client.start({ ...LEASED, jobId: 'job_observed' })
  const observed = typesOf(await client.attach('job_observed'))
  const leased = await client.stream(LEASED)
  await renewed(server, 4)
  expect(server.requestsTo('POST', /lease$/).every(({ path }) => path === '/jobs/job_leased/lease')).toBe(true)
  for (const job of server.jobs.values()) job.succeed(null)
  await Promise.all([typesOf(unleased), observed, typesOf(leased)])
})

test('the lease of a job that was attached to is learned from the job', async () => {
  const { server, client } = await start()
  await client.start(LEASED)
  const stream = await client.attach('job_leased', { after: 2, hold: true })
  await renewed(server, 3)
  expect(server.requestsTo('GET', /job_leased$/)).toHaveLength(1)
  stream.close()
})

test('also where the question for it fails at first', async () => {
  const { server, client } = await start()
  await client.start(LEASED)
  server.intercept = (request, response) => {
    if (request.url !== '/jobs/job_leased' || server.requestsTo('GET', /job_leased$/).length > 2) return false
    response.destroy()
    return true
  }
  const stream = await client.attach('job_leased', { after: 2, hold: true })
  await renewed(server, 3)
  stream.close()
})

test('a renewal that does not come through is sent again before the lease runs out', async () => {
  const { server, client } = await start()
  server.intercept = (request, response) => {
    if (request.url?.endsWith('/lease') !== true || renewalsOf(server).length > 1) return false
    response.destroy()
    return true
  }
  const stream = await client.stream({ ...LEASED, leaseMs: 3000 })
  await renewed(server, 1)
  const failedAtMs = performance.now()
  await renewed(server, 2)
  expect(performance.now() - failedAtMs).toBeLessThan(900)
  stream.close()
})

test('a renewal that is not answered is sent again', async () => {
  const { server, client } = await start()
  server.intercept = (request) => request.url?.endsWith('/lease') === true && renewalsOf(server).length < 2
  const stream = await client.stream(LEASED)
  await renewed(server, 3)
  stream.close()
})

test('a holder that the server has lost is one again: it attaches after the last event and renews its new lease', async () => {
  const { server, client } = await start()
  const losses: Loss[] = []
  const stream = await client.stream(LEASED, { reconnect: { onLost: (loss) => losses.push(loss) } })
  const types = typesOf(stream)
  await renewed(server, 1)
  server.job.holders.clear()
  await vi.waitFor(() => expect(stream.holder).toBe('holder-2'), 5000)
  expect(losses).toMatchObject([{ lastSeq: 2, cause: { code: 'TETHER_INVALID_REQUEST' } }])
  expect(server.requestsTo('GET', /events$/).map(({ query }) => query.toString())).toEqual(['after=2&hold=true'])
  await vi.waitFor(() => expect(renewalsOf(server).at(-1)).toEqual({ holder: 'holder-2' }))
  server.job.succeed(null)
  expect(await types).toEqual(['job.queued', 'job.started', 'job.succeeded'])
})

test('after a cut the lease of the new holder is renewed, and that of the old one no more', async () => {
  const { server, client } = await start()
  const stream = await client.stream(LEASED)
  await renewed(server, 1)
  server.job.cut()
  await vi.waitFor(() => expect(stream.holder).toBe('holder-2'))
  const before = renewalsOf(server).length
  await renewed(server, before + 4)
  for (const renewal of renewalsOf(server).slice(before)) expect(renewal).toEqual({ holder: 'holder-2' })
  stream.close()
})

test('where no way back is wanted, a lost lease is a cut', async () => {
  const { server, client } = await start()
  const stream = await client.stream(LEASED, { reconnect: false })
  server.job.holders.clear()
  const failure = await typesOf(stream).catch((error: unknown) => error)
  expect(failure).toBeInstanceOf(StreamCut)
  expect(failure).toMatchObject({ cause: { code: 'TETHER_INVALID_REQUEST' } })
})

test('a lease that ends with its job is not lost: the last event is on its way', async () => {
  const { server, client } = await start()
  const losses: Loss[] = []
  const stream = await client.stream(LEASED, { reconnect: { onLost: (loss) => losses.push(loss) } })
  const types = typesOf(stream)
  await renewed(server, 1)
  // The record says it before the stream does.
  server.job.holders.clear()
  server.job.status = 'succeeded'
  await vi.waitFor(() => expect(server.requestsTo('GET', /job_leased$/)).toHaveLength(1), 5000)
  server.job.succeed(null)
  expect((await types).at(-1)).toBe('job.succeeded')
  expect(losses).toEqual([])
})

test('no lease is renewed after the last event, also while the reader is busy with it', async () => {
  const { server, client } = await start()
  const stream = await client.stream(LEASED)
  await renewed(server, 2)
  server.job.succeed(null)
  const renewals = (): number => server.requestsTo('POST', /job_leased.lease$/).length
  for await (const event of stream) {
    if (event.type !== 'job.succeeded') continue
    const count = renewals()
    const other = await client.stream({ ...LEASED, jobId: 'job_third_' })
    await vi.waitFor(() => expect(server.requestsTo('POST', /job_third_.lease$/).length).toBeGreaterThan(2), 5000)
    other.close()
    expect(renewals()).toBe(count)
  }
})

test('a lease that runs out on the way is taken up again within the grace', async () => {
  const world = await openWorld()
  const proxy = await openProxy(world.url)
  const ticks = { task: 'ticks', input: { count: 200, intervalMs: 15 } }
  const losses: Loss[] = []
  const stream = await clientOf(proxy.url).stream(
    { ...ticks, leaseMs: 400, disconnectGraceMs: 30_000 },
    { reconnect: { onLost: (loss) => losses.push(loss) } },
  )
  const types = typesOf(stream)
  const holder = stream.holder ?? ''
  // The stream stays open while renewals hang, each for a third of the lease, until it has run out.
  proxy.holdsNew = true
  await vi.waitFor(() => expect(proxy.connectionCount).toBeGreaterThan(6), 10_000)
  proxy.holdsNew = false
  expect((await types).at(-1)).toBe('job.succeeded')
  expect(losses).toMatchObject([{ cause: { code: 'TETHER_INVALID_REQUEST' } }])
  expect(stream.holder).not.toBe(holder)
})
