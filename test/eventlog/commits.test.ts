import { describe, expect, test } from 'vitest'
import type { EventBatch, StoreChange } from '../../src/store/JobStore.ts'
import { StoreError } from '../../src/store/JobStore.ts'
import { end, eventsOf, eventually, Gate, openWorld, startOf, taskOf, typesOf, untilRunning } from '../world.ts'
import { openHeldWorld } from './heldWorld.ts'

const counts = taskOf('counts', async (ctx, input) => {
  for (let n = 0; n < Number(input); n += 1) {
    await ctx.output(`${n}\n`)
    await ctx.sleep(0)
  }
})

function failingTimes(times: number): { readonly hold: () => Promise<void>; readonly left: () => number } {
  let left = times
  return {
    hold: async () => {
      if (left === 0) return
      left -= 1
      throw new StoreError('the disk is full, says the test')
    },
    left: () => left,
  }
}

describe('a store that fails for a while', () => {
  test('gets everything in order, nothing twice and nothing lost', async () => {
    const { tether, store } = await openHeldWorld({ tasks: [counts] })
    const failing = failingTimes(3)
    const first = await tether.jobs.start(startOf('counts', 50))
    store.holdCommits(failing.hold)
    expect((await tether.jobs.outcome(first.ref)).status).toBe('succeeded')
    expect(failing.left()).toBe(0)
    const events = await eventsOf(tether, first.ref)
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1))
    const text = events.map((event) => (event.type === 'output' ? event.text : '')).join('')
    expect(text).toBe(Array.from({ length: 50 }, (_, n) => `${n}\n`).join(''))
  })

  test('shows in the health and refuses new starts meanwhile', async () => {
    const { tether, store } = await openHeldWorld({ tasks: [counts] })
    let isFailing = true
    const { ref } = await tether.jobs.start(startOf('counts', 1_000_000))
    store.holdCommits(async () => {
      if (isFailing) throw new StoreError('the disk is full, says the test')
    })
    await eventually(
      'the failure shows',
      async () => !(await tether.health.ready()).checks.find(({ name }) => name === 'store')?.ok,
    )
    expect((await tether.health.ready()).isReady).toBe(false)
    await expect(tether.jobs.start(startOf('counts', 1))).rejects.toMatchObject({ code: 'TETHER_STORE_UNAVAILABLE' })
    isFailing = false
    await eventually('it is well again', async () => (await tether.health.ready()).isReady)
    const later = await tether.jobs.start(startOf('counts', 2))
    expect((await tether.jobs.outcome(later.ref)).status).toBe('succeeded')
    await end(tether, ref, 'cancel', { waitMs: 5000 })
  })

  test('does not hold up a cancel: the function is aborted meanwhile, and its end is written later', async () => {
    const aborted = new Gate()
    const listens = taskOf('listens', async (ctx) => {
      ctx.signal.addEventListener('abort', () => aborted.open(), { once: true })
      await ctx.sleep(60_000)
    })
    const { tether, store } = await openHeldWorld({ tasks: [listens] })
    const { ref } = await tether.jobs.start(startOf('listens', null))
    await untilRunning(tether, ref)
    let isFailing = true
    store.holdCommits(async () => {
      if (isFailing) throw new StoreError('the disk is full, says the test')
    })
    const answered = end(tether, ref, 'cancel', { waitMs: 10_000 })
    await aborted.opened
    isFailing = false
    expect(await answered).toMatchObject({ view: { status: 'cancelled', receipt: { confirmed: true } } })
    expect(typesOf(await eventsOf(tether, ref))).toEqual([
      'job.queued',
      'job.started',
      'job.cancelling',
      'job.cancelled',
    ])
  })

  test('shows a job whose cancel is not written yet with a receipt that says so', async () => {
    const written = new Gate()
    const { tether, store } = await openHeldWorld({ tasks: [taskOf('waits', async (ctx) => ctx.sleep(60_000))] })
    const { ref } = await tether.jobs.start(startOf('waits', null))
    await untilRunning(tether, ref)
    store.holdCommits(() => written.opened)
    const answered = end(tether, ref, 'cancel', { waitMs: 5000 })
    await eventually('the function has settled', () => tether.orchestrator.getActiveExecutionCount() === 0)
    const view = await tether.jobs.job(ref)
    written.open()
    await answered
    expect(view.receipt).toMatchObject({ recorded: false })
  })
})

test('changes of one job reach the store in the order of their numbers, whatever is written at the same time', async () => {
  const { tether, store } = await openHeldWorld({ tasks: [counts] })
  const jobs = await Promise.all(Array.from({ length: 20 }, () => tether.jobs.start(startOf('counts', 20))))
  await Promise.all(jobs.map(({ ref }) => tether.jobs.outcome(ref)))
  const lastSeqs = new Map<string, number>()
  for (const [id, { firstSeq, lastSeq }] of store.asked.flat().flatMap(batchOf)) {
    expect(firstSeq).toBe((lastSeqs.get(id) ?? 0) + 1)
    lastSeqs.set(id, lastSeq)
  }
  expect(lastSeqs.size).toBe(20)
})

function batchOf(change: StoreChange): [string, EventBatch][] {
  switch (change.kind) {
    case 'create':
      return [[change.record.id, change.events]]
    case 'move':
    case 'append':
      return [[change.ref.id, change.events]]
    default:
      return []
  }
}

test('a start that is repeated is answered though other jobs never stop writing', async () => {
  const pours = taskOf('pours', async (ctx) => {
    while (!ctx.signal.aborted) await ctx.output('x'.repeat(300_000))
  })
  const tether = await openWorld({ tasks: [pours] })
  const { ref } = await tether.jobs.start(startOf('pours', null))
  await untilRunning(tether, ref)
  const again = await tether.jobs.start(startOf('pours', null, { jobId: ref.id }))
  expect(again).toMatchObject({ created: false, ref })
  await end(tether, ref, 'cancel', { waitMs: 5000 })
}, 10_000)

test('after the server has stopped nothing is written any more, though an abandoned function settles', async () => {
  const go = new Gate()
  const deaf = taskOf('deaf', () => go.opened)
  const { tether, store } = await openHeldWorld({ tasks: [deaf] })
  const { ref } = await tether.jobs.start(startOf('deaf', null, { policy: { settleMs: 100 } }))
  await untilRunning(tether, ref)
  await tether.stop()
  const asked = store.asked.length
  go.open()
  await eventually('the function has settled', () => tether.orchestrator.getAbandonedExecutionCount() === 0)
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
  expect(store.asked.length).toBe(asked)
})
