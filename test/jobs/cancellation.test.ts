import { describe, expect, test } from 'vitest'
import { parseJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT, keyOf } from '../../src/job/key.ts'
import type { StoreChange } from '../../src/store/JobStore.ts'
import {
  CALLER,
  end,
  eventsOf,
  eventually,
  Gate,
  HeldStore,
  openWorld,
  startOf,
  taskOf,
  typesOf,
  untilRunning,
} from '../world.ts'

const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))

function isMoveTo(status: string): (changes: readonly StoreChange[]) => boolean {
  return (changes) => changes.some((change) => change.kind === 'move' && change.state.status === status)
}

describe('a cancel, by where the job is', () => {
  test('while it runs: the function is aborted, and the log says cancelling, then cancelled', async () => {
    const tether = await openWorld({ tasks: [waits] })
    const { ref } = await tether.jobs.start(startOf('waits', null))
    await untilRunning(tether, ref)
    const answer = await end(tether, ref, 'cancel', { reason: 'enough', waitMs: 5000 })
    expect(answer).toMatchObject({ kind: 'job', delivery: 'local', view: { status: 'cancelled', terminal: true } })
    expect(tether.orchestrator.getActiveExecutionCount()).toBe(0)
    const events = await eventsOf(tether, ref)
    expect(typesOf(events)).toEqual(['job.queued', 'job.started', 'job.cancelling', 'job.cancelled'])
    expect(events.at(-1)).toMatchObject({
      cancellation: { cause: 'cancel_requested', reason: 'enough', by: 'test', phase: 'running' },
      receipt: { confirmed: true, survivors: [] },
    })
  })

  test('while it is queued: its function is never called, and the log has two events', async () => {
    let calls = 0
    const counts = taskOf('counts', async () => {
      calls += 1
    })
    const tether = await openWorld({ settings: { CONCURRENCY: '1' }, tasks: [waits, counts] })
    const first = await tether.jobs.start(startOf('waits', null))
    const second = await tether.jobs.start(startOf('counts', null))
    const answer = await end(tether, second.ref, 'cancel')
    expect(answer).toMatchObject({ delivery: 'queued', view: { status: 'cancelled' } })
    expect(typesOf(await eventsOf(tether, second.ref))).toEqual(['job.queued', 'job.cancelled'])
    expect((await tether.jobs.job(second.ref)).receipt).toMatchObject({
      confirmed: true,
      released: { processes: 0, requests: 0, files: 0, children: 0, other: 0 },
    })
    await end(tether, first.ref, 'cancel', { waitMs: 5000 })
    const third = await tether.jobs.start(startOf('counts', null))
    await tether.jobs.outcome(third.ref)
    expect(calls).toBe(1)
  })

  test('while it is being claimed: it is found pending when the execution registers, and the function is never called', async () => {
    let calls = 0
    const counts = taskOf('counts', async () => {
      calls += 1
    })
    const claim = new Gate()
    const held: HeldStore[] = []
    const tether = await openWorld({
      tasks: [counts],
      wrapStore: (store) => {
        const wrapped = new HeldStore(store)
        held.push(wrapped)
        return wrapped
      },
    })
    const [store] = held
    store?.holdCommits((changes) => (isMoveTo('running')(changes) ? claim.opened : Promise.resolve()))
    const { ref } = await tether.jobs.start(startOf('counts', null))
    await eventually('the claim is being written', () => store?.asked.some(isMoveTo('running')))
    const answered = end(tether, ref, 'cancel', { waitMs: 5000 })
    expect(tether.pending.isCancelled(keyOf(ref))).toBe(true)
    claim.open()
    expect(await answered).toMatchObject({ view: { status: 'cancelled', cancellation: { phase: 'starting' } } })
    expect(calls).toBe(0)
    expect(tether.pending.size).toBe(0)
    expect(typesOf(await eventsOf(tether, ref))).toEqual([
      'job.queued',
      'job.started',
      'job.cancelling',
      'job.cancelled',
    ])
  })

  test('before it is known, to be remembered: the start is answered as a job that ended and never ran', async () => {
    let calls = 0
    const counts = taskOf('counts', async () => {
      calls += 1
    })
    const tether = await openWorld({ tasks: [counts] })
    const jobId = parseJobId('job_not_yet_there')
    const ref = { tenant: DEFAULT_TENANT, id: jobId }
    expect(await end(tether, ref, 'cancel', { ifUnknown: 'remember' })).toMatchObject({
      kind: 'remembered',
      request: 'cancel',
    })
    await expect(tether.jobs.job(ref)).rejects.toMatchObject({ code: 'TETHER_JOB_NOT_FOUND' })
    const started = await tether.jobs.start(startOf('counts', null, { jobId }))
    expect(started.view).toMatchObject({ status: 'cancelled', cancellation: { phase: 'queued' } })
    expect(typesOf(await eventsOf(tether, ref))).toEqual(['job.queued', 'job.cancelled'])
    expect(calls).toBe(0)
    expect(tether.pending.size).toBe(0)
  })

  test('of an id that nobody knows it is refused', async () => {
    const tether = await openWorld()
    const ref = { tenant: DEFAULT_TENANT, id: parseJobId('job_nobody') }
    await expect(end(tether, ref, 'cancel')).rejects.toMatchObject({ code: 'TETHER_JOB_NOT_FOUND' })
    expect(tether.pending.size).toBe(0)
  })

  test('after it succeeded it is refused, naming the status; after it was cancelled it is answered with the job', async () => {
    const tether = await openWorld({ tasks: [waits, taskOf('quick', async () => 7)] })
    const quick = await tether.jobs.start(startOf('quick', null))
    await tether.jobs.outcome(quick.ref)
    await expect(end(tether, quick.ref, 'cancel')).rejects.toMatchObject({
      code: 'TETHER_JOB_FINISHED',
      message: expect.stringContaining('succeeded'),
    })
    const slow = await tether.jobs.start(startOf('waits', null))
    await end(tether, slow.ref, 'cancel', { waitMs: 5000 })
    const before = await eventsOf(tether, slow.ref)
    expect(await end(tether, slow.ref, 'cancel')).toMatchObject({ delivery: 'none', view: { status: 'cancelled' } })
    expect(await eventsOf(tether, slow.ref)).toEqual(before)
  })

  test('two at once are one: the first stands, both are answered', async () => {
    const tether = await openWorld({ tasks: [waits] })
    const { ref } = await tether.jobs.start(startOf('waits', null))
    await untilRunning(tether, ref)
    const answers = await Promise.all([
      end(tether, ref, 'cancel', { reason: 'first', waitMs: 5000 }),
      end(tether, ref, 'cancel', { reason: 'second', waitMs: 5000 }),
    ])
    for (const answer of answers)
      expect(answer).toMatchObject({ view: { status: 'cancelled', cancellation: { reason: 'first' } } })
    expect(typesOf(await eventsOf(tether, ref)).filter((type) => type.startsWith('job.cancel'))).toHaveLength(2)
  })
})

