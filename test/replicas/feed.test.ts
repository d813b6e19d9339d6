import { expect, test } from 'vitest'
import { RedisProxy } from '../cluster/RedisProxy.ts'
import type { RedisServer } from '../cluster/RedisServer.ts'
import { startServer } from '../cluster/world.ts'
import { eventually, typesOf } from '../world.ts'
import { Reading } from './Reading.ts'
import { ownerOf, pairOf, Replica, sleeper, startReplicas } from './world.ts'

function watch(replica: Replica, query = ''): Promise<Reading> {
  return Reading.open(`${replica.url}/jobs/events${query}`)
}

test('a list hears of the jobs of every replica, each change once', async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 2)
  const [a, b] = pairOf(replicas)
  const feeds = await Promise.all(replicas.map((replica) => watch(replica)))
  const cancelledOnly = await watch(b, '?status=cancelled')
  const ids = await Promise.all(Array.from({ length: 6 }, () => a.start(sleeper())))
  for (const id of ids) await ownerOf(replicas, id)
  for (const id of ids) await b.ask(`/jobs/${id}/cancel`, { method: 'POST' })
  for (const id of ids) {
    for (const feed of feeds) {
      const types = await eventually(`the list hears of the end of ${id}`, () => {
        const ofJob = typesOf(feed.events.filter(({ jobId }) => jobId === id))
        return ofJob.includes('job.cancelled') && ofJob
      })
      expect(types).toEqual(['job.queued', 'job.started', 'job.cancelling', 'job.cancelled'])
    }
    await eventually('so does one that asks for ends', () => cancelledOnly.events.some(({ jobId }) => jobId === id))
  }
  expect(new Set(typesOf(cancelledOnly.events))).toEqual(new Set(['job.cancelled']))
})

test('a list that may have missed something is ended, so that it comes back and lists anew', async () => {
  const redis = await startServer()
  const proxy = await RedisProxy.start(redis.port)
  const a = await Replica.start(proxy.url, 'a', { LEASE_MS: '20000' })
  const feed = await watch(a)
  proxy.cut()
  await feed.over
  const back = await watch(a)
  const start = { body: { task: 'ticks', input: { count: 1, intervalMs: 0 } } }
  await eventually('it takes starts again', async () => (await a.ask('/jobs', start)).status === 202)
  await eventually('it hears again', () => typesOf(back.events).includes('job.succeeded'))
})

test('a list that hears of jobs does not read what they were given and what they gave', async () => {
  const redis = await startServer()
  const [a, b] = pairOf(await startReplicas(redis.url, 2))
  const run = async (): Promise<string> => {
    const id = await a.start({ task: 'command', input: { command: 'cat > /dev/null', stdin: 'x'.repeat(900_000) } })
    await eventually(`${id} has ended`, async () => {
      const { json } = await a.ask('/jobs?status=succeeded')
      return JSON.stringify(json).includes(id)
    })
    return id
  }
  const feeds = await Promise.all([a, b].map((replica) => watch(replica)))
  const before = await sentBytes(redis)
  const id = await run()
  for (const feed of feeds) {
    const ofJob = () => feed.events.filter(({ jobId, type }) => jobId === id && type === 'job.succeeded')
    await eventually('the list hears of the end', () => ofJob().length > 0)
  }
  // Whoever claims it reads the input, once.
  expect((await sentBytes(redis)) - before).toBeLessThan(1_500_000)
})

async function sentBytes(redis: RedisServer): Promise<number> {
  return Number(/total_net_output_bytes:(\d+)/.exec(String(await redis.run('INFO', 'stats')))?.[1])
}
