import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { BullJobQueue, type BullJobQueueOptions } from '../../src/cluster/BullJobQueue.ts'
import { parseQueueName, queueName } from '../../src/cluster/names.ts'
import { type JobId, parseJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT, type JobRef } from '../../src/job/key.ts'
import { StoreError } from '../../src/store/JobStore.ts'
import { RedisProxy } from './RedisProxy.ts'
import { RedisServer } from './RedisServer.ts'
import { newPrefix, startServer } from './world.ts'

let server: RedisServer
beforeAll(async () => {
  server = await RedisServer.start()
})
afterAll(() => server[Symbol.asyncDispose]())

const TIMEOUT = { timeout: 15_000, interval: 5 }
const LEASE_MS = 1000
const STALLED_INTERVAL_MS = 200

function job(name: string): JobRef {
  return { tenant: DEFAULT_TENANT, id: parseJobId(`job_${name.padStart(6, '0')}`) }
}

/** A replica whose jobs run until the test ends them. */
interface Replica {
  readonly queue: BullJobQueue
  /** All that ever got a slot, in that order. */
  readonly started: JobId[]
  readonly stalled: JobId[]
  readonly errors: string[]
  readonly end: (ref: JobRef) => void
}

async function openReplica(options: Partial<BullJobQueueOptions> = {}): Promise<Replica> {
  const started: JobId[] = []
  const stalled: JobId[] = []
  const errors: string[] = []
  const ends = new Map<JobId, () => void>()
  const queue = await BullJobQueue.open({
    url: server.url,
    prefix: newPrefix(),
    concurrency: 1,
    leaseMs: LEASE_MS,
    stalledIntervalMs: STALLED_INTERVAL_MS,
    onError: (error) => errors.push(error.message),
    ...options,
    onSlot: (ref) => {
      started.push(ref.id)
      return options.onSlot?.(ref) ?? new Promise((resolve) => ends.set(ref.id, resolve))
    },
    onStalled: async (ref) => {
      stalled.push(ref.id)
      await options.onStalled?.(ref)
    },
  })
  onTestFinished(() => queue.close())
  return { queue, started, stalled, errors, end: ({ id }) => ends.get(id)?.() }
}

/** A replica that runs whatever it gets at once. */
function openQuick(options: Partial<BullJobQueueOptions> = {}): Promise<Replica> {
  return openReplica({ onSlot: async () => undefined, ...options })
}

function ids(...refs: readonly JobRef[]): readonly JobId[] {
  return refs.map(({ id }) => id)
}

/** What BullMQ keeps of jobs; none of it may stay. */
async function leftovers(of: RedisServer, prefix: string): Promise<readonly string[]> {
  const keys = (await of.run('KEYS', `${prefix}queue:jobs:*`)) as string[]
  const own = ['events', 'meta', 'id', 'pc', 'marker', 'stalled-check', 'turns']
  return keys.filter((key) => !own.some((name) => key === `${prefix}queue:jobs:${name}`))
}

/** Settles when whatever was under way in Redis and in the loops of the queues has had its time. */
async function rounds(queue: BullJobQueue, count = 20): Promise<void> {
  for (let round = 0; round < count; round += 1) await queue.countWaiting()
}

describe('names', () => {
  const tenant = fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('default', '', '1', '/', ':', '%', 'a/b:c%2F'))
  const id = fc.stringMatching(/^[A-Za-z0-9_-]{8,64}$/)

  test('every job has one that BullMQ takes, and that says which it is', () => {
    fc.assert(
      fc.property(tenant, id, (tenant, id) => {
        const ref = { tenant, id: parseJobId(id) }
        const name = queueName(ref)
        expect(name).not.toContain(':')
        expect(String(Number.parseInt(name, 10))).not.toBe(name)
        expect(parseQueueName(name)).toEqual(ref)
      }),
    )
  })

  test('no two jobs share one', () => {
    fc.assert(
      fc.property(tenant, id, tenant, id, (tenant, id, otherTenant, otherId) => {
        const [one, other] = [
          { tenant, id: parseJobId(id) },
          { tenant: otherTenant, id: parseJobId(otherId) },
        ]
        expect(queueName(one) === queueName(other)).toBe(tenant === otherTenant && id === otherId)
      }),
    )
  })

  test.each(['', 'a/b', 'a:b', '12345678', 'ü %'])('a job of tenant %j gets its slot', async (tenant) => {
    const got: JobRef[] = []
    const { queue } = await openQuick({ onSlot: async (ref) => void got.push(ref) })
    const ref = { tenant, id: parseJobId('12345678') }
    await queue.add(ref, 0)
    await expect.poll(() => got, TIMEOUT).toEqual([ref])
  })
})

