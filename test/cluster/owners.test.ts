import { Redis } from 'ioredis'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { queueName, refName } from '../../src/cluster/names.ts'
import type { RedisJobs } from '../../src/cluster/RedisJobStore.ts'
import { parseGroupId } from '../../src/job/id.ts'
import type { JobRef } from '../../src/job/key.ts'
import type { JobRecord } from '../../src/job/record.ts'
import type { ChangeResult } from '../../src/store/JobStore.ts'
import { linesOf } from '../store/contract.ts'
import { append, batch, create, move, recordNamed, refTo, upTo } from '../store/records.ts'
import { RedisProxy } from './RedisProxy.ts'
import { RedisServer } from './RedisServer.ts'
import { createWaiting, LEASE_MS, openReplicas, requestFor } from './replicas.ts'
import { newPrefix } from './world.ts'

const OK: ChangeResult = { ok: true }
const FENCED: ChangeResult = { ok: false, why: 'fenced' }
const JOB = recordNamed('a')

let server: RedisServer
beforeAll(async () => {
  server = await RedisServer.start()
})
afterAll(() => server[Symbol.asyncDispose]())

let prefix: string
let left: RedisJobs
let right: RedisJobs
beforeEach(async () => {
  prefix = newPrefix()
  ;[left, right] = await openReplicas({ url: server.url, prefix }, 'left', 'right')
})

function unqueuedOf({ shared }: RedisJobs): Promise<readonly JobRef[]> {
  return shared.listUnqueued(0, 9)
}

/** Runs `calls` at once, each order as often as the other. */
async function inBothOrders<T>(n: number, first: () => Promise<T>, second: () => Promise<T>): Promise<T[]> {
  if (n % 2 === 0) return Promise.all([first(), second()])
  const results = await Promise.all([second(), first()])
  return results.toReversed()
}