describe('a cancel and a result in the same turn', () => {
  test('the result decided first stands, and the cancel is refused', async () => {
    const go = new Gate()
    const tether = await openWorld({ tasks: [taskOf('gated', async () => go.opened.then(() => 'done'))] })
    const { ref } = await tether.jobs.start(startOf('gated', null))
    await untilRunning(tether, ref)
    go.open()
    await tether.jobs.outcome(ref)
    await expect(end(tether, ref, 'cancel')).rejects.toMatchObject({ code: 'TETHER_JOB_FINISHED' })
    expect((await tether.jobs.job(ref)).result).toBe('done')
  })

  test('the cancel decided first stands, whatever the function returns', async () => {
    const go = new Gate()
    const tether = await openWorld({ tasks: [taskOf('gated', async () => go.opened.then(() => 'done'))] })
    const { ref } = await tether.jobs.start(startOf('gated', null))
    await untilRunning(tether, ref)
    const answered = end(tether, ref, 'cancel', { waitMs: 5000 })
    go.open()
    expect(await answered).toMatchObject({ view: { status: 'cancelled' } })
    expect((await tether.jobs.job(ref)).result).toBeUndefined()
  })
})

describe('a stop', () => {
  test('lets what is in flight finish and raises at the next boundary', async () => {
    const inFlight = new Gate()
    const steps: string[] = []
    const stepwise = taskOf('stepwise', async (ctx) => {
      steps.push('one')
      await inFlight.opened
      steps.push('one finished')
      ctx.checkpoint()
      steps.push('two')
    })
    const tether = await openWorld({ tasks: [stepwise] })
    const { ref } = await tether.jobs.start(startOf('stepwise', null))
    await untilRunning(tether, ref)
    expect(await end(tether, ref, 'stop')).toMatchObject({ view: { status: 'stopping' } })
    inFlight.open()
    expect(await tether.jobs.outcome(ref)).toMatchObject({ status: 'stopped', stop: { cause: 'stop_requested' } })
    expect(steps).toEqual(['one', 'one finished'])
    expect(typesOf(await eventsOf(tether, ref))).toEqual(['job.queued', 'job.started', 'job.stopping', 'job.stopped'])
  })

  test('that meets no boundary leaves the job succeeded', async () => {
    const go = new Gate()
    const tether = await openWorld({ tasks: [taskOf('gated', async () => go.opened.then(() => 'done'))] })
    const { ref } = await tether.jobs.start(startOf('gated', null))
    await untilRunning(tether, ref)
    await end(tether, ref, 'stop')
    go.open()
    expect(await tether.jobs.outcome(ref)).toMatchObject({ status: 'succeeded', stop: { cause: 'stop_requested' } })
  })

  test('that is caught by the function ends the job stopped all the same', async () => {
    const swallows = taskOf('swallows', async (ctx) => {
      try {
        await ctx.sleep(60_000)
      } catch {
        return 'went on'
      }
      return 'slept'
    })
    const tether = await openWorld({ tasks: [swallows] })
    const { ref } = await tether.jobs.start(startOf('swallows', null))
    await untilRunning(tether, ref)
    await end(tether, ref, 'stop')
    expect(await tether.jobs.outcome(ref)).toMatchObject({ status: 'stopped' })
  })

  test('followed by a cancel ends cancelled, with the stop inside the cancellation', async () => {
    const tether = await openWorld({
      tasks: [
        taskOf(
          'deaf',
          (ctx) => new Promise((resolve) => ctx.signal.addEventListener('abort', () => resolve(), { once: true })),
        ),
      ],
    })
    const { ref } = await tether.jobs.start(startOf('deaf', null))
    await untilRunning(tether, ref)
    await end(tether, ref, 'stop', { reason: 'gently' })
    await end(tether, ref, 'cancel', { reason: 'now' })
    expect(await tether.jobs.outcome(ref)).toMatchObject({
      status: 'cancelled',
      stop: { reason: 'gently' },
      cancellation: { reason: 'now', stop: { reason: 'gently' } },
    })
    const types = typesOf(await eventsOf(tether, ref))
    expect(types).toEqual(['job.queued', 'job.started', 'job.stopping', 'job.cancelling', 'job.cancelled'])
  })

  test('that takes longer than stopDeadlineMs becomes a cancel', async () => {
    const tether = await openWorld({
      tasks: [
        taskOf(
          'deaf',
          (ctx) => new Promise((resolve) => ctx.signal.addEventListener('abort', () => resolve(), { once: true })),
        ),
      ],
    })
    const { ref } = await tether.jobs.start(startOf('deaf', null, { policy: { stopDeadlineMs: 20 } }))
    await untilRunning(tether, ref)
    await end(tether, ref, 'stop')
    expect(await tether.jobs.outcome(ref)).toMatchObject({
      status: 'cancelled',
      cancellation: { cause: 'stop_deadline' },
    })
  })

  test('of a queued job ends it stopped', async () => {
    const tether = await openWorld({ settings: { CONCURRENCY: '1' }, tasks: [waits] })
    await tether.jobs.start(startOf('waits', null))
    const second = await tether.jobs.start(startOf('waits', 'second'))
    expect(await end(tether, second.ref, 'stop')).toMatchObject({ view: { status: 'stopped' } })
    expect(typesOf(await eventsOf(tether, second.ref))).toEqual(['job.queued', 'job.stopped'])
  })
})

