import { expect, test } from 'vitest'
import { RedisProxy } from '../cluster/RedisProxy.ts'
import { startServer } from '../cluster/world.ts'
import { eventually } from '../world.ts'
import { pairOf, Replica, startReplicas } from './world.ts'

const TICKS = { task: 'ticks', input: { count: 100_000, intervalMs: 10 } }
const FEW_TICKS = { task: 'ticks', input: { count: 2, intervalMs: 0 } }

test('where another Redis takes the place of the primary, which keeps its connections, jobs go on there', async () => {
  // One that becomes a replica otherwise waits 5 s for others that might.
  const options = { args: ['--repl-diskless-sync-delay', '0'] }
  const [first, second] = [await startServer(options), await startServer(options)]
  await second.run('REPLICAOF', '127.0.0.1', String(first.port))
  await eventually('it follows', async () => String(await second.run('INFO', 'replication')).includes('link_status:up'))
  const proxy = await RedisProxy.start(first.port)
  const [a, b] = pairOf(await startReplicas(proxy.url, 2, { LEASE_MS: '60000' }))
  const id = await a.start(TICKS)
  const readings = [await a.read(id), await b.read(id)]
  for (const reading of readings) await reading.untilSaid('tick 20\n')

  proxy.target = second.port
  // Coordinated, so that no write is lost with it, which would be the job's end.
  await first.run('FAILOVER', 'TO', '127.0.0.1', String(second.port))

  for (const reading of readings) {
    const { lastId } = reading
    await eventually('it goes on', () => reading.lastId > lastId + 20, 30_000)
  }
  // A connection on which nothing was written finds out by what is asked next, which is refused.
  await eventually(
    'a cancel is taken',
    async () => (await b.ask(`/jobs/${id}/cancel`, { method: 'POST' })).status < 300,
    30_000,
  )
  for (const reading of readings) {
    await reading.untilEnded()
    expect(reading.events.map(({ seq }) => seq)).toEqual(reading.events.map((_, place) => place + 1))
  }
  const next = { ...FEW_TICKS, jobId: 'the-next-job' }
  await eventually('a start is taken', async () => (await b.ask('/jobs', { body: next })).status < 300, 30_000)
  await a.untilStatus(next.jobId, 'succeeded')
  expect(await second.run('EXISTS', `tether:job:default:${next.jobId}`)).toBe(1)
}, 120_000)

test('servers with other prefixes in one Redis have other jobs, whatever their ids', async () => {
  const redis = await startServer()
  const a = await Replica.start(redis.url, 'a', { REDIS_PREFIX: 'one:' })
  const b = await Replica.start(redis.url, 'b', { REDIS_PREFIX: '{two}:' })
  const jobId = 'the-same-id'
  await a.start({ ...TICKS, jobId })
  await a.untilStatus(jobId, 'running')
  expect((await b.ask(`/jobs/${jobId}`)).status).toBe(404)
  await b.start({ ...FEW_TICKS, jobId })
  await b.untilStatus(jobId, 'succeeded')
  expect((await a.job(jobId)).status).toBe('running')
  const keys = await redis.run('KEYS', '*')
  expect(keys).toContainEqual(expect.stringMatching(/^one:/))
  expect(keys).toContainEqual(expect.stringMatching(/^\{two\}:/))
  expect(keys).not.toContainEqual(expect.not.stringMatching(/^(one|\{two\}):/))
})