describe('a job in the queue', () => {
  test('is claimed by one of two replicas, and the other one is told by which', async () => {
    for (let n = 0; n < 100; n += 1) {
      const job = recordNamed(`j${n}`)
      await left.store.commit([createWaiting(job)])
      const claims = await inBothOrders(
        n,
        () => left.shared.claim(job),
        () => right.shared.claim(job),
      )
      const owner = claims[0]?.kind === 'claimed' ? 'left' : 'right'
      expect(claims).toContainEqual({ kind: 'claimed', record: job })
      expect(claims).toContainEqual({ kind: 'owned', owner })
      expect(await left.shared.ownedBy(owner)).toContainEqual(refTo(job))
    }
  })

  test('is claimed twice by the same replica until it runs', async () => {
    await left.store.commit([createWaiting(JOB)])
    for (const _ of [1, 2]) expect(await left.shared.claim(JOB)).toEqual({ kind: 'claimed', record: JOB })
    await left.store.commit([move(JOB, 'queued', 'running', 2)])
    expect(await left.shared.claim(JOB)).toEqual({ kind: 'owned', owner: 'left' })
    await left.store.commit([move(JOB, 'running', 'succeeded', 3)])
    expect(await left.shared.claim(JOB)).toEqual({ kind: 'ended' })
    expect(await left.shared.claim(recordNamed('none'))).toEqual({ kind: 'unknown' })
  })

  test('goes to whoever moves it on, and back to all where it is queued again', async () => {
    await left.store.commit([createWaiting(JOB)])
    expect(await right.store.commit([move(JOB, 'queued', 'running', 2)])).toEqual([OK])
    expect(await left.store.commit([append(JOB, 3)])).toEqual([FENCED])
    expect(await right.shared.ownedBy('right')).toEqual([refTo(JOB)])
    expect(await right.shared.seal(JOB)).toEqual({ kind: 'sealed' })
    expect(await right.store.commit([append(JOB, 3), move(JOB, 'running', 'queued', 4)])).toEqual([OK, OK])
    expect(await right.shared.ownedBy('right')).toEqual([])
    expect(await unqueuedOf(left)).toEqual([refTo(JOB)])
    expect(await left.shared.claim(JOB)).toMatchObject({ kind: 'claimed' })
    expect(await right.shared.ask(JOB, requestFor('stop'))).toEqual({ kind: 'owned', owner: 'left' })
  })

  test('is not moved by whoever takes up the job of a replica that it has left', async () => {
    await left.store.commit([createWaiting(JOB)])
    await right.shared.claim(JOB)
    await left.shared.giveBack(JOB, 'right')
    const late = { ...move(JOB, 'queued', 'interrupted', 2), owner: 'right' }
    expect(await left.store.commit([late])).toEqual([FENCED])
    await left.shared.claim(JOB)
    expect(await right.store.commit([late])).toEqual([FENCED])
    expect(await right.store.commit([{ ...late, owner: 'left' }])).toEqual([OK])
  })

  test('is not given to a replica that is not in the list', async () => {
    await left.store.commit([createWaiting(JOB)])
    await left.shared.forgetReplica('right')
    expect(await right.shared.claim(JOB)).toEqual({ kind: 'lost' })
    expect(await right.shared.hold(JOB)).toBe('lost')
    expect(await right.shared.beat(LEASE_MS)).toBe('joined')
    expect(await right.shared.claim(JOB)).toMatchObject({ kind: 'claimed' })
  })

  test('is listed until it is known to be in the queue, or was claimed or ended', async () => {
    const jobs = ['a', 'b', 'c', 'd'].map((name) => recordNamed(name))
    const [queued, claimed, ended, rest] = jobs as [JobRecord, JobRecord, JobRecord, JobRecord]
    await left.store.commit([...jobs.map((job) => createWaiting(job)), create(recordNamed('owned'))])
    expect(await right.shared.listUnqueued(60_000, 9)).toEqual([])
    expect(await unqueuedOf(right)).toEqual(jobs.map(refTo))
    expect(await right.shared.listUnqueued(0, 1)).toHaveLength(1)
    await server.run('ZADD', `${prefix}queue:jobs:prioritized`, '1', queueName(queued))
    await left.shared.noteQueued(queued)
    await left.shared.claim(claimed)
    await left.store.commit([move(ended, 'queued', 'cancelled', 2)])
    expect(await unqueuedOf(right)).toEqual([refTo(rest)])
  })

  test('stays listed where it does not wait in the queue, whatever is noted of it', async () => {
    await left.store.commit([createWaiting(JOB)])
    await left.shared.noteQueued(JOB)
    expect(await unqueuedOf(left)).toEqual([refTo(JOB)])
    await server.run('ZADD', `${prefix}queue:jobs:prioritized`, '1', queueName(JOB))
    await left.shared.noteQueued(JOB)
    expect(await unqueuedOf(left)).toEqual([])
  })

  test('is claimed and sealed beside one whose data is damaged', async () => {
    const [sound, damaged] = [recordNamed('a'), recordNamed('b')]
    await left.store.commit([createWaiting(sound), createWaiting(damaged)])
    await server.run('DEL', `${prefix}job:${refName(damaged)}`)
    await server.run('SET', `${prefix}job:${refName(damaged)}`, 'x')
    // The first goes alone, and the others together.
    const claims = await Promise.allSettled([recordNamed('c'), sound, damaged].map((job) => left.shared.claim(job)))
    expect(claims).toMatchObject([
      { value: { kind: 'unknown' } },
      { value: { kind: 'claimed', record: sound } },
      { reason: { message: expect.stringContaining('WRONGTYPE') } },
    ])
    const seals = await Promise.allSettled([recordNamed('c'), damaged, sound].map((job) => left.shared.seal(job)))
    expect(seals).toMatchObject([
      { value: { kind: 'fenced' } },
      { reason: { message: expect.stringContaining('WRONGTYPE') } },
      { value: { kind: 'sealed' } },
    ])
  })

  test('is overdue when its wait is over and it still waits', async () => {
    const [over, later, claimed] = ['a', 'b', 'c'].map((name) => recordNamed(name)) as [JobRecord, JobRecord, JobRecord]
    const now = Date.now()
    await left.store.commit([createWaiting(over, now - 1), createWaiting(later, now + 60_000)])
    await left.store.commit([createWaiting(claimed, now - 2), createWaiting(recordNamed('d'))])
    expect(await right.shared.listOverdue(9)).toEqual([claimed, over].map(refTo))
    await left.shared.claim(claimed)
    expect(await right.shared.listOverdue(9)).toEqual([refTo(over)])
    await right.store.commit([move(over, 'queued', 'timed_out', 2)])
    expect(await right.shared.listOverdue(9)).toEqual([])
  })
})