describe('a function that does not settle', () => {
  test('ends abandoned after settleMs, is listed as stuck, and frees its slot', async () => {
    const go = new Gate()
    const tether = await openWorld({
      settings: { CONCURRENCY: '1', MAX_ABANDONED: '1' },
      tasks: [taskOf('deaf', () => go.opened), taskOf('quick', async () => 1)],
    })
    const { ref } = await tether.jobs.start(startOf('deaf', null, { policy: { settleMs: 100 } }))
    await untilRunning(tether, ref)
    await end(tether, ref, 'cancel')
    expect(await tether.jobs.outcome(ref)).toMatchObject({
      status: 'abandoned',
      receipt: { confirmed: false, abortedToSettledMs: null },
    })
    expect((await tether.health.ready()).stuck).toMatchObject([{ id: ref.id, task: 'deaf' }])
    const quick = await tether.jobs.start(startOf('quick', null))
    expect(await tether.jobs.outcome(quick.ref)).toMatchObject({ status: 'succeeded' })
    expect((await tether.health.ready()).isReady).toBe(true)
    go.open()
    const settled = await eventually('it is noted that it settled', async () => {
      const view = await tether.jobs.job(ref)
      return view.settledAt !== undefined && view
    })
    expect(settled.status).toBe('abandoned')
    expect((await tether.health.ready()).stuck).toEqual([])
  })

  test('keeps its slot where too many are stuck, and the server is not ready', async () => {
    const go = new Gate()
    const tether = await openWorld({
      settings: { CONCURRENCY: '1', MAX_ABANDONED: '0' },
      tasks: [taskOf('deaf', () => go.opened), taskOf('quick', async () => 1)],
    })
    const { ref } = await tether.jobs.start(startOf('deaf', null, { policy: { settleMs: 100 } }))
    await untilRunning(tether, ref)
    await end(tether, ref, 'cancel')
    await tether.jobs.outcome(ref)
    const quick = await tether.jobs.start(startOf('quick', null))
    expect((await tether.jobs.job(quick.ref)).status).toBe('queued')
    expect((await tether.health.ready()).isReady).toBe(false)
    go.open()
    expect(await tether.jobs.outcome(quick.ref)).toMatchObject({ status: 'succeeded' })
  })
})

