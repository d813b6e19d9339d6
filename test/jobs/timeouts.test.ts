import { describe, expect, test } from 'vitest'
import { JobTimers } from '../../src/jobs/JobTimers.ts'
import { ManualClock } from '../cancellation/ManualClock.ts'
import { end, eventsOf, openWorld, startOf, taskOf, typesOf, untilRunning } from '../world.ts'

const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))

describe('a job that takes too long', () => {
  test('ends timed_out after timeoutMs, with the phase in which it was', async () => {
    const tether = await openWorld({ tasks: [waits] })
    const { ref } = await tether.jobs.start(startOf('waits', null, { policy: { timeoutMs: 20 } }))
    expect(await tether.jobs.outcome(ref)).toMatchObject({
      status: 'timed_out',
      cancellation: { cause: 'timed_out', phase: 'running' },
      receipt: { confirmed: true },
    })
    expect(typesOf(await eventsOf(tether, ref))).toEqual([
      'job.queued',
      'job.started',
      'job.cancelling',
      'job.timed_out',
    ])
  })

  test.each([
    ['asked for more', { timeoutMs: 60_000 }],
    ['asked for none and runs in the background', { onDisconnect: 'continue' as const }],
  ])('is capped by MAX_RUN_MS where it %s', async (_name, policy) => {
    const tether = await openWorld({ settings: { MAX_RUN_MS: '25' }, tasks: [waits] })
    const { ref, view } = await tether.jobs.start(startOf('waits', null, { policy }))
    expect(view.policy.timeoutMs).toBe(25)
    expect(await tether.jobs.outcome(ref)).toMatchObject({ status: 'timed_out', cancellation: { cause: 'timed_out' } })
  })

  test('and waits for a slot is counted from its start, not from its queueing', async () => {
    const tether = await openWorld({ settings: { CONCURRENCY: '1' }, tasks: [waits, taskOf('quick', async () => 1)] })
    const first = await tether.jobs.start(startOf('waits', null, { policy: { timeoutMs: 400 } }))
    const second = await tether.jobs.start(startOf('quick', null, { policy: { timeoutMs: 300 } }))
    expect((await tether.jobs.outcome(first.ref)).status).toBe('timed_out')
    expect((await tether.jobs.outcome(second.ref)).status).toBe('succeeded')
  })

  test('after it was asked to stop ends timed_out with the stop inside', async () => {
    const deaf = taskOf(
      'deaf',
      (ctx) => new Promise((resolve) => ctx.signal.addEventListener('abort', () => resolve(), { once: true })),
    )
    const tether = await openWorld({ tasks: [deaf] })
    const { ref } = await tether.jobs.start(startOf('deaf', null, { policy: { timeoutMs: 500 } }))
    await untilRunning(tether, ref)
    await end(tether, ref, 'stop')
    expect(await tether.jobs.outcome(ref)).toMatchObject({
      status: 'timed_out',
      cancellation: { cause: 'timed_out', stop: { cause: 'stop_requested' } },
    })
  })
})

test('a job that publishes nothing ends timed_out after idleTimeoutMs', async () => {
  const tether = await openWorld({ tasks: [waits] })
  const { ref } = await tether.jobs.start(startOf('waits', null, { policy: { idleTimeoutMs: 20 } }))
  expect(await tether.jobs.outcome(ref)).toMatchObject({
    status: 'timed_out',
    cancellation: { cause: 'idle_timed_out' },
  })
})

test('each event that a job publishes moves its idle deadline', async () => {
  const speaks = taskOf('speaks', async (ctx) => {
    for (let n = 0; n < 8; n += 1) {
      await ctx.sleep(100)
      await ctx.progress(n)
    }
  })
  const tether = await openWorld({ tasks: [speaks] })
  const { ref } = await tether.jobs.start(startOf('speaks', null, { policy: { idleTimeoutMs: 700 } }))
  expect((await tether.jobs.outcome(ref)).status).toBe('succeeded')
})

test('a job that waits for a slot longer than queueTimeoutMs ends timed_out in the phase queued', async () => {
  const tether = await openWorld({ settings: { CONCURRENCY: '1' }, tasks: [waits] })
  const first = await tether.jobs.start(startOf('waits', null))
  const second = await tether.jobs.start(startOf('waits', 2, { policy: { queueTimeoutMs: 20 } }))
  expect(await tether.jobs.outcome(second.ref)).toMatchObject({
    status: 'timed_out',
    cancellation: { cause: 'timed_out', phase: 'queued' },
  })
  expect(typesOf(await eventsOf(tether, second.ref))).toEqual(['job.queued', 'job.timed_out'])
  await end(tether, first.ref, 'cancel', { waitMs: 5000 })
})

test('a job that got its slot in time is not ended by queueTimeoutMs', async () => {
  const naps = taskOf('naps', async (ctx) => ctx.sleep(60))
  const tether = await openWorld({ tasks: [naps] })
  const { ref } = await tether.jobs.start(startOf('naps', null, { policy: { queueTimeoutMs: 20 } }))
  expect((await tether.jobs.outcome(ref)).status).toBe('succeeded')
})

describe('the deadlines of a job, by the clock', () => {
  test('the idle one falls due only when nothing was published for all of its time', () => {
    const clock = new ManualClock()
    const timers = new JobTimers(clock)
    let due = 0
    timers.armIdle(100, () => {
      due += 1
    })
    for (let n = 0; n < 10; n += 1) {
      clock.advance(99)
      timers.touch()
    }
    expect(due).toBe(0)
    expect(clock.timers).toBe(1)
    clock.advance(99)
    expect(due).toBe(0)
    clock.advance(1)
    expect(due).toBe(1)
    expect(clock.timers).toBe(0)
  })

  test('0 is none, arming anew replaces, and closing leaves nothing', () => {
    const clock = new ManualClock()
    const timers = new JobTimers(clock)
    const due: string[] = []
    timers.arm('run', 0, () => due.push('none'))
    timers.armIdle(0, () => due.push('none'))
    timers.arm('run', 10, () => due.push('first'))
    timers.arm('run', 20, () => due.push('second'))
    timers.arm('stop', 30, () => due.push('stop'))
    clock.advance(20)
    timers.close()
    timers.close()
    clock.advance(100)
    expect(due).toEqual(['second'])
    expect(clock.timers).toBe(0)
  })
})