describe('a job that is owned', () => {
  test('is written by its owner alone, also after its end', async () => {
    await left.store.commit(upTo(JOB, 'running').changes)
    const writes = [append(JOB, 3), move(JOB, 'running', 'succeeded', 3)]
    expect(await right.store.commit(writes)).toEqual([FENCED, FENCED])
    expect(await left.store.commit(writes)).toMatchObject([OK, { why: 'sequence' }])
    await left.store.commit([move(JOB, 'running', 'succeeded', 4)])
    expect(await right.store.commit([append(JOB, 5)])).toEqual([FENCED])
    expect(await right.store.commit([{ kind: 'policy', ref: JOB, policy: JOB.policy }])).toMatchObject([
      { why: 'status' },
    ])
    expect(await linesOf(right.store, JOB)).toEqual(batch(1, 4).lines.split('\n'))
  })

  test('is created so where it is a child, and let go of at its end', async () => {
    await left.store.commit([create(JOB), { ...create(recordNamed('b')), owner: 'right' }])
    expect(await left.shared.ownedBy('left')).toEqual([refTo(JOB)])
    expect(await left.shared.ownedBy('right')).toEqual([refTo(recordNamed('b'))])
    expect(await left.shared.listUnqueued(0, 9)).toEqual([])
    await left.store.commit([move(JOB, 'queued', 'cancelled', 2)])
    expect(await left.shared.ownedBy('left')).toEqual([])
  })

  test('has no child that another replica makes, nor one that comes after its end', async () => {
    const child = recordNamed('child', { parentId: JOB.id })
    await left.store.commit(upTo(JOB, 'running').changes)
    expect(await right.store.commit([create(child)])).toEqual([FENCED])
    expect(await left.store.commit([create(child)])).toEqual([OK])
    const late = recordNamed('late', { parentId: JOB.id })
    const [, results] = [
      await left.store.commit([move(JOB, 'running', 'interrupted', 3)]),
      await left.store.commit([create(late)]),
    ]
    expect(results).toEqual([FENCED])
  })

  test('takes what another replica may change of any job', async () => {
    await left.store.commit(upTo(JOB, 'cancelling').changes)
    const policy = { ...JOB.policy, priority: 7 }
    expect(await right.store.commit([{ kind: 'policy', ref: JOB, policy }])).toEqual([OK])
    await left.store.commit([move(JOB, 'cancelling', 'abandoned', 4)])
    expect(await right.store.commit([{ kind: 'settled', ref: JOB, settledAt: 5 }])).toEqual([OK])
  })
})

