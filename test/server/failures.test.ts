import { pino } from 'pino'
import { expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { FastifyServer } from '../../src/server/FastifyServer.ts'
import { type JobStore, StoreError } from '../../src/store/JobStore.ts'
import type { Tether } from '../../src/tether.ts'
import { eventually, HeldStore, openWorld, taskOf } from '../world.ts'
import { RawClient } from './RawClient.ts'
import { ask, jobOf, startJob } from './requests.ts'

const TICKS = { task: 'ticks', input: { count: 1, intervalMs: 0 }, jobId: 'job-12345' }

async function worldWithStore(): Promise<{ tether: Tether; store: HeldStore }> {
  const stores: HeldStore[] = []
  const wrapStore = (inner: JobStore): JobStore => {
    const held = new HeldStore(inner)
    stores.push(held)
    return held
  }
  const tether = await openWorld({ wrapStore })
  const [store] = stores
  if (store === undefined) throw new Error('the store was not wrapped')
  return { tether, store }
}

test('a store that is away is 503 with Retry-After, and says nothing of itself', async () => {
  const { tether, store } = await worldWithStore()
  store.lookup = () => Promise.reject(new StoreError('disk I/O error at /secret/path'))
  const answer = await ask(tether.url, '/jobs/job-12345')
  expect(answer.json).toMatchObject({ statusCode: 503, code: 'TETHER_STORE_UNAVAILABLE', error: 'Service Unavailable' })
  expect(answer.headers.get('retry-after')).toBe('2')
  expect(answer.text).not.toContain('secret')
})

test('a defect is 500 without details, and is logged with them', async () => {
  const { tether, store } = await worldWithStore()
  const lines: string[] = []
  const server = new FastifyServer({
    config: readConfig({ PORT: '0' }),
    jobs: tether.jobs,
    health: tether.health,
    metrics: tether.metrics,
    logger: pino({ level: 'warn' }, { write: (line) => lines.push(line) }),
    clock: systemClock,
  })
  const { url } = await server.listen()
  onTestFinished(() => server.close())
  store.lookup = () => Promise.reject(new TypeError('secret is not a function'))
  const answer = await ask(url, '/jobs/job-12345')
  expect(answer.json).toEqual({
    statusCode: 500,
    code: 'TETHER_INTERNAL',
    error: 'Internal Server Error',
    message: 'the server failed to answer; its log says why',
  })
  expect(lines.join()).toContain('secret is not a function')
  expect(lines.join()).toContain('/jobs/:id')
})

test('a stream whose log cannot be read is cut, which looks like no end', async () => {
  const { tether, store } = await worldWithStore()
  await ask(tether.url, '/execute', { body: TICKS })
  store.readEvents = () => Promise.reject(new StoreError('disk I/O error'))
  const client = await RawClient.connect(tether.url)
  client.request({ path: '/jobs/job-12345/events' })
  await client.closed
  expect(client.received).not.toContain('job.succeeded')
  expect(client.received).not.toMatch(/\r\n0\r\n\r\n$/)
})

test('what comes for a stream that is over is counted, and fails nothing', async () => {
  const says = taskOf('says', async (ctx) => {
    for (let n = 0; n < 200; n += 1) {
      await ctx.output('x'.repeat(1000))
      await ctx.sleep(1)
    }
  })
  const tether = await openWorld({ tasks: [says] })
  await startJob(tether.url, { task: 'says', jobId: 'job-12345' })
  const clients = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const client = await RawClient.connect(tether.url)
      client.request({ path: '/jobs/job-12345/events' })
      await client.until('event: output')
      return client
    }),
  )
  for (const client of clients) client.socket.resetAndDestroy()
  await eventually('the job has ended', async () => (await jobOf(tether.url, 'job-12345')).terminal)
  expect((await jobOf(tether.url, 'job-12345')).status).toBe('succeeded')
})

test('closing a server that never listened is harmless, and an address of IPv6 is one that a client can use', async () => {
  const tether = await openWorld()
  const { jobs, health, metrics } = tether
  const options = { jobs, health, metrics, logger: pino({ level: 'silent' }), clock: systemClock }
  await new FastifyServer({ ...options, config: readConfig({ PORT: '0' }) }).close()
  const server = new FastifyServer({ ...options, config: readConfig({ PORT: '0', HOST: '::1' }) })
  onTestFinished(() => server.close())
  const { url } = await server.listen()
  expect(url).toMatch(/^http:\/\/\[::1\]:\d+$/)
  expect((await ask(url, '/jobs')).status).toBe(200)
})