describe('order', () => {
  test('the highest priority goes first, and among equals the first that came', async () => {
    const { queue, started } = await openQuick()
    queue.pause('not_listening')
    const added: readonly (readonly [string, number])[] = [
      ['a', 0],
      ['b', -100],
      ['c', 100],
      ['d', 0],
      ['e', 1],
      ['f', 100],
      ['g', -1],
    ]
    for (const [name, priority] of added) await queue.add(job(name), priority)
    expect(await queue.countWaiting()).toBe(7)
    const positions = [101, 100, 99, 1, 0, -1, -99, -100].map((priority) => queue.positionOf(priority))
    expect(await Promise.all(positions)).toEqual([0, 2, 2, 3, 5, 6, 6, 7])
    queue.resume('not_listening')
    await expect.poll(() => started, TIMEOUT).toEqual(ids(...['c', 'f', 'e', 'a', 'd', 'g', 'b'].map(job)))
  })

  test('tenants take turns at equal priority, and of one tenant the first that came goes first', async () => {
    const { queue, started } = await openQuick()
    queue.pause('not_listening')
    const of = (tenant: string, name: string): JobRef => ({ tenant, id: job(name).id })
    const many = ['a1', 'a2', 'a3', 'a4', 'a5'].map((name) => of('a', name))
    for (const ref of many) await queue.add(ref, 0)
    for (const ref of [of('b', 'b1'), of('b', 'b2'), of('c', 'c1')]) await queue.add(ref, 0)
    await queue.add(of('c', 'urgent'), 1)
    // One that is added again keeps its turn.
    for (const ref of many.toReversed()) await queue.add(ref, 0)
    await rounds(queue)
    queue.resume('not_listening')
    const order = ['urgent', 'a1', 'b1', 'c1', 'a2', 'b2', 'a3', 'a4', 'a5']
    await expect.poll(() => started, TIMEOUT).toEqual(ids(...order.map(job)))
  })

  test('what a tenant had before counts for nothing once it is done, or taken out', async () => {
    const { queue, started } = await openQuick()
    const of = (tenant: string, name: string): JobRef => ({ tenant, id: job(name).id })
    const manyOf = (tenant: string, count: number): JobRef[] =>
      Array.from({ length: count }, (_, n) => of(tenant, `${tenant}${n}`))
    queue.pause('not_listening')
    const [done, taken] = [manyOf('d', 30), manyOf('t', 30)]
    for (const ref of [...done, ...taken]) await queue.add(ref, 0)
    await rounds(queue)
    for (const ref of taken) await queue.remove(ref)
    queue.resume('not_listening')
    await expect.poll(() => started.length, TIMEOUT).toBe(30)
    queue.pause('not_listening')
    const [before, behind] = [manyOf('b', 5), manyOf('e', 30)]
    for (const ref of [...before, of('d', 'late-d'), of('t', 'late-t'), ...behind]) await queue.add(ref, 0)
    await rounds(queue)
    queue.resume('not_listening')
    await expect.poll(() => started.length, TIMEOUT).toBe(67)
    const order = started.slice(30)
    // Never behind those that came later.
    for (const name of ['late-d', 'late-t']) expect(order.indexOf(job(name).id)).toBeLessThan(10)
  })

  test('a tenant that comes late waits for no more than one job of each other, also after many', async () => {
    const { queue, started, end } = await openReplica()
    const of = (tenant: string, name: string): JobRef => ({ tenant, id: job(name).id })
    const many = Array.from({ length: 20 }, (_, n) => of('a', `a${n}`))
    for (const ref of many) await queue.add(ref, 0)
    for (const [n, ref] of many.slice(0, 10).entries()) {
      await expect.poll(() => started.length, TIMEOUT).toBe(n + 1)
      end(ref)
    }
    await expect.poll(() => started.length, TIMEOUT).toBe(11)
    await queue.add(of('b', 'b1'), 0)
    await queue.add(of('b', 'b2'), 0)
    await rounds(queue)
    const all = [...many, of('b', 'b1'), of('b', 'b2')]
    for (let n = 11; n < 15; n += 1) {
      const running = all.find((ref) => ref.id === started.at(-1))
      if (running !== undefined) end(running)
      await expect.poll(() => started, TIMEOUT).toHaveLength(n + 1)
    }
    // At the same turn either may be first.
    expect(started.slice(11, 13)).toContain(of('b', 'b1').id)
    expect(started.slice(13, 15)).toContain(of('b', 'b2').id)
  })

  test('twice is once while it waits and while it runs, and after that it is new', async () => {
    const prefix = newPrefix()
    const { queue, started, end } = await openReplica({ prefix })
    await Promise.all([queue.add(job('a'), 0), queue.add(job('a'), 5)])
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a')))
    await queue.add(job('a'), 0)
    expect(await queue.countWaiting()).toBe(0)
    await queue.add(job('b'), 0)
    await queue.add(job('b'), 0)
    expect(await queue.countWaiting()).toBe(1)
    end(job('a'))
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a'), job('b')))
    end(job('b'))
    await expect.poll(() => leftovers(server, prefix), TIMEOUT).toEqual([])
    await queue.add(job('a'), 0)
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a'), job('b'), job('a')))
  })
})

