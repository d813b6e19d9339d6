import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { openRedisJobs } from '../../src/cluster/RedisJobStore.ts'
import { parseJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT } from '../../src/job/key.ts'
import { startServer } from '../cluster/world.ts'
import { spawnServer } from '../jobs/serverProcess.ts'
import { openReplicaHere } from '../replicas/replicaHere.ts'
import { ownerOf, pairOf, pidOf, sleeper, startReplicas } from '../replicas/world.ts'
import { ask } from '../server/requests.ts'
import { eventually, temporaryFolder } from '../world.ts'
import { scrape } from './scrape.ts'

const TICKS = { task: 'ticks', input: { count: 1, intervalMs: 0 } }
const CONFIRMED = { cause: 'cancel_requested', phase: 'running', confirmed: 'true' }

describe('of several replicas', () => {
  test('each says what it did, and what it was told by the others', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2)
    const [a, b] = pairOf(replicas)
    const id = await a.start(sleeper())
    const { owner, other } = await ownerOf(replicas, id)
    await pidOf(await owner.read(id))
    await other.ask(`/jobs/${id}/cancel?wait=10`, { method: 'POST' })
    await owner.untilStatus(id, 'cancelled')
    const [at, elsewhere] = [await scrape(owner.url), await scrape(other.url)]
    expect(elsewhere.value('tether_hints_total', { what: 'sent' })).toBe(1)
    expect(at.value('tether_hints_total', { what: 'received' })).toBe(1)
    expect(at.value('tether_hints_total', { what: 'lost' })).toBe(0)
    expect(at.sum('tether_requests_found_total', { by: 'poll' })).toBe(0)
    expect(at.sum('tether_jobs_ended_total')).toBe(1)
    expect(elsewhere.sum('tether_jobs_ended_total')).toBe(0)
    expect((await scrape(a.url)).sum('tether_jobs_created_total')).toBe(1)
    expect((await scrape(b.url)).sum('tether_jobs_created_total')).toBe(0)
    expect(at.value('tether_jobs_queued', { queue: 'shared' })).toBe(0)
    const ready = await owner.ask('/health/ready')
    expect(ready.json['checks']).toContainEqual(
      expect.objectContaining({ name: 'redis', ok: true, hasLease: true, leaseLeftMs: expect.any(Number) }),
    )
  })

  test('one that runs nothing shows by the queue of all that Redis is away, since its log does not', async () => {
    const redis = await startServer()
    const { url } = await openReplicaHere(redis.url)
    expect((await scrape(url)).value('tether_jobs_queued', { queue: 'shared' })).toBe(0)
    await redis.kill()
    await eventually('a start is refused', async () => (await ask(url, '/jobs', { body: TICKS })).status === 503)
    const away = await eventually('it shows', async () => {
      const read = await scrape(url)
      return read.value('tether_jobs_queued', { queue: 'shared' }) === undefined && read
    })
    expect(away.value('tether_jobs_queued', { queue: 'own' })).toBe(0)
    expect(away.value('tether_hints_total', { what: 'sent' })).toBe(0)
    expect(away.value('tether_log_failing')).toBe(0)
  })

  test('a request whose hint never came is found by the poll', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2)
    const [a] = pairOf(replicas)
    const id = await a.start(sleeper())
    const { owner } = await ownerOf(replicas, id)
    await pidOf(await owner.read(id))
    // As a process does that dies before it can tell the owner.
    const { shared, store } = await openRedisJobs({
      url: redis.url,
      prefix: 'tether:',
      replica: 'dies-soon',
      maxLogBytes: 2 ** 20,
    })
    onTestFinished(() => store.close())
    await shared.ask(
      { tenant: DEFAULT_TENANT, id: parseJobId(id) },
      { kind: 'cancel', cause: 'cancel_requested', reason: '', requestedAt: Date.now() },
    )
    await owner.untilStatus(id, 'cancelled', 20_000)
    const read = await scrape(owner.url)
    expect(read.value('tether_requests_found_total', { by: 'poll' })).toBe(1)
    expect(read.value('tether_hints_total', { what: 'received' })).toBe(0)
    expect(read.value('tether_cancellations_total', CONFIRMED)).toBe(1)
  })
})

test('what a scrape needs is loaded by the first one', async () => {
  const hook = join(import.meta.dirname, '..', 'replicas', 'fixtures', 'loadedModules.ts')
  const server = spawnServer({ DATA_DIR: await temporaryFolder(), NODE_OPTIONS: `--import ${hook}` })
  const url = await server.url()
  expect((await ask(url, '/health/ready')).status).toBe(200)
  expect(server.err()).toContain('/src/metrics/')
  expect(server.err()).not.toContain('/prom-client/')
  await scrape(url)
  await eventually('it is loaded', () => server.err().includes('/src/metrics/prometheus.ts'))
  expect(server.err()).toContain('/prom-client/')
})