describe('a replica that is dead', () => {
  async function openWithDead() {
    const [dead] = await openReplicas({ url: server.url, prefix }, 'dead')
    await dead.store.commit([...upTo(JOB, 'running').changes, createWaiting(recordNamed('b'))])
    await dead.shared.hold(JOB)
    await dead.shared.hold(recordNamed('b'))
    await dead.shared.beat(0)
    return dead
  }

  test('is taken by one other, and again where that one does not clear up in time', async () => {
    await openWithDead()
    const taken = await Promise.all([left.shared.takeDead(60_000), right.shared.takeDead(60_000)])
    expect(taken.flat()).toEqual(['dead'])
    const [late] = await openReplicas({ url: server.url, prefix }, 'late')
    await late.shared.beat(0)
    expect(await left.shared.takeDead(0)).toEqual(['late'])
    expect(await right.shared.takeDead(60_000)).toEqual(['late'])
    expect(await right.shared.takeDead(60_000)).toEqual([])
  })

  test('does not take itself', async () => {
    await left.shared.beat(0)
    expect(await left.shared.takeDead(60_000)).toEqual([])
    expect(await left.shared.beat(LEASE_MS)).toBe('kept')
  })

  test('has its jobs interrupted once, though two do it, and is fenced', async () => {
    const dead = await openWithDead()
    const interrupt = { ...move(JOB, 'running', 'interrupted', 3), owner: 'dead' }
    const results = await Promise.all([left, right].map(({ store }) => store.commit([interrupt])))
    expect(results.flat().toSorted((a, b) => Number(b.ok) - Number(a.ok))).toEqual([OK, { ok: false, why: 'status' }])
    expect(await dead.store.commit([append(JOB, 3), move(JOB, 'running', 'succeeded', 3)])).toMatchObject([
      { why: 'status' },
      { why: 'status' },
    ])
    expect(await linesOf(left.store, JOB)).toHaveLength(3)
  })

  test('is forgotten when nothing of it is left, and may only then come back', async () => {
    const dead = await openWithDead()
    await left.shared.takeDead(60_000)
    expect(await dead.shared.beat(LEASE_MS)).toBe('dead')
    expect(await dead.shared.claim(recordNamed('b'))).toEqual({ kind: 'lost' })
    expect(await left.shared.forgetReplica('dead')).toBe(false)
    expect(await left.shared.ownedBy('dead')).toEqual([refTo(JOB)])
    await left.store.commit([{ ...move(JOB, 'running', 'interrupted', 3), owner: 'dead' }])
    expect(await left.shared.forgetReplica('dead')).toBe(false)
    for (const ref of await left.shared.heldBy('dead')) await left.shared.hold(ref, 'dead')
    expect(await left.shared.forgetReplica('dead')).toBe(true)
    expect(await dead.shared.beat(LEASE_MS)).toBe('joined')
  })

  test('has its holders taken over: the job is left when the taker leaves it', async () => {
    await openWithDead()
    expect(await left.shared.heldBy('dead')).toHaveLength(2)
    const job = recordNamed('b')
    expect(await right.shared.hold(job, 'dead')).toBe('held')
    expect(await right.shared.hold(job, 'dead')).toBe('held')
    expect(await left.shared.heldBy('dead')).toEqual([refTo(JOB)])
    expect(await left.shared.leave(job)).toBeUndefined()
    expect(await right.shared.leave(job)).toMatchObject({ id: job.id })
  })

  test('had the last holder of a job, and died before it did what follows: that is left to the taker', async () => {
    const dead = await openWithDead()
    const job = recordNamed('b')
    expect(await dead.shared.leave(job)).toMatchObject({ id: job.id })
    await left.shared.takeDead(60_000)
    expect(await left.shared.heldBy('dead')).toContainEqual(refTo(job))
    expect(await left.shared.hold(job, 'dead')).toBe('held')
    expect(await left.shared.leave(job)).toMatchObject({ id: job.id })
    await left.shared.letGo(job)
    expect(await left.shared.heldBy('left')).toEqual([])
  })

  test('had holders of a job that is being cancelled: they are let go of', async () => {
    await openWithDead()
    await left.store.commit([{ ...move(JOB, 'running', 'cancelling', 3), owner: 'dead' }])
    expect(await right.shared.hold(JOB, 'dead')).toBe('ended')
    expect(await right.shared.heldBy('dead')).toEqual([refTo(recordNamed('b'))])
  })
})