describe('slots', () => {
  test('a replica runs as many as it may, and the next when one ends', async () => {
    const { queue, started, end } = await openReplica({ concurrency: 3 })
    expect(queue.hasFreeSlot).toBe(true)
    for (const name of ['a', 'b', 'c', 'd', 'e']) await queue.add(job(name), 0)
    await expect.poll(() => queue.running, TIMEOUT).toBe(3)
    expect(queue.hasFreeSlot).toBe(false)
    await rounds(queue)
    expect(started).toEqual(ids(job('a'), job('b'), job('c')))
    expect(await queue.countWaiting()).toBe(2)
    end(job('b'))
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a'), job('b'), job('c'), job('d')))
    expect(queue.running).toBe(3)
  })

  test('two replicas share what waits, and none runs twice', async () => {
    const prefix = newPrefix()
    const onSlot = () => new Promise<void>((resolve) => setTimeout(resolve, 1))
    const one = await openReplica({ prefix, concurrency: 4, onSlot })
    const other = await openReplica({ prefix, concurrency: 4, onSlot })
    const all = Array.from({ length: 200 }, (_, index) => job(`n${index}`))
    await Promise.all(all.map((ref, index) => (index % 2 === 0 ? one : other).queue.add(ref, 0)))
    await expect.poll(() => one.started.length + other.started.length, TIMEOUT).toBe(200)
    expect([...one.started, ...other.started].toSorted()).toEqual(ids(...all).toSorted())
    expect(one.started.length).toBeGreaterThan(0)
    expect(other.started.length).toBeGreaterThan(0)
    await expect.poll(() => leftovers(server, prefix), TIMEOUT).toEqual([])
  })

  test('a replica that is full leaves the next to one that is not', async () => {
    const prefix = newPrefix()
    const one = await openReplica({ prefix })
    await one.queue.add(job('a'), 0)
    await expect.poll(() => one.started, TIMEOUT).toEqual(ids(job('a')))
    await one.queue.add(job('b'), 0)
    const other = await openReplica({ prefix })
    await expect.poll(() => other.started, TIMEOUT).toEqual(ids(job('b')))
  })

  test('one is free again where a run rejects against the rule, which is told', async () => {
    const onSlot = () => Promise.reject(new Error('against the rule'))
    const { queue, started, stalled, errors } = await openReplica({ onSlot })
    for (const name of ['a', 'b']) await queue.add(job(name), 0)
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a'), job('b')))
    await expect.poll(() => errors, TIMEOUT).toEqual(['onSlot must not reject', 'onSlot must not reject'])
    expect(stalled).toEqual([])
  })

  test('a long run keeps its job, whatever the lease', async () => {
    const prefix = newPrefix()
    const one = await openReplica({ prefix, leaseMs: 300, stalledIntervalMs: 50 })
    const other = await openReplica({ prefix, leaseMs: 300, stalledIntervalMs: 50 })
    await one.queue.add(job('a'), 0)
    await expect.poll(() => one.started.length + other.started.length, TIMEOUT).toBe(1)
    await new Promise((resolve) => setTimeout(resolve, 1000))
    expect([...one.started, ...other.started]).toEqual(ids(job('a')))
    expect([...one.stalled, ...other.stalled]).toEqual([])
  })
})

