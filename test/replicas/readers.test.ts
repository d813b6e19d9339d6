import Type from 'typebox'
import { expect, test } from 'vitest'
import { defineTask, secret } from '../../src/execution/task.ts'
import type { Replicas } from '../../src/jobs/Replicas.ts'
import { StoreError } from '../../src/store/JobStore.ts'
import { startServer } from '../cluster/world.ts'
import { ask, jobOf, startJob } from '../server/requests.ts'
import { eventually, Gate, taskOf } from '../world.ts'
import { openReplicaHere } from './replicaHere.ts'
import { ownerOf, pairOf, sleeper, startReplicas } from './world.ts'

const TICKS = { task: 'ticks', input: { count: 300, intervalMs: 2, bytes: 200 } }

test('readers on every replica get the whole log in order, whenever they come', async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 3)
  const [a] = pairOf(replicas)
  const stream = await a.hold(TICKS)
  const early = await Promise.all(replicas.map((replica) => replica.read(stream.jobId)))
  await stream.untilSaid('tick 100')
  const late = await Promise.all(replicas.map((replica) => replica.read(stream.jobId)))
  await stream.untilEnded()
  const afterwards = await Promise.all(replicas.map((replica) => replica.read(stream.jobId)))
  const readings = [...early, ...late, ...afterwards]
  await Promise.all(readings.map((reading) => reading.untilEnded()))
  expect(stream.events.map(({ seq }) => seq)).toEqual(stream.events.map((_, index) => index + 1))
  for (const reading of readings) {
    expect(reading.events).toEqual(stream.events)
    expect(reading.terminal).toHaveLength(1)
  }
  expect(stream.output.match(/tick \d+/g)).toEqual(Array.from({ length: 300 }, (_, index) => `tick ${index + 1}`))
})

test.each(['events', 'a stream of a start that was made before'])(
  'a client that is gone before its reader begins leaves nobody who follows the job: %s',
  async (how) => {
    const redis = await startServer()
    const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))
    const { url } = await openReplicaHere(redis.url, { tasks: [waits] })
    let followers = 0
    const follow = (replicas: Replicas): Replicas['follow'] => {
      const original = replicas.follow.bind(replicas)
      return (ref, lastSeq) => {
        followers += 1
        const followed = original(ref, lastSeq)
        const release = (): void => {
          followers -= 1
          followed.release()
        }
        return { log: followed.log, release }
      }
    }
    const other = await openReplicaHere(redis.url, {
      tasks: [waits],
      settings: { MAX_STREAMS_PER_CLIENT: '1' },
      prepare: (engine) => {
        engine.replicas.follow = follow(engine.replicas)
        engine.replicas.claim = () => Promise.reject(new StoreError('it is to claim nothing'))
      },
    })
    const start = { task: 'waits', jobId: 'job_waits_01', onDisconnect: 'continue' }
    await startJob(url, start)
    await eventually('it runs', async () => (await jobOf(url, start.jobId)).status === 'running')
    const [attached, goesOn] = [new Gate(), new Gate()]
    const attach = other.jobs.attach.bind(other.jobs)
    other.jobs.attach = async (...args) => {
      const attachment = await attach(...args)
      attached.open()
      await goesOn.opened
      return attachment
    }
    const client = new AbortController()
    const body = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(start) }
    const [path, request] = how === 'events' ? [`/jobs/${start.jobId}/events`, {}] : ['/execute/stream', body]
    const answer = fetch(`${other.url}${path}`, { ...request, signal: client.signal }).catch(() => undefined)
    await attached.opened
    expect(followers).toBe(1)
    client.abort()
    await answer
    const hasRoom = async () => (await ask(other.url, '/execute', { body: { task: 'nothing' } })).status === 404
    await eventually('it is seen to be gone', hasRoom)
    goesOn.open()
    await eventually('nobody follows', () => followers === 0)
  },
)

test('a reader that goes from replica to replica by its last id misses and repeats nothing', async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 3)
  const [a] = pairOf(replicas)
  const id = await a.start(TICKS)
  const whole = await a.read(id)
  const seen: unknown[] = []
  let lastId = 0
  for (let turn = 0; ; turn += 1) {
    const replica = replicas[turn % 3]
    if (replica === undefined) throw new Error('there are three')
    const reading = await replica.read(id, { lastId })
    if (reading.status === 204) break
    await eventually('it reads on, or the job has ended', () => reading.lastId > lastId + 5 || reading.terminal[0])
    reading.leave()
    await reading.over
    seen.push(...reading.events)
    lastId = reading.lastId
  }
  await whole.untilEnded()
  expect(seen).toEqual(whole.events)
})