describe('holders', () => {
  test('that come while what follows from the leave of the last one is done stay', async () => {
    await left.store.commit([{ ...createWaiting(JOB), isHeld: true }])
    expect(await left.shared.leave(JOB)).toMatchObject({ id: JOB.id })
    await left.shared.hold(JOB)
    await left.shared.letGo(JOB)
    expect(await left.shared.heldBy('left')).toEqual([refTo(JOB)])
  })

  test('that are there when their job is created are known to all', async () => {
    await left.store.commit([{ ...createWaiting(JOB), isHeld: true }])
    expect(await left.shared.heldBy('left')).toEqual([refTo(JOB)])
    await right.shared.hold(JOB)
    expect(await right.shared.leave(JOB)).toBeUndefined()
    expect(await left.shared.leave(JOB)).toMatchObject({ id: JOB.id })
  })

  test.each([
    ['left', 'right'],
    ['right', 'left'],
  ])('that leave over two replicas, %s first and %s last: the last one is told', async (first, last) => {
    const replicas = new Map([left, right].map((jobs) => [jobs.shared.replica, jobs.shared]))
    await left.store.commit([createWaiting(JOB)])
    expect([await left.shared.hold(JOB), await right.shared.hold(JOB)]).toEqual(['held', 'held'])
    expect(await replicas.get(first)?.leave(JOB)).toBeUndefined()
    const lastRecord = { ...JOB, input: null }
    expect(await replicas.get(last)?.leave(JOB)).toEqual(lastRecord)
    expect(await replicas.get(last)?.leave(JOB)).toEqual(lastRecord)
    expect(await replicas.get(first)?.hold(JOB)).toBe('held')
    expect(await replicas.get(last)?.leave(JOB)).toBeUndefined()
  })

  test('that leave at once: one of them is the last', async () => {
    for (let n = 0; n < 100; n += 1) {
      const job = recordNamed(`j${n}`)
      await left.store.commit([createWaiting(job)])
      await Promise.all([left.shared.hold(job), right.shared.hold(job)])
      const lefts = await inBothOrders(
        n,
        () => left.shared.leave(job),
        () => right.shared.leave(job),
      )
      expect(lefts.filter((record) => record !== undefined)).toHaveLength(1)
    }
  })

  test('a hold and a leave at once: the job is held, or its last holder is told', async () => {
    for (let n = 0; n < 100; n += 1) {
      const job = recordNamed(`j${n}`)
      await left.store.commit([createWaiting(job)])
      await left.shared.hold(job)
      const calls = [() => left.shared.leave(job), () => right.shared.hold(job)]
      await Promise.all((n % 2 === 0 ? calls : calls.toReversed()).map((call) => call()))
      expect(await right.shared.leave(job)).toMatchObject({ id: job.id })
    }
  })

  test('are none of a job that has ended, is being cancelled or is not there', async () => {
    await left.store.commit(upTo(JOB, 'running').changes)
    await right.shared.hold(JOB)
    await left.store.commit([move(JOB, 'running', 'succeeded', 3)])
    expect(await right.shared.heldBy('right')).toEqual([])
    expect(await right.shared.leave(JOB)).toBeUndefined()
    const cancelling = recordNamed('c')
    await left.store.commit(upTo(cancelling, 'cancelling').changes)
    for (const job of [JOB, cancelling, recordNamed('none')]) expect(await right.shared.hold(job)).toBe('ended')
  })
})

test('what is published of a log is what stands in it, in its order', async () => {
  const redis = new Redis(server.url)
  onTestFinished(() => redis.disconnect())
  const channel = `${prefix}log:default:${JOB.id}`
  const published: string[] = []
  redis.on('message', (_, message: string) => published.push(message))
  await redis.subscribe(channel)
  await left.store.commit([createWaiting(JOB)])
  await left.shared.claim(JOB)
  await left.store.commit([move(JOB, 'queued', 'running', 2), append(JOB, 3, 2)])
  await Promise.all([right.store.commit([append(JOB, 5)]), left.store.commit([append(JOB, 5)])])
  const long = { kind: 'append', ref: refTo(JOB), events: batch(6, 100, 'x'.repeat(4000)) } as const
  await left.store.commit([long, move(JOB, 'running', 'cancelling', 106)])
  await left.store.commit([move(JOB, 'cancelling', 'cancelled', 107)])
  const entries = await left.store.readEvents(JOB, 0, 2 ** 28)
  expect(entries.length).toBeGreaterThan(10)
  await expect
    .poll(() => published)
    .toEqual(entries.map(({ firstSeq, lastSeq, lines }) => `${firstSeq} ${lastSeq}\n${lines}`))
})

test('calls whose answers are lost are answered as if they had been made once', async () => {
  const proxy = await RedisProxy.start(server.port)
  const [far] = await openReplicas({ url: proxy.url, prefix }, 'far')
  const [waiting, mine, other] = ['w', 'm', 'o'].map((name) => recordNamed(name)) as [JobRecord, JobRecord, JobRecord]
  await left.store.commit([createWaiting(waiting), ...upTo(other, 'running').changes])
  await far.store.commit(upTo(mine, 'running').changes)
  await far.shared.hold(other)
  proxy.losesAnswers = true
  const calls = [
    far.shared.claim(waiting),
    far.shared.seal(mine),
    far.shared.leave(other),
    far.shared.ask(other, requestFor('cancel')),
  ]
  await expect.poll(() => left.shared.asked(other)).toBeDefined()
  proxy.losesAnswers = false
  proxy.cut()
  expect(await Promise.all(calls)).toMatchObject([
    { kind: 'claimed', record: waiting },
    { kind: 'sealed' },
    { id: other.id },
    { kind: 'owned', owner: 'left' },
  ])
})