describe('remove', () => {
  test('takes one out that waits, and says whether it did', async () => {
    const prefix = newPrefix()
    const { queue, started, end } = await openReplica({ prefix })
    await queue.add(job('a'), 0)
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a')))
    for (const name of ['b', 'c']) await queue.add(job(name), 0)
    expect(await queue.remove(job('b'))).toBe(true)
    expect(await queue.remove(job('b'))).toBe(false)
    expect(await queue.remove(job('unknown'))).toBe(false)
    expect(await queue.countWaiting()).toBe(1)
    end(job('a'))
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a'), job('c')))
    end(job('c'))
    await expect.poll(() => leftovers(server, prefix), TIMEOUT).toEqual([])
  })

  test('leaves one alone that has its slot', async () => {
    const { queue, started, end } = await openReplica()
    await queue.add(job('a'), 0)
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a')))
    expect(await queue.remove(job('a'))).toBe(false)
    await queue.add(job('b'), 0)
    end(job('a'))
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a'), job('b')))
  })

  test('against a claim: one of the two has it', async () => {
    const prefix = newPrefix()
    const { queue, started } = await openQuick({ prefix, concurrency: 3 })
    const other = await openQuick({ prefix, concurrency: 3 })
    let removed = 0
    for (let round = 0; round < 300; round += 1) {
      const ref = job(`r${round}`)
      const added = queue.add(ref, 0)
      // At once, and a little later each time until the claim is first.
      if (round % 2 === 0) await added
      for (let turn = 0; turn < round % 7; turn += 1) await new Promise(setImmediate)
      const wasRemoved = await (round % 3 === 0 ? queue : other.queue).remove(ref)
      await added
      if (wasRemoved) removed += 1
      else await expect.poll(() => started.includes(ref.id) || other.started.includes(ref.id), TIMEOUT).toBe(true)
    }
    await rounds(queue)
    const runs = [...started, ...other.started]
    expect(runs).toHaveLength(300 - removed)
    expect(new Set(runs).size).toBe(runs.length)
  })
})

describe('pause', () => {
  test('no job is started until each reason is gone', async () => {
    const { queue, started } = await openQuick()
    queue.pause('not_listening')
    queue.pause('store_failing')
    queue.pause('store_failing')
    await queue.add(job('a'), 0)
    queue.resume('not_listening')
    queue.resume('not_listening')
    await rounds(queue)
    expect(started).toEqual([])
    expect(await queue.countWaiting()).toBe(1)
    queue.resume('store_failing')
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a')))
  })

  test('what runs goes on, and what follows waits', async () => {
    const { queue, started, end } = await openReplica({ concurrency: 2 })
    for (const name of ['a', 'b', 'c', 'd']) await queue.add(job(name), 0)
    await expect.poll(() => queue.running, TIMEOUT).toBe(2)
    queue.pause('draining')
    end(job('a'))
    await expect.poll(() => queue.running, TIMEOUT).toBe(1)
    await rounds(queue)
    expect(started).toHaveLength(2)
    queue.resume('draining')
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a'), job('b'), job('c')))
    end(job('b'))
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a'), job('b'), job('c'), job('d')))
  })

  test('a job that comes to a replica which was waiting for one goes to another at once, in its place', async () => {
    const prefix = newPrefix()
    const one = await openQuick({ prefix })
    await rounds(one.queue)
    one.queue.pause('store_failing')
    const other = await openReplica({ prefix })
    await other.queue.add(job('a'), 0)
    await expect.poll(() => other.started, { timeout: 1000, interval: 5 }).toEqual(ids(job('a')))
    for (const name of ['b', 'c']) await other.queue.add(job(name), 0)
    other.end(job('a'))
    await expect.poll(() => other.started, TIMEOUT).toEqual(ids(job('a'), job('b')))
    expect(one.started).toEqual([])
  })

  test('at any moment of a claim: no job is started, none is lost, and none runs twice', async () => {
    const prefix = newPrefix()
    const { queue, started } = await openQuick({ prefix })
    for (let round = 0; round < 200; round += 1) {
      const added = queue.add(job(`p${round}`), 0)
      if (round % 2 === 0) await added
      for (let turn = 0; turn < round % 5; turn += 1) await new Promise(setImmediate)
      queue.pause('store_failing')
      const startedThen = started.length
      await added
      await rounds(queue, 3)
      expect(started).toHaveLength(startedThen)
      queue.resume('store_failing')
      if (round % 3 === 0) await expect.poll(() => started.length, TIMEOUT).toBe(round + 1)
    }
    await expect.poll(() => started.length, TIMEOUT).toBe(200)
    expect(new Set(started).size).toBe(200)
    await expect.poll(() => leftovers(server, prefix), TIMEOUT).toEqual([])
  })
})

test('paused at any moment of a chain of jobs, the order stays as it was', async () => {
  const { queue, started } = await openQuick()
  const all = Array.from({ length: 300 }, (_, index) => job(`o${index}`))
  queue.pause('not_listening')
  for (const ref of all) await queue.add(ref, 0)
  for (let round = 0; started.length < all.length; round += 1) {
    queue.resume('not_listening')
    for (let turn = 0; turn < round % 11; turn += 1) await new Promise(setImmediate)
    queue.pause('not_listening')
    const startedThen = started.length
    await rounds(queue, 3)
    expect(started).toHaveLength(startedThen)
  }
  expect(started).toEqual(ids(...all))
})

