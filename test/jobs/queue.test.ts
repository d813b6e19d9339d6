import fc from 'fast-check'
import Type from 'typebox'
import { describe, expect, test } from 'vitest'
import { defineTask } from '../../src/execution/task.ts'
import { parseJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT, type JobKey, keyOf } from '../../src/job/key.ts'
import type { QueueEntry } from '../../src/jobs/JobQueue.ts'
import { PQueueJobQueue } from '../../src/jobs/PQueueJobQueue.ts'
import { end, eventsOf, eventually, Gate, openWorld, startOf, taskOf, untilRunning } from '../world.ts'

let minted = 0
function freshKey(): JobKey {
  minted += 1
  return keyOf({ tenant: DEFAULT_TENANT, id: parseJobId(`job_queue_${minted}`) })
}

/** A queue of one slot that is taken until `open` is called, so that what is added waits. */
function heldQueue(concurrency = 1) {
  const queue = new PQueueJobQueue(concurrency)
  const gate = new Gate()
  const started: string[] = []
  const entry = (name: string, more: Partial<QueueEntry> = {}): QueueEntry => ({
    key: freshKey(),
    tenant: DEFAULT_TENANT,
    priority: 0,
    limits: [],
    run: async () => {
      started.push(name)
    },
    ...more,
  })
  for (let n = 0; n < concurrency; n += 1) queue.add(entry('', { run: () => gate.opened }))
  const settled = async (): Promise<string[]> => {
    gate.open()
    await eventually('all have run', () => queue.running === 0)
    return started
  }
  return { queue, entry, started, gate, settled }
}