test('a job that has ended is read from anywhere, and a reader that has all of it rests', async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 2)
  const [a] = pairOf(replicas)
  const stream = await a.hold({ task: 'ticks', input: { count: 3, intervalMs: 0 } })
  await stream.untilEnded()
  for (const replica of replicas) {
    const whole = await replica.read(stream.jobId)
    await whole.over
    expect(whole.events).toEqual(stream.events)
    const rest = await replica.read(stream.jobId, { lastId: 2 })
    await rest.over
    expect(rest.events).toEqual(stream.events.slice(2))
    expect((await replica.read(stream.jobId, { lastId: stream.lastId })).status).toBe(204)
    expect(await replica.job(stream.jobId)).toMatchObject({ status: 'succeeded', terminal: true })
  }
})

test('a reader past the end of the log is told so by every replica, and goes on live', async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 2)
  const [a] = pairOf(replicas)
  const id = await a.start(sleeper())
  const whole = await a.read(id)
  await whole.untilSaid('pid')
  const lastSeq = whole.lastId
  const past = await Promise.all(replicas.map((replica) => replica.read(id, { lastId: lastSeq + 1000 })))
  for (const reading of past) {
    await eventually('it is told', () => reading.events[0])
    expect(reading.events[0]).toMatchObject({ type: 'gap', reason: 'log_lost', seq: lastSeq })
  }
  await a.ask(`/jobs/${id}/cancel`, { method: 'POST' })
  for (const reading of past) {
    await reading.untilEnded()
    expect(reading.events.slice(1).map(({ seq }) => seq)).toEqual([lastSeq + 1, lastSeq + 2])
  }
})

test('a request that waits for the outcome gets it, wherever the job runs', async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 2)
  const answers = await Promise.all(
    [...replicas, ...replicas, ...replicas].map((replica) =>
      replica.ask('/execute', { body: { task: 'ticks', input: { count: 2, intervalMs: 1 } } }),
    ),
  )
  for (const { status, text } of answers) {
    expect(status).toBe(200)
    expect(JSON.parse(text)).toMatchObject({ status: 'succeeded', terminal: true })
  }
})

test('the same start made at two replicas at once is one job', async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 2)
  const body = { task: 'ticks', input: { count: 3, intervalMs: 1 } }
  await Promise.all(
    Array.from({ length: 10 }, async (_, index) => {
      const headers = { 'idempotency-key': `key-${index}` }
      const answers = await Promise.all(replicas.map((replica) => replica.ask('/jobs', { body, headers })))
      expect(answers.map(({ status }) => status)).toEqual([202, 202])
      expect(answers[0]?.json['id']).toBe(answers[1]?.json['id'])
    }),
  )
  const [a] = pairOf(replicas)
  const { json } = await a.ask('/jobs?limit=100')
  expect(json['jobs']).toHaveLength(10)
})

test('a job that runs is in the list of every replica', async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 2)
  const [a] = pairOf(replicas)
  const id = await a.start(sleeper())
  const { owner, other } = await ownerOf(replicas, id)
  for (const replica of [owner, other]) {
    const { json } = await replica.ask('/jobs?status=running')
    expect(json['jobs']).toMatchObject([{ id, status: 'running' }])
  }
})

test('a replica without the task of a job that waits shows none of its input, which may hold secrets', async () => {
  const redis = await startServer()
  const input = Type.Object({ key: Type.String(secret()) })
  const guarded = defineTask({ name: 'guarded', input, run: async (ctx) => ctx.sleep(60_000) })
  const { url } = await openReplicaHere(redis.url, { tasks: [guarded] })
  const start = { task: 'guarded', concurrencyKey: 'one', concurrencyLimit: 1 }
  await startJob(url, { ...start, jobId: 'job_runs_01', input: { key: 'first-secret' } })
  await eventually('it runs', async () => (await jobOf(url, 'job_runs_01')).status === 'running')
  await startJob(url, { ...start, jobId: 'job_waits_01', input: { key: 'second-secret' } })
  const other = await openReplicaHere(redis.url)
  expect(await jobOf(other.url, 'job_waits_01')).toMatchObject({ status: 'queued', input: null })
  expect(await jobOf(other.url, 'job_runs_01')).toMatchObject({ status: 'running', input: { key: '[redacted]' } })
  expect(await jobOf(url, 'job_waits_01')).toMatchObject({ status: 'queued', input: { key: '[redacted]' } })
})