/** A replica in a process of its own, and what it has printed. */
interface ReplicaProcess {
  readonly child: ChildProcess
  readonly lines: string[]
}

async function spawnReplica(prefix: string, { url } = server): Promise<ReplicaProcess> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'queueReplica.ts'), url, prefix], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const lines: string[] = []
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(line))
  await expect.poll(() => lines, TIMEOUT).toContain('open')
  return { child, lines }
}

/** One that runs `a`, while `b` waits behind it. */
async function spawnBusyReplica(prefix: string, queue: BullJobQueue): Promise<ReplicaProcess> {
  const replica = await spawnReplica(prefix)
  await queue.add(job('a'), 0)
  await expect.poll(() => replica.lines, TIMEOUT).toContain(`slot ${job('a').id}`)
  await queue.add(job('b'), 0)
  return replica
}

describe('a replica that dies', () => {
  test('leaves what waits, and what it ran is told of and never run again', async () => {
    const prefix = newPrefix()
    const { queue, started, stalled } = await openReplica({ prefix })
    queue.pause('not_listening')
    const { child } = await spawnBusyReplica(prefix, queue)
    child.kill('SIGKILL')
    queue.resume('not_listening')
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('b')))
    await expect.poll(() => stalled, TIMEOUT).toEqual(ids(job('a')))
    await expect.poll(async () => (await leftovers(server, prefix)).join(), TIMEOUT).not.toContain(job('a').id)
    expect(started).toEqual(ids(job('b')))
  })

  test('is found dead by a replica without a free slot, and holds up nobody there', async () => {
    const prefix = newPrefix()
    const { queue, started, stalled, end } = await openReplica({ prefix })
    queue.pause('not_listening')
    const { child } = await spawnBusyReplica(prefix, queue)
    queue.resume('not_listening')
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('b')))
    await queue.add(job('c'), 0)
    child.kill('SIGKILL')
    await expect.poll(() => stalled, TIMEOUT).toEqual(ids(job('a')))
    await expect.poll(async () => (await leftovers(server, prefix)).join(), TIMEOUT).not.toContain(job('a').id)
    expect(queue.hasFreeSlot).toBe(false)
    end(job('b'))
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('b'), job('c')))
    await queue.add(job('a'), 0)
    expect(await queue.countWaiting()).toBe(1)
  })

  test('is found dead by a replica that is paused', async () => {
    const prefix = newPrefix()
    const { queue, stalled } = await openReplica({ prefix })
    queue.pause('store_failing')
    const { child } = await spawnBusyReplica(prefix, queue)
    child.kill('SIGKILL')
    await expect.poll(() => stalled, TIMEOUT).toEqual(ids(job('a')))
    expect(await queue.countWaiting()).toBe(1)
  })

  test('is told of again where that could not be noted', async () => {
    const prefix = newPrefix()
    let tries = 0
    const { queue, started, errors } = await openReplica({
      prefix,
      onStalled: async () => {
        tries += 1
        if (tries === 1) throw new Error('not now')
      },
    })
    queue.pause('not_listening')
    const { child } = await spawnBusyReplica(prefix, queue)
    child.kill('SIGKILL')
    await expect.poll(() => tries, TIMEOUT).toBe(1)
    // Meanwhile it has left the queue, since there was a free slot for it.
    queue.resume('not_listening')
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('b')))
    await expect.poll(() => tries, TIMEOUT).toBeGreaterThan(1)
    await expect.poll(async () => (await leftovers(server, prefix)).join(), TIMEOUT).not.toContain(job('a').id)
    expect(errors).toEqual([expect.stringContaining('not now')])
  })

  test('or stands still while it waits for a job holds up the others for two seconds at most', async () => {
    const prefix = newPrefix()
    const { child } = await spawnReplica(prefix)
    const { queue, started } = await openQuick({ prefix })
    await rounds(queue)
    child.kill('SIGSTOP')
    for (const name of ['a', 'b', 'c']) {
      await queue.add(job(name), 0)
      await expect.poll(() => started, { timeout: 3000, interval: 5 }).toContain(job(name).id)
    }
  })

  test('for a time only runs on, and what it ended then changes nothing', async () => {
    const prefix = newPrefix()
    const { queue, started, stalled } = await openReplica({ prefix })
    queue.pause('not_listening')
    const { child, lines } = await spawnBusyReplica(prefix, queue)
    child.kill('SIGSTOP')
    await expect.poll(() => stalled, TIMEOUT).toEqual(ids(job('a')))
    await expect.poll(async () => (await leftovers(server, prefix)).join(), TIMEOUT).not.toContain(job('a').id)
    // Anew, since nobody had claimed it: this is another job for the queue.
    queue.resume('not_listening')
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('b')))
    await queue.add(job('a'), 0)
    child.kill('SIGCONT')
    child.stdin?.write('close\n')
    const [code] = await once(child, 'exit')
    expect(code).toBe(0)
    expect(lines.filter((line) => line.startsWith('slot'))).toEqual([`slot ${job('a').id}`])
    expect(await queue.countWaiting()).toBe(1)
  })
})