describe('the queue', () => {
  test('starts a job at once where a slot is free', () => {
    const queue = new PQueueJobQueue(2)
    const started: string[] = []
    const { entry } = heldQueue()
    expect(queue.hasFreeSlot).toBe(true)
    queue.add(entry('a', { run: async () => void started.push('a') }))
    expect(started).toEqual(['a'])
  })

  test('hands slots to the highest priority, first in first out among equals', async () => {
    const { queue, entry, settled } = heldQueue()
    for (const [name, priority] of [
      ['a', 0],
      ['b', 5],
      ['c', -5],
      ['d', 5],
      ['e', 0],
    ] as const) {
      queue.add(entry(name, { priority }))
    }
    expect(queue.positionOf(0)).toBe(4)
    expect(queue.positionOf(6)).toBe(0)
    expect(await settled()).toEqual(['b', 'd', 'a', 'e', 'c'])
  })

  test('lets tenants take turns at equal priority', async () => {
    const { queue, entry, settled } = heldQueue()
    for (const name of ['a1', 'a2', 'a3', 'b1', 'b2', 'c1']) queue.add(entry(name, { tenant: name.slice(0, 1) }))
    expect(await settled()).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'a3'])
  })

  test('does not let a limit hold up those behind it', async () => {
    const { queue, entry, started, gate } = heldQueue(3)
    const go = new Gate()
    const limits = [{ name: 'key', limit: 1 }]
    for (const name of ['k1', 'k2', 'k3']) {
      queue.add(
        entry(name, {
          limits,
          run: async () => {
            started.push(name)
            await go.opened
          },
        }),
      )
    }
    queue.add(entry('free'))
    gate.open()
    await eventually('the free one has run', () => started.includes('free'))
    expect(started).toEqual(['k1', 'free'])
    expect(queue.waiting).toBe(2)
    go.open()
    await eventually('all have run', () => queue.running === 0)
    expect(started).toEqual(['k1', 'free', 'k2', 'k3'])
  })

  test('that is paused starts nothing more', async () => {
    const { queue, entry, started, gate } = heldQueue()
    queue.add(entry('waits'))
    queue.pause('draining')
    gate.open()
    await eventually('the slot is free', () => queue.running === 0)
    expect(started).toEqual([])
    expect(queue.waiting).toBe(1)
  })

  test('that is paused for two reasons goes on when both are gone', async () => {
    const { queue, entry, started, gate } = heldQueue()
    queue.add(entry('waits'))
    for (const reason of ['not_listening', 'store_failing', 'store_failing'] as const) queue.pause(reason)
    gate.open()
    await eventually('the slot is free', () => queue.running === 0)
    queue.resume('not_listening')
    queue.resume('not_listening')
    expect(started).toEqual([])
    queue.resume('store_failing')
    expect(started).toEqual(['waits'])
  })

  test('forgets what is taken out: it never runs, also with the slot free, and leaves nothing behind', async () => {
    const { queue, entry, started, settled } = heldQueue()
    const entries = ['a', 'b', 'c'].map((name) => entry(name, { limits: [{ name: 'one', limit: 1 }] }))
    for (const each of entries) queue.add(each)
    const [a, b, c] = entries.map(({ key }) => key)
    if (a === undefined || b === undefined || c === undefined) throw new Error('three entries')
    expect(queue.remove(b)).toBe(true)
    expect(queue.remove(b)).toBe(false)
    expect(queue.waiting).toBe(2)
    await settled()
    expect(started).toEqual(['a', 'c'])
    expect(queue.remove(a)).toBe(false)
    expect(queue.waiting).toBe(0)
  })

  test.each([
    ['alike', () => ({})],
    ['of as many tenants', (n: number) => ({ tenant: `tenant${n}` })],
    ['each with a limit of its own', (n: number) => ({ limits: [{ name: `key${n}`, limit: 1 }] })],
  ])('takes 10,000 jobs, %s, and drops or starts them quickly', async (_name, more) => {
    const { queue, entry, settled } = heldQueue()
    // Its own processor time: others may keep the machine busy.
    const before = process.cpuUsage()
    const entries = Array.from({ length: 10_000 }, (_, n) => entry(String(n), more(n)))
    for (const each of entries) queue.add(each)
    for (const { key } of entries.slice(0, 9000)) queue.remove(key)
    expect(queue.waiting).toBe(1000)
    expect(await settled()).toHaveLength(1000)
    const { user } = process.cpuUsage(before)
    expect(user / 1000).toBeLessThan(2000)
  })

  test('never runs more than its slots and limits allow, leaves nobody waiting that may run, and keeps the order', async () => {
    const jobs = fc.array(
      fc.record({
        tenant: fc.constantFrom('a', 'b'),
        priority: fc.constantFrom(0, 1),
        key: fc.constantFrom('', 'x', 'y'),
        isRemoved: fc.boolean(),
      }),
      { maxLength: 25 },
    )
    await fc.assert(
      fc.asyncProperty(
        jobs,
        fc.integer({ min: 1, max: 4 }),
        fc.infiniteStream(fc.nat()),
        async (list, slots, picks) => {
          const queue = new PQueueJobQueue(slots)
          const limitOf = { x: 1, y: 2 } as const
          const running = new Map<number, { key: string; end: () => void }>()
          const startedOf = new Map<string, number[]>()
          const countOf = (key: string): number => [...running.values()].filter((job) => job.key === key).length
          const keys = list.map(() => freshKey())
          for (const [index, { tenant, priority, key }] of list.entries()) {
            const limits = key === '' ? [] : [{ name: key, limit: limitOf[key === 'x' ? 'x' : 'y'] }]
            const lane = JSON.stringify([tenant, priority, key])
            queue.add({
              key: keys[index] ?? freshKey(),
              tenant,
              priority,
              limits,
              run: () =>
                new Promise((resolve) => {
                  running.set(index, { key, end: resolve })
                  startedOf.set(lane, [...(startedOf.get(lane) ?? []), index])
                }),
            })
          }
          const isWaiting = new Set(list.keys())
          for (const index of running.keys()) isWaiting.delete(index)
          for (const [index, { isRemoved }] of list.entries()) {
            const key = keys[index]
            if (isRemoved && key !== undefined && queue.remove(key)) isWaiting.delete(index)
          }
          for (;;) {
            for (const index of running.keys()) isWaiting.delete(index)
            expect(running.size).toBeLessThanOrEqual(slots)
            expect(countOf('x')).toBeLessThanOrEqual(1)
            expect(countOf('y')).toBeLessThanOrEqual(2)
            expect(queue.waiting).toBe(isWaiting.size)
            if (running.size < slots) {
              for (const index of isWaiting) {
                const key = list[index]?.key
                expect(key === 'x' ? countOf('x') === 1 : key === 'y' && countOf('y') === 2).toBe(true)
              }
            }
            if (running.size === 0) break
            const [pick = 0] = picks.take(1)
            const chosen = [...running.keys()][pick % running.size] ?? 0
            running.get(chosen)?.end()
            running.delete(chosen)
            await new Promise((resolve) => setImmediate(resolve))
          }
          expect(isWaiting.size).toBe(0)
          for (const started of startedOf.values()) expect(started).toEqual(started.toSorted((a, b) => a - b))
        },
      ),
      { numRuns: 60 },
    )
  })
})

