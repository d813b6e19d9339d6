import { expect, test } from 'vitest'
import { startServer } from '../cluster/world.ts'
import { openReplicaHere } from '../replicas/replicaHere.ts'
import { ask, jobOf } from '../server/requests.ts'
import { eventually, Gate, taskOf } from '../world.ts'
import { newCaller, pathOf, recordSpans, spanNamed } from './recordSpans.ts'

recordSpans()

test('a job that another replica claims belongs below the request that started it', async () => {
  const redis = await startServer()
  const gate = new Gate()
  const tasks = [taskOf('busy', () => gate.opened), taskOf('quick', async () => 1)]
  const options = { tasks, settings: { CONCURRENCY: '1', REPLICA_ID: 'first' } }
  const first = await openReplicaHere(redis.url, options)
  await ask(first.url, '/jobs', { body: { task: 'busy', jobId: 'job-in-front' } })
  await eventually('it runs', async () => (await jobOf(first.url, 'job-in-front')).status === 'running')
  const caller = newCaller()
  await ask(first.url, '/jobs', { body: { task: 'quick', jobId: 'job-for-others' }, headers: caller.headers })
  await openReplicaHere(redis.url, { tasks, settings: { CONCURRENCY: '1', REPLICA_ID: 'second' } })
  const job = await spanNamed(caller.traceId, 'job quick')
  expect(job.attributes['tether.replica']).toMatch(/^second-/)
  expect(pathOf(job)).toEqual(['job quick', 'POST /jobs', caller.spanId])
  gate.open()
})

test('a job that waits and is cancelled through a replica has a span of that one', async () => {
  const redis = await startServer()
  const gate = new Gate()
  const tasks = [taskOf('busy', () => gate.opened)]
  const { url } = await openReplicaHere(redis.url, { tasks, settings: { CONCURRENCY: '1' } })
  await ask(url, '/jobs', { body: { task: 'busy', jobId: 'job-in-front' } })
  await eventually('it runs', async () => (await jobOf(url, 'job-in-front')).status === 'running')
  const caller = newCaller()
  await ask(url, '/jobs', { body: { task: 'busy', jobId: 'job-that-waits' }, headers: caller.headers })
  await ask(url, '/jobs/job-that-waits/cancel?wait=10', { body: {} })
  const job = await spanNamed(caller.traceId, 'job busy')
  expect(job.attributes['tether.outcome']).toBe('cancelled')
  expect(job.events.map(({ name }) => name)).toEqual(['cancel'])
  gate.open()
})