/** The error that `call` rejects with, and soon. */
async function refusalOf(call: Promise<unknown>, withinMs = 2500): Promise<Error> {
  const beganMs = performance.now()
  const error: unknown = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  expect(performance.now() - beganMs).toBeLessThan(withinMs)
  if (!(error instanceof StoreError)) throw new Error(`a StoreError must be thrown, got ${String(error)}`)
  return error
}

async function isThere(queue: BullJobQueue): Promise<boolean> {
  const [result] = await Promise.allSettled([queue.countWaiting()])
  return result.status === 'fulfilled'
}

describe('while Redis is away', () => {
  test('an open is refused', async () => {
    const own = await startServer()
    await own.kill()
    const error = await refusalOf(openReplica({ url: own.url }))
    expect(error.message).toContain(`the Redis at 127.0.0.1:${own.port} cannot be reached (connect ECONNREFUSED`)
  })

  test('every call is refused at once, and afterwards what waited goes on by itself', async () => {
    const own = await startServer({ isDurable: true })
    const prefix = newPrefix()
    const { queue, started, end, errors } = await openReplica({ url: own.url, prefix })
    for (const name of ['a', 'b', 'c']) await queue.add(job(name), 0)
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a')))
    await own.kill()
    await expect.poll(() => errors.length, TIMEOUT).toBeGreaterThan(0)
    const calls = [queue.add(job('d'), 0), queue.remove(job('b')), queue.positionOf(0), queue.countWaiting()]
    for (const error of await Promise.all(calls.map((call) => refusalOf(call, 100)))) {
      expect(error.message).toContain(`127.0.0.1:${own.port} cannot be reached`)
    }
    end(job('a'))
    await own.restart()
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a'), job('b')))
    await queue.add(job('d'), 1)
    end(job('b'))
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a'), job('b'), job('d')))
    end(job('d'))
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a'), job('b'), job('d'), job('c')))
    end(job('c'))
    await expect.poll(() => leftovers(own, prefix), TIMEOUT).toEqual([])
  })

  test('an idle replica waits on, and gets the next job', async () => {
    const own = await startServer({ isDurable: true })
    const { queue, started } = await openQuick({ url: own.url })
    await rounds(queue)
    await own.restart()
    await expect.poll(() => isThere(queue), TIMEOUT).toBe(true)
    await queue.add(job('a'), 0)
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a')))
  })

  test('a connection that was cut without a word takes the call for a job with it, which waits two seconds for it', async () => {
    const own = await startServer()
    const proxy = await RedisProxy.start(own.port)
    const { queue, started } = await openReplica({ url: proxy.url })
    // It waits, and its place in Redis outlives it.
    await rounds(queue)
    proxy.cut()
    await expect.poll(() => isThere(queue), TIMEOUT).toBe(true)
    await queue.add(job('a'), 0)
    await expect.poll(() => started, { timeout: 6000 }).toEqual(ids(job('a')))
  })

  test('connections whose first answers are lost are given up, and say so until then', async () => {
    const own = await startServer()
    const proxy = await RedisProxy.start(own.port)
    const { queue, started } = await openQuick({ url: proxy.url, commandTimeoutMs: 300 })
    const beginning = async () => String(await own.run('CLIENT', 'LIST')).match(/cmd=info/g)?.length ?? 0
    proxy.losesAnswers = true
    proxy.cut()
    await expect.poll(beginning, TIMEOUT).toBeGreaterThanOrEqual(2)
    await expect(queue.check()).rejects.toThrow('cannot be reached')
    // These two get no answer any more; the next ones would.
    proxy.losesAnswers = false
    proxy.silence()
    await expect.poll(() => isThere(queue), TIMEOUT).toBe(true)
    await expect.poll(() => queue.check().then(() => true, String), TIMEOUT).toBe(true)
    await queue.add(job('a'), 0)
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a')))
  })

  test('and comes back with nothing: what runs goes on, and what is added anew is run', async () => {
    const own = await startServer()
    const prefix = newPrefix()
    const { queue, started, end } = await openReplica({ url: own.url, prefix })
    for (const name of ['a', 'b']) await queue.add(job(name), 0)
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a')))
    await own.restart()
    await expect.poll(() => isThere(queue), TIMEOUT).toBe(true)
    expect(queue.running).toBe(1)
    expect(await queue.countWaiting()).toBe(0)
    await queue.add(job('b'), 0)
    end(job('a'))
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a'), job('b')))
    end(job('b'))
    await expect.poll(() => leftovers(own, prefix), TIMEOUT).toEqual([])
  })

  test('one that stands still is given up after a time, and taken up again', async () => {
    const own = await startServer()
    const { queue, started } = await openQuick({ url: own.url, commandTimeoutMs: 300 })
    own.pause()
    const error = await refusalOf(queue.add(job('a'), 0), 1000)
    expect(error.message).toContain('did not answer')
    own.resume()
    await expect.poll(() => isThere(queue), TIMEOUT).toBe(true)
    await queue.add(job('b'), 0)
    await expect.poll(() => started, TIMEOUT).toContain(job('b').id)
    expect(new Set(started).size).toBe(started.length)
  })

  test('a connection that is cut at any moment of a claim loses no job: what was not started is told of', async () => {
    const proxy = await RedisProxy.start(server.port)
    const prefix = newPrefix()
    const { queue, started, stalled } = await openQuick({ url: proxy.url, prefix })
    const helper = await openReplica({ prefix })
    helper.queue.pause('store_failing')
    const all = Array.from({ length: 25 }, (_, round) => job(`c${round}`))
    for (const [round, ref] of all.entries()) {
      await helper.queue.add(ref, 0)
      for (let turn = 0; turn < round % 5; turn += 1) await new Promise(setImmediate)
      proxy.cut()
      await expect.poll(() => isThere(queue), TIMEOUT).toBe(true)
    }
    const known = () => new Set([...started, ...stalled, ...helper.stalled])
    await expect.poll(() => known().size, TIMEOUT).toBe(all.length)
    await expect.poll(() => leftovers(server, prefix), TIMEOUT).toEqual([])
    expect(new Set(started).size).toBe(started.length)
  })
})