const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))

describe('a server whose slots are taken', () => {
  test('refuses past MAX_QUEUED, also where all come at once, and takes more when there is room', async () => {
    const tether = await openWorld({ settings: { CONCURRENCY: '2', MAX_QUEUED: '3' }, tasks: [waits] })
    const answers = await Promise.allSettled(
      Array.from({ length: 12 }, (_, n) => tether.jobs.start(startOf('waits', n))),
    )
    const taken = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []))
    expect(taken).toHaveLength(5)
    for (const answer of answers) {
      if (answer.status === 'rejected') expect(answer.reason).toMatchObject({ code: 'TETHER_QUEUE_FULL' })
    }
    const last = taken.at(-1)
    if (last === undefined) throw new Error('five were taken')
    await end(tether, last.ref, 'cancel')
    await tether.jobs.start(startOf('waits', 'more'))
    await expect(tether.jobs.start(startOf('waits', 'too many'))).rejects.toMatchObject({ code: 'TETHER_QUEUE_FULL' })
  })

  test('runs at most concurrencyLimit jobs of one concurrencyKey, and the others meanwhile', async () => {
    const tether = await openWorld({ settings: { CONCURRENCY: '4' }, tasks: [waits, taskOf('quick', async () => 1)] })
    const policy = { concurrencyKey: 'one', concurrencyLimit: 1 }
    const first = await tether.jobs.start(startOf('waits', 1, { policy }))
    const second = await tether.jobs.start(startOf('waits', 2, { policy }))
    const quick = await tether.jobs.start(startOf('quick', null))
    await tether.jobs.outcome(quick.ref)
    expect((await tether.jobs.job(second.ref)).status).toBe('queued')
    await end(tether, first.ref, 'cancel', { waitMs: 5000 })
    await untilRunning(tether, second.ref)
  })

  test('runs no more of a task at once than its definition says', async () => {
    let running = 0
    let most = 0
    const limited = defineTask({
      name: 'limited',
      input: Type.Unsafe<number>({}),
      concurrencyLimit: 2,
      async run(ctx) {
        running += 1
        most = Math.max(most, running)
        await ctx.sleep(1)
        running -= 1
      },
    })
    const tether = await openWorld({ tasks: [limited] })
    const jobs = await Promise.all(Array.from({ length: 12 }, (_, n) => tether.jobs.start(startOf('limited', n))))
    await Promise.all(jobs.map(({ ref }) => tether.jobs.outcome(ref)))
    expect(most).toBe(2)
  })

  test('tells a job how many wait before it', async () => {
    const tether = await openWorld({ settings: { CONCURRENCY: '1' }, tasks: [waits] })
    await tether.jobs.start(startOf('waits', 0))
    await tether.jobs.start(startOf('waits', 1))
    const urgent = await tether.jobs.start(startOf('waits', 2, { policy: { priority: 10 } }))
    const last = await tether.jobs.start(startOf('waits', 3))
    for (const { ref } of [urgent, last]) await end(tether, ref, 'cancel')
    expect((await eventsOf(tether, urgent.ref))[0]).toMatchObject({ position: 0 })
    expect((await eventsOf(tether, last.ref))[0]).toMatchObject({ position: 2 })
  })
})
