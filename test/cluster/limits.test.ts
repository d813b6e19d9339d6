import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { RedisJobs } from '../../src/cluster/RedisJobStore.ts'
import type { JobRecord } from '../../src/job/record.ts'
import type { RunLimit } from '../../src/store/JobStore.ts'
import { type ChangeOf, move, POLICY, recordNamed, refTo } from '../store/records.ts'
import { RedisServer } from './RedisServer.ts'
import { createWaiting, openReplicas, requestFor } from './replicas.ts'
import { newPrefix } from './world.ts'

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

const ONE: readonly RunLimit[] = [{ name: 'key/default/a: b\n%', limit: 1 }]
const TWO_OF_TASK: RunLimit = { name: 'task/t', limit: 2 }

function limited(record: JobRecord, limits = ONE): ChangeOf<'create'> {
  return { ...createWaiting(record), limits }
}

/** In the order of their names: each is younger than the one before. */
function jobsNamed(...names: readonly string[]): readonly JobRecord[] {
  return names.map((name, index) => recordNamed(name, { createdAt: 1_700_000_000_000 + index }))
}

async function admitted(limits: readonly RunLimit[] = []): Promise<readonly string[]> {
  const jobs = await left.shared.listAdmitted(
    limits.map(({ name }) => name),
    9,
  )
  return jobs.map(({ ref }) => ref.id)
}

async function claim({ shared }: RedisJobs, job: JobRecord | undefined): Promise<string> {
  return job === undefined ? 'none' : (await shared.claim(job)).kind
}

async function end({ store }: RedisJobs, job: JobRecord, seq = 2): Promise<void> {
  const from = seq === 2 ? 'queued' : 'running'
  expect(await store.commit([move(job, from, 'cancelled', seq)])).toEqual([{ ok: true }])
}

async function keysLeft(): Promise<readonly unknown[]> {
  const keys = [await server.run('KEYS', `${prefix}*`)].flat()
  return keys.filter((key) => /:(running|blocked|limits)/.test(String(key)))
}

test('a job that a limit holds back runs once another has ended, at whichever replica', async () => {
  const [a, b] = jobsNamed('a', 'b') as [JobRecord, JobRecord]
  await left.store.commit([limited(a), limited(b)])
  expect(await claim(left, a)).toBe('claimed')
  expect(await claim(left, a)).toBe('claimed')
  expect(await claim(right, b)).toBe('limited')
  expect(await admitted()).toEqual([])
  expect([await left.shared.countBlocked(), await left.shared.listUnqueued(0, 9)]).toEqual([1, []])
  await left.store.commit([move(a, 'queued', 'running', 2)])
  expect(await claim(right, b)).toBe('limited')
  await end(left, a, 3)
  for (const names of [ONE, [], [{ name: 'other', limit: 1 }]]) {
    expect(await admitted(names)).toEqual(names[0]?.name === 'other' ? [] : [b.id])
  }
  expect(await left.shared.listUnqueued(0, 9)).toEqual([refTo(b)])
  expect(await claim(right, b)).toBe('claimed')
  expect([await left.shared.countBlocked(), await left.shared.listUnqueued(0, 9)]).toEqual([0, []])
  await end(right, b)
  expect(await keysLeft()).toEqual([])
})

test('those that wait go by priority and age, also where a younger one asks first', async () => {
  const [a, b, c, d] = jobsNamed('a', 'b', 'c', 'd') as [JobRecord, JobRecord, JobRecord, JobRecord]
  const urgent = { ...d, policy: { ...POLICY, priority: 1 } }
  await left.store.commit([a, c, b, urgent].map((job) => limited(job)))
  expect(await claim(left, a)).toBe('claimed')
  for (const job of [c, b, urgent]) expect(await claim(left, job)).toBe('limited')
  await end(left, a)
  expect(await admitted(ONE)).toEqual([urgent.id])
  for (const job of [b, c]) expect(await claim(right, job)).toBe('limited')
  expect(await claim(right, urgent)).toBe('claimed')
  await end(right, urgent)
  expect(await admitted(ONE)).toEqual([b.id])
})

test('one that is held back by one limit holds up nobody at another', async () => {
  const [a, b, c] = jobsNamed('a', 'b', 'c') as [JobRecord, JobRecord, JobRecord]
  await left.store.commit([limited(a), limited(b, [...ONE, TWO_OF_TASK]), limited(c, [TWO_OF_TASK])])
  await left.store.commit(jobsNamed('d').map((job) => limited(job, [TWO_OF_TASK])))
  expect(await claim(left, a)).toBe('claimed')
  expect(await claim(left, b)).toBe('limited')
  expect(await claim(left, c)).toBe('claimed')
  expect(await claim(left, jobsNamed('d')[0])).toBe('claimed')
  await end(left, a)
  expect(await admitted(ONE)).toEqual([b.id])
  // Now it is the other one.
  expect(await claim(left, b)).toBe('limited')
  expect(await admitted()).toEqual([])
  await end(left, c)
  expect(await admitted([TWO_OF_TASK])).toEqual([b.id])
  expect(await claim(left, b)).toBe('claimed')
})

test('a larger limit of a younger one lets it pass one that is held back', async () => {
  const [a, b, c] = jobsNamed('a', 'b', 'c') as [JobRecord, JobRecord, JobRecord]
  const larger = ONE.map(({ name }) => ({ name, limit: 3 }))
  await left.store.commit([limited(a), limited(b), limited(c, larger)])
  expect(await claim(left, a)).toBe('claimed')
  expect(await claim(left, b)).toBe('limited')
  expect(await claim(left, c)).toBe('claimed')
})

test('one that is asked to end, given back, run again or taken from a dead replica makes room', async () => {
  const [a, b, c] = jobsNamed('a', 'b', 'c') as [JobRecord, JobRecord, JobRecord]
  await left.store.commit([limited(a), limited(b), limited(c)])
  expect(await claim(left, a)).toBe('claimed')
  for (const job of [b, c]) expect(await claim(left, job)).toBe('limited')
  expect(await right.shared.ask(b, requestFor('cancel'))).toMatchObject({ kind: 'queued' })
  await end(right, b)
  expect(await left.shared.countBlocked()).toBe(1)
  expect(await left.shared.giveBack(a, 'left')).toBe(true)
  expect(await admitted(ONE)).toEqual([c.id])
  expect(await claim(right, c)).toBe('claimed')
  expect(await claim(right, a)).toBe('limited')
  await right.store.commit([move(c, 'queued', 'running', 2), move(c, 'running', 'queued', 3)])
  expect(await admitted(ONE)).toEqual([a.id])
  expect(await claim(left, a)).toBe('claimed')
  await left.store.commit([move(a, 'queued', 'running', 2)])
  await right.store.commit([{ ...move(a, 'running', 'interrupted', 3), owner: 'left' }])
  expect(await claim(right, c)).toBe('claimed')
})

test('one that is asked to end while a limit holds it back is found, should whoever asked die', async () => {
  const [a, b] = jobsNamed('a', 'b') as [JobRecord, JobRecord]
  await left.store.commit([limited(a), limited(b)])
  expect(await claim(left, a)).toBe('claimed')
  expect(await claim(right, b)).toBe('limited')
  expect(await right.shared.ask(b, requestFor('cancel'))).toMatchObject({ kind: 'queued' })
  expect(await left.shared.listUnqueued(0, 9)).toEqual([refTo(b)])
  expect(await left.shared.asked(b)).toMatchObject({ kind: 'cancel' })
})