describe('close', () => {
  test('leaves what waits to the others', async () => {
    const prefix = newPrefix()
    const { queue, started } = await openReplica({ prefix })
    for (const name of ['a', 'b']) await queue.add(job(name), 0)
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a')))
    await queue.close()
    const other = await openQuick({ prefix })
    await expect.poll(() => other.started, TIMEOUT).toEqual(ids(job('b')))
    await expect.poll(() => leftovers(server, prefix), TIMEOUT).toEqual([])
    expect(other.stalled).toEqual([])
  })

  test('waits for what runs as long as it is told to, and lets nothing follow', async () => {
    const prefix = newPrefix()
    const { queue, started, end } = await openReplica({ prefix })
    for (const name of ['a', 'b']) await queue.add(job(name), 0)
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a')))
    const closed = queue.close({ graceMs: 10_000 })
    const early = new Promise((resolve) => setTimeout(resolve, 100, 'early'))
    expect(await Promise.race([closed, early])).toBe('early')
    end(job('a'))
    const beganMs = performance.now()
    await Promise.all([closed, queue.close()])
    expect(performance.now() - beganMs).toBeLessThan(1000)
    expect(started).toEqual(ids(job('a')))
    await refusalOf(queue.add(job('c'), 0))
  })

  test('at any moment of a claim loses no job', async () => {
    const prefix = newPrefix()
    const started: JobId[] = []
    const onSlot = async ({ id }: JobRef) => {
      started.push(id)
    }
    const keeper = await openReplica({ prefix })
    keeper.queue.pause('not_listening')
    for (let round = 0; round < 30; round += 1) {
      const { queue } = await openReplica({ prefix, onSlot })
      for (const name of ['x', 'y']) await keeper.queue.add(job(`${round}${name}`), 0)
      for (let turn = 0; turn < round % 6; turn += 1) await new Promise(setImmediate)
      await queue.close()
    }
    const last = await openReplica({ prefix, onSlot })
    await expect.poll(() => started.length, TIMEOUT).toBe(60)
    expect(new Set(started).size).toBe(60)
    expect([...keeper.stalled, ...last.stalled]).toEqual([])
  })

  test.each(['killed', 'stopped'])('settles where Redis is %s', async (how) => {
    const own = await startServer()
    const { queue, started, errors } = await openReplica({ url: own.url })
    for (const name of ['a', 'b']) await queue.add(job(name), 0)
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a')))
    if (how === 'killed') {
      await own.kill()
      await expect.poll(() => errors.length, TIMEOUT).toBeGreaterThan(0)
    } else {
      own.pause()
    }
    const beganMs = performance.now()
    await queue.close()
    expect(performance.now() - beganMs).toBeLessThan(5000)
    own.resume()
  })

  test.each(['there', 'killed', 'stopped'])('nothing keeps the process alive where Redis is %s', async (how) => {
    const own = await startServer()
    const { child, lines } = await spawnReplica(newPrefix(), own)
    if (how === 'killed') await own.kill()
    if (how === 'stopped') own.pause()
    child.stdin?.write('close\n')
    await expect.poll(() => lines, TIMEOUT).toContain('closed')
    const closedMs = performance.now()
    if (child.exitCode === null) await once(child, 'exit')
    expect(performance.now() - closedMs).toBeLessThan(1000)
    expect(child.exitCode).toBe(0)
    own.resume()
  })
})