describe('output after the cancel', () => {
  test('is fenced: nothing stands between job.cancelling and the terminal event', async () => {
    const chatty = taskOf('chatty', async (ctx) => {
      await ctx.output('before')
      try {
        await ctx.sleep(60_000)
      } finally {
        await ctx.output('after')
      }
    })
    const tether = await openWorld({ tasks: [chatty] })
    const { ref } = await tether.jobs.start(startOf('chatty', null))
    await untilRunning(tether, ref)
    await end(tether, ref, 'cancel')
    await tether.jobs.outcome(ref)
    const events = await eventsOf(tether, ref)
    expect(typesOf(events)).toEqual(['job.queued', 'job.started', 'output', 'job.cancelling', 'job.cancelled'])
    expect(events.map((event) => event.seq)).toEqual([1, 2, 3, 4, 5])
  })
})

describe('a slow store', () => {
  test('does not hold up the abort', async () => {
    const slow = new Gate()
    const aborted = new Gate()
    const held: HeldStore[] = []
    const listens = taskOf(
      'listens',
      (ctx) =>
        new Promise((resolve) => {
          ctx.signal.addEventListener('abort', () => {
            aborted.open()
            resolve()
          })
        }),
    )
    const tether = await openWorld({
      tasks: [listens],
      wrapStore: (store) => {
        const wrapped = new HeldStore(store)
        held.push(wrapped)
        return wrapped
      },
    })
    const { ref } = await tether.jobs.start(startOf('listens', null))
    await untilRunning(tether, ref)
    held[0]?.holdCommits(() => slow.opened)
    const answered = end(tether, ref, 'cancel', { waitMs: 5000 })
    await aborted.opened
    expect((await tether.jobs.job(ref)).status).toBe('running')
    slow.open()
    expect(await answered).toMatchObject({ view: { status: 'cancelled' } })
  })
})

describe('a group', () => {
  test('is cancelled as one, queued and running members alike; with remember also those that start later', async () => {
    const tether = await openWorld({ settings: { CONCURRENCY: '1' }, tasks: [waits] })
    const group = 'group_one' as Parameters<typeof tether.jobs.endGroup>[1]
    const jobs = await Promise.all([1, 2, 3].map((n) => tether.jobs.start(startOf('waits', n, { group }))))
    const answer = await tether.jobs.endGroup(DEFAULT_TENANT, group, {
      kind: 'cancel',
      reason: '',
      caller: CALLER,
      ifUnknown: 'remember',
    })
    expect(answer.accepted + answer.ended).toBe(3)
    for (const { ref } of jobs) expect((await tether.jobs.outcome(ref)).status).toBe('cancelled')
    const late = await tether.jobs.start(startOf('waits', 'late', { group }))
    expect(late.view.status).toBe('cancelled')
  })

  test('that nobody started is refused', async () => {
    const tether = await openWorld()
    const group = 'group_none' as Parameters<typeof tether.jobs.endGroup>[1]
    const asked = tether.jobs.endGroup(DEFAULT_TENANT, group, {
      kind: 'stop',
      reason: '',
      caller: CALLER,
      ifUnknown: 'reject',
    })
    await expect(asked).rejects.toMatchObject({ code: 'TETHER_JOB_NOT_FOUND' })
  })
})