test('calls of a replica take effect in their order, also the first ones of a connection', async () => {
  await left.store.commit([createWaiting(JOB)])
  await server.run('SCRIPT', 'FLUSH')
  // The other one brings some of the scripts back.
  await right.shared.hold(JOB)
  await right.shared.leave(JOB)
  const [fresh] = await openReplicas({ url: server.url, prefix }, 'fresh')
  await Promise.all([fresh.shared.hold(JOB), fresh.shared.leave(JOB), fresh.shared.hold(JOB)])
  expect(await fresh.shared.heldBy('fresh')).toEqual([refTo(JOB)])
  await Promise.all([fresh.shared.claim(JOB), fresh.shared.ask(JOB, requestFor('stop')), fresh.shared.seal(JOB)])
  expect(await fresh.shared.asked(JOB)).toEqual(requestFor('stop'))
})

test('where Redis is a cluster, every call works with keys that have a hash tag', async () => {
  await using cluster = await RedisServer.start({ args: ['--cluster-enabled', 'yes'] })
  await cluster.run('CLUSTER', 'ADDSLOTSRANGE', '0', '16383')
  await expect.poll(() => cluster.run('CLUSTER', 'INFO'), { timeout: 10_000 }).toContain('cluster_state:ok')
  const [one, two] = await openReplicas({ url: cluster.url, prefix: '{tether}:' }, 'one', 'two')
  const group = parseGroupId('group-0001')
  const remember = { client: 'anna', keepMs: 60_000, maxInAll: 9, maxOfClient: 9 }
  await two.shared.rememberGroup('default', group, requestFor('stop'), remember)
  expect(await two.shared.askOrRemember(recordNamed('b'), requestFor('stop'), remember)).toMatchObject({
    kind: 'remembered',
  })
  await one.store.commit([createWaiting(JOB, 1), createWaiting(recordNamed('b', { group }))])
  expect(await one.shared.listUnqueued(0, 9)).toHaveLength(2)
  await one.shared.noteQueued(JOB)
  expect(await one.shared.listOverdue(9)).toHaveLength(1)
  expect(await one.shared.claim(JOB)).toMatchObject({ kind: 'claimed' })
  expect(await one.shared.claim(recordNamed('b'))).toMatchObject({ kind: 'asked' })
  expect(await two.shared.hold(JOB)).toBe('held')
  expect(await one.shared.ask(JOB, requestFor('stop'))).toMatchObject({ kind: 'owned' })
  expect(await one.shared.seal(JOB)).toMatchObject({ kind: 'asked' })
  await two.shared.beat(0)
  expect(await one.shared.takeDead(0)).toEqual(['two'])
  expect(await one.shared.hold(JOB, 'two')).toBe('held')
  expect(await one.shared.forgetReplica('two')).toBe(true)
  await one.store.commit([move(JOB, 'queued', 'running', 2), move(JOB, 'running', 'cancelling', 3)])
  expect(await one.store.commit([move(JOB, 'cancelling', 'cancelled', 4)])).toEqual([OK])
  expect(await one.shared.leave(JOB)).toBeUndefined()
})

test('where the memory of Redis is used up, jobs are asked, sealed, left and let go of', async () => {
  await using full = await RedisServer.start()
  const [one, other] = await openReplicas({ url: full.url }, 'one', 'other')
  const job = recordNamed('b')
  await one.store.commit([...upTo(JOB, 'running').changes, ...upTo(job, 'running').changes])
  await one.shared.hold(JOB)
  await full.run('CONFIG', 'SET', 'maxmemory', '1')
  expect(await other.shared.ask(JOB, requestFor('cancel'))).toMatchObject({ kind: 'owned' })
  expect(await one.shared.seal(job)).toEqual({ kind: 'sealed' })
  expect(await one.shared.leave(JOB)).toMatchObject({ id: JOB.id })
  expect(await one.shared.beat(0)).toBe('kept')
  expect(await other.shared.takeDead(60_000)).toEqual(['one'])
  await expect(other.shared.claim(job)).rejects.toThrow('maxmemory')
})
