import { join } from 'node:path'
import { expect, test } from 'vitest'
import { defineTask, Type } from '../../src/index.ts'
import { StoreError } from '../../src/store/JobStore.ts'
import { RedisProxy } from '../cluster/RedisProxy.ts'
import { openReplicas } from '../cluster/replicas.ts'
import { startServer } from '../cluster/world.ts'
import { jobOf, startJob } from '../server/requests.ts'
import { create, move, POLICY, recordNamed } from '../store/records.ts'
import { eventually, typesOf } from '../world.ts'
import { openReplicaHere } from './replicaHere.ts'
import { pairOf, Replica, sleeper, startReplicas } from './world.ts'

const TASKS_DIR = join(import.meta.dirname, 'fixtures', 'again')

/** A job that is run again where its server is gone, at a replica that is cut off then, beside one that has no slot for it. */
async function openCutOff() {
  const redis = await startServer()
  const proxy = await RedisProxy.start(redis.port)
  const settings = { TASKS_DIR, CONCURRENCY: '1' }
  const a = await Replica.start(proxy.url, 'a', settings)
  const id = await a.start({ task: 'again', input: {} })
  await a.untilStatus(id, 'running')
  const b = await Replica.start(redis.url, 'b', settings)
  const filler = await b.start(sleeper())
  await b.untilStatus(filler, 'running')
  proxy.down()
  proxy.cut()
  return { a, b, id, filler, reconnect: () => proxy.up() }
}

async function typesAt(replica: Replica, id: string): Promise<readonly string[]> {
  const reading = await replica.read(id)
  await reading.untilEnded(20_000)
  return typesOf(reading.events)
}

test('a job that another replica has put into the queue again runs there, though the lost one comes back first', async () => {
  const { a, b, id, filler, reconnect } = await openCutOff()
  await b.untilStatus(id, 'queued', 20_000)
  await reconnect()
  await eventually('it is back', async () => (await a.ask('/health/ready')).status === 200)
  await b.ask(`/jobs/${filler}/cancel`, { method: 'POST' })
  await b.untilStatus(id, 'succeeded', 25_000)
  expect(await typesAt(b, id)).toEqual(['job.queued', 'job.started', 'job.requeued', 'job.started', 'job.succeeded'])
}, 60_000)

test('a job that was being begun when its replica was cut off, and waits again since, is not taken back', async () => {
  const redis = await startServer()
  const proxy = await RedisProxy.start(redis.port)
  const settings = { CONCURRENCY: '1', LEASE_MS: '2000' }
  const b = await Replica.start(redis.url, 'b', settings)
  const filler = await b.start(sleeper())
  await b.untilStatus(filler, 'running')
  const a = await openReplicaHere(proxy.url, {
    settings,
    prepare: ({ store }) => {
      const commit = store.commit.bind(store)
      let isFirst = true
      store.commit = (changes) => {
        if (isFirst && changes.some((change) => change.kind === 'move' && change.state.status === 'running')) {
          isFirst = false
          proxy.down()
          proxy.cut()
        }
        return commit(changes)
      }
    },
  })
  const { id } = await startJob(a.url, { task: 'ticks', input: { count: 1, intervalMs: 0 } })
  const owner = (): Promise<unknown> => redis.run('HGET', `tether:job:default:${id}`, 'owner')
  await eventually('it is claimed', async () => (await owner()) !== '')
  await eventually('it is given back', async () => (await owner()) === '', 20_000)
  await proxy.up()
  await eventually('it is back', async () => (await a.health.ready()).isReady, 20_000)
  await b.ask(`/jobs/${filler}/cancel`, { method: 'POST' })
  await b.untilStatus(id, 'succeeded', 20_000)
}, 60_000)