describe('a Redis', () => {
  test('that is a cluster keeps all of it in one place, by the hash tag of the prefix', async () => {
    const own = await startServer({ args: ['--cluster-enabled', 'yes'] })
    await own.run('CLUSTER', 'ADDSLOTSRANGE', '0', '16383')
    await expect.poll(() => own.run('CLUSTER', 'INFO'), TIMEOUT).toContain('cluster_state:ok')
    const { queue, started } = await openQuick({ url: own.url, prefix: '{tether}:' })
    for (const name of ['a', 'b']) await queue.add(job(name), 0)
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a'), job('b')))
    expect(await queue.remove(job('a'))).toBe(false)
  })

  test('of which this user may ask nothing is taken', async () => {
    const own = await startServer()
    await own.run('ACL', 'SETUSER', 'guest', 'on', '>guest', '~*', '+@all', '-info', '-config', '-client')
    const { queue, started } = await openQuick({ url: `redis://guest:guest@127.0.0.1:${own.port}` })
    await queue.add(job('a'), 0)
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a')))
  })

  test('that is full is not asked for jobs over and over', async () => {
    const own = await startServer()
    const { queue, started, errors } = await openQuick({ url: own.url, concurrency: 5 })
    queue.pause('not_listening')
    await queue.add(job('a'), 0)
    await own.run('CONFIG', 'SET', 'maxmemory', '1')
    await own.run('CONFIG', 'RESETSTAT')
    queue.resume('not_listening')
    await expect.poll(() => errors.join(), TIMEOUT).toContain('OOM')
    await new Promise((resolve) => setTimeout(resolve, 600))
    const [, calls] = /evalsha:calls=(\d+)/.exec(String(await own.run('INFO', 'commandstats'))) ?? []
    expect(Number(calls)).toBeLessThan(50)
    await own.run('CONFIG', 'SET', 'maxmemory', '0')
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a')))
  })

  test('that is full refuses an add and says so, and goes on when it has room', async () => {
    const own = await startServer()
    const { queue, started, end } = await openReplica({ url: own.url })
    for (const name of ['a', 'b', 'c']) await queue.add(job(name), 0)
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a')))
    await own.run('CONFIG', 'SET', 'maxmemory', '1')
    const error = await refusalOf(queue.add(job('d'), 0))
    expect(error.message).toContain('has used all the memory that it may')
    const forgotten = (await own.run('SCRIPT', 'FLUSH')) === 'OK' && (await refusalOf(queue.add(job('d'), 0)))
    expect(String(forgotten)).toContain('has used all the memory that it may')
    expect(await queue.remove(job('b'))).toBe(true)
    end(job('a'))
    await own.run('CONFIG', 'SET', 'maxmemory', '0')
    await expect.poll(() => started, TIMEOUT).toEqual(ids(job('a'), job('c')))
  })
})

test('a replica has two connections, and none when it is closed', async () => {
  const own = await startServer()
  const count = async () =>
    String(await own.run('CLIENT', 'LIST'))
      .trim()
      .split('\n').length - 1
  expect(await count()).toBe(0)
  const replicas = await Promise.all([1, 2, 3].map(() => openReplica({ url: own.url, concurrency: 5 })))
  for (const { queue } of replicas) await queue.add(job('a'), 0)
  expect(await count()).toBe(6)
  await Promise.all(replicas.map(({ queue }) => queue.close()))
  await expect.poll(count, TIMEOUT).toBe(0)
})

test('what BullMQ tells of each job is not kept for long', async () => {
  const prefix = newPrefix()
  const { queue, started } = await openQuick({ prefix, concurrency: 10 })
  await Promise.all(Array.from({ length: 1000 }, (_, index) => queue.add(job(`e${index}`), 0)))
  await expect.poll(() => started.length, TIMEOUT).toBe(1000)
  expect(await server.run('XLEN', `${prefix}queue:jobs:events`)).toBeLessThan(500)
})