test('a cancel that was accepted by a replica that is cut off is honoured by whoever runs the job then', async () => {
  const { a, b, id, filler, reconnect } = await openCutOff()
  const answer = await a.ask(`/jobs/${id}/cancel`, { method: 'POST' })
  expect(answer).toMatchObject({ status: 202, json: { receipt: { recorded: false } } })
  await b.untilStatus(id, 'queued', 20_000)
  await b.ask(`/jobs/${filler}/cancel`, { method: 'POST' })
  await b.untilStatus(id, 'running', 20_000)
  await reconnect()
  expect(await b.untilStatus(id, 'cancelled', 20_000)).toMatchObject({
    cancellation: { cause: 'cancel_requested' },
  })
}, 60_000)

test('a job whose slot another function still has runs again once that has settled', async () => {
  const redis = await startServer()
  const a = await Replica.start(redis.url, 'a', { TASKS_DIR, MAX_ABANDONED: '0' })
  const id = await a.start({ task: 'heedless', input: {}, settleMs: 300 })
  const reading = await a.read(id)
  await reading.untilSaid('xxx')
  // As where Redis lost the tail of its data.
  const lose = `redis.call('HSET', KEYS[1], 'lastSeq', 2)
    redis.call('XTRIM', KEYS[2], 'MAXLEN', 0)
    return redis.call('XSETID', KEYS[2], '2-0')`
  await redis.run('EVAL', lose, '2', `tether:job:default:${id}`, `tether:log:default:${id}`)
  await a.untilStatus(id, 'queued', 20_000)
  expect(await a.untilStatus(id, 'succeeded', 30_000)).toMatchObject({ attempt: 2 })
}, 60_000)

test('a child that had not begun when its replica died is interrupted with its parent, and runs nowhere', async () => {
  const redis = await startServer()
  const [dead] = await openReplicas({ url: redis.url }, 'dead')
  const policy = { ...POLICY, onDisconnect: 'continue' as const }
  const parent = recordNamed('parent', { policy })
  const child = recordNamed('child1', {
    policy,
    parentId: parent.id,
    task: 'ticks',
    input: { count: 1, intervalMs: 0 },
  })
  await dead.store.commit([create(parent), move(parent, 'queued', 'running', 2), create(child)])
  await dead.shared.retire()
  const b = await Replica.start(redis.url, 'b')
  expect(await b.untilStatus(child.id, 'interrupted', 20_000)).toMatchObject({
    failure: { code: 'TETHER_REPLICA_LOST' },
  })
  await b.untilStatus(parent.id, 'interrupted')
})

test('a child whose claim is under way when the lease is lost leaves nothing of its parent behind', async () => {
  const redis = await startServer()
  const ran: string[] = []
  const child = defineTask({ name: 'child', input: Type.Object({}), run: async () => void ran.push('child') })
  const parent = defineTask({
    name: 'parent',
    input: Type.Object({}),
    run: async (ctx) => void (await ctx.run('child', {})),
  })
  let claims = 0
  let lose = (): void => undefined
  const tether = await openReplicaHere(redis.url, {
    tasks: [child, parent],
    prepare: ({ store }) => {
      const commit = store.commit.bind(store)
      store.commit = async (changes) => {
        const isClaim = changes.some((change) => change.kind === 'move' && change.state.status === 'running')
        if (isClaim) claims += 1
        if (isClaim && claims === 2) lose()
        return commit(changes)
      }
    },
  })
  lose = () => tether.jobs.loseLease()
  const { id } = await startJob(tether.url, { task: 'parent', settleMs: 500 })
  await eventually('it has ended', async () => (await jobOf(tether.url, id)).status === 'interrupted', 20_000)
  await eventually('nothing is left', async () => {
    const { running, stuck } = tether.jobs.standing()
    return running === 0 && stuck.length === 0 && tether.jobs.activeCount === 0
  })
  expect(ran).toEqual([])
})

test('a job that nobody ever held is run and not ended by whoever finds that it is in no queue', async () => {
  const redis = await startServer()
  const b = await Replica.start(redis.url, 'b')
  const { url } = await openReplicaHere(redis.url, {
    prepare: (engine) => {
      engine.replicas.enqueue = () => Promise.reject(new StoreError('the queue is away'))
      engine.stopClaiming()
    },
  })
  const { id } = await startJob(url, { ...sleeper(), onDisconnect: 'cancel' })
  await b.untilStatus(id, 'running', 20_000)
  // As long as a holder of a server that is gone has to come back, and more.
  await new Promise((resolve) => setTimeout(resolve, 12_000))
  expect((await b.job(id)).status).toBe('running')
}, 60_000)

test('a server survives clients that leave while it asks how their job stands elsewhere', async () => {
  const redis = await startServer()
  const a = await Replica.start(redis.url, 'a', { CONCURRENCY: '1' })
  await a.untilStatus(await a.start(sleeper()), 'running')
  await Replica.start(redis.url, 'b')
  const body = JSON.stringify({ task: 'ticks', input: { count: 20, intervalMs: 5 } })
  const request = { method: 'POST', headers: { 'content-type': 'application/json' }, body }
  const leaveAll = async (): Promise<void> => {
    for (let n = 0; n < 150; n += 1) {
      const signal = AbortSignal.timeout(5 + (n % 40))
      await fetch(`${a.url}/execute`, { ...request, signal })
        .then((answer) => answer.text())
        .catch(() => undefined)
    }
  }
  await Promise.all([leaveAll(), leaveAll(), leaveAll(), leaveAll()])
  expect(a.process.err()).toBe('')
  expect((await a.ask('/health/live')).status).toBe(200)
})

test('a reader that comes to the owner with more than that knows to be written gets the rest, without gap or repeat', async () => {
  const redis = await startServer()
  const proxy = await RedisProxy.start(redis.port)
  const settings = { LEASE_MS: '60000' }
  const a = await Replica.start(proxy.url, 'a', settings)
  const id = await a.start({ task: 'ticks', input: { count: 100_000, intervalMs: 20 } })
  await a.untilStatus(id, 'running')
  const b = await Replica.start(redis.url, 'b', settings)
  const before = await b.read(id)
  await before.untilSaid('tick 5\n')
  proxy.silence()
  await new Promise((resolve) => setTimeout(resolve, 300))
  const { lastId } = before
  const after = await a.read(id, { lastId })
  await eventually('it goes on', () => after.lastId > lastId + 20, 20_000)
  expect(after.events.map(({ seq }) => seq)).toEqual(after.events.map((_, place) => lastId + 1 + place))
  expect(typesOf(after.events)).not.toContain('gap')
})

test('a full Redis takes deletions and ends, also at a replica whose output it refuses', async () => {
  const redis = await startServer()
  const [a] = pairOf(await startReplicas(redis.url, 2, { LEASE_MS: '2000', CONCURRENCY: '1' }))
  const done = await Promise.all(
    Array.from({ length: 10 }, () => a.start({ task: 'ticks', input: { count: 100, intervalMs: 0, bytes: 5000 } })),
  )
  for (const id of done) await a.untilStatus(id, 'succeeded', 20_000)
  const talking = await Promise.all(
    [1, 2].map(() => a.start({ task: 'ticks', input: { count: 1_000_000, intervalMs: 5, bytes: 1000 } })),
  )
  for (const id of talking) await a.untilStatus(id, 'running')
  const queued = await a.start(sleeper())
  const used = Number(/used_memory:(\d+)/.exec(String(await redis.run('INFO', 'memory')))?.[1])
  await redis.run('CONFIG', 'SET', 'maxmemory', String(used - 4_000_000))
  await eventually('starts are refused', async () => (await a.ask('/jobs', { body: sleeper() })).status === 503)
  expect((await a.ask(`/jobs/${queued}/cancel`, { method: 'POST' })).status).toBeLessThan(300)
  await a.untilStatus(queued, 'cancelled')
  await eventually(
    'one can be deleted',
    async () => (await a.ask(`/jobs/${done[0]}`, { method: 'DELETE' })).status === 204,
    20_000,
  )
  for (const id of talking) await eventually('it ends', async () => (await a.job(id)).terminal, 20_000)
  await redis.run('CONFIG', 'SET', 'maxmemory', '0')
}, 60_000)
