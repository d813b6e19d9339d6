import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { running, uniqueSleep } from '../processes/world.ts'
import { end, eventually, startOf, temporaryFolder, typesOf, untilRunning } from '../world.ts'
import { levels, openIsolated, outcomeOf, runJob, startUntilOutput, textOf, untilWarm } from './world.ts'

/** A loaded machine may be late by this much (ms); `settleMs` itself is kept by the server's own timers. */
const MARGIN_MS = 2000

describe.each(levels)('cancelling an isolated task at the level %s', (level) => {
  test('that sleeps ends it at once, its process gone', async () => {
    const tether = await openIsolated(level)
    const ref = await startUntilOutput(tether, 'sleeps')
    await end(tether, ref, 'cancel', { reason: 'enough', waitMs: 10_000 })
    const { view, events } = await outcomeOf(tether, ref)
    expect(view).toMatchObject({
      status: 'cancelled',
      cancellation: { cause: 'cancel_requested', reason: 'enough', by: 'test', phase: 'running' },
      receipt: { confirmed: true, survivors: [], containment: { level } },
    })
    expect(view.receipt?.released.processes).toBeGreaterThanOrEqual(1)
    expect(view.receipt?.abortedToSettledMs).toBeLessThan(1000)
    expect(typesOf(events)).toEqual(['job.queued', 'job.started', 'output', 'job.cancelling', 'job.cancelled'])
  })

  test.each(['spins', 'backtracks', 'never-settles', 'outputs-for-ever'])(
    'that hears nothing (%s) kills it before its time is over',
    async (task) => {
      const tether = await openIsolated(level)
      const settleMs = 600
      const ref = await startUntilOutput(tether, task, null, { settleMs })
      await end(tether, ref, 'cancel', { waitMs: 10_000 })
      const { view } = await outcomeOf(tether, ref)
      expect(view).toMatchObject({ status: 'cancelled', receipt: { confirmed: true, survivors: [] } })
      expect(view.receipt?.abortedToSettledMs).toBeGreaterThan(settleMs / 2)
      expect(view.receipt?.abortedToSettledMs).toBeLessThan(settleMs + MARGIN_MS)
      expect((await tether.health.ready()).stuck).toEqual([])
    },
  )

  test('that waits in execSync kills what it waits for too', async () => {
    const tether = await openIsolated(level)
    const sleep = uniqueSleep()
    const ref = await startUntilOutput(tether, 'execs-sync', sleep, { settleMs: 600 })
    await eventually('it sleeps', () => running(sleep).length === 1)
    await end(tether, ref, 'cancel', { waitMs: 10_000 })
    const { view } = await outcomeOf(tether, ref)
    expect(view).toMatchObject({ status: 'cancelled', receipt: { confirmed: true, survivors: [] } })
    // Those seen alive: on a machine that gives us no time to look, the tree is killed uncounted.
    expect(view.receipt?.released.processes).toBeGreaterThanOrEqual(1)
    expect(running(sleep)).toEqual([])
  })

  test('takes the commands that it runs with it, deaf ones too', async () => {
    const tether = await openIsolated(level)
    const sleep = uniqueSleep()
    const ref = await startUntilOutput(tether, 'execs-deaf', sleep)
    await eventually('it sleeps', () => running(sleep).length === 1)
    await end(tether, ref, 'cancel', { waitMs: 10_000 })
    const { view } = await outcomeOf(tether, ref)
    expect(view).toMatchObject({ status: 'cancelled', receipt: { confirmed: true, survivors: [] } })
    // Those seen alive: on a machine that gives us no time to look, the tree is killed uncounted.
    expect(view.receipt?.released.processes).toBeGreaterThanOrEqual(1)
    expect(running(sleep)).toEqual([])
  })

  test('that timed out ends it as such', async () => {
    const tether = await openIsolated(level)
    const { view } = await runJob(tether, 'spins', null, { timeoutMs: 2000, settleMs: 300 })
    expect(view).toMatchObject({ status: 'timed_out', receipt: { confirmed: true, survivors: [] } })
  })

  test('that ends by itself takes what it left running with it', async () => {
    const tether = await openIsolated(level)
    const sleep = uniqueSleep()
    expect((await runJob(tether, 'starts-and-returns', sleep)).view.status).toBe('succeeded')
    expect(running(sleep)).toEqual([])
  })
})

describe('cancelling an isolated task', () => {
  test('runs what it deferred, removes its folders and counts both', async () => {
    const tether = await openIsolated('group')
    const marks = await temporaryFolder()
    const ref = await startUntilOutput(tether, 'holds', marks)
    await end(tether, ref, 'cancel', { waitMs: 10_000 })
    const { view, events } = await outcomeOf(tether, ref)
    expect(readdirSync(marks).toSorted()).toEqual(['deferred', 'disposed'])
    expect(view.receipt).toMatchObject({ confirmed: true, released: { other: 2 } })
    expect(view.receipt?.released.files).toBeGreaterThanOrEqual(1)
    expect(existsSync(join(textOf(events, 'text'), '..'))).toBe(false)
  })

  test('removes its folders also where it was killed', async () => {
    const tether = await openIsolated('group')
    const ref = await startUntilOutput(tether, 'holds-and-spins', null, { settleMs: 300 })
    await end(tether, ref, 'cancel', { waitMs: 10_000 })
    const { view, events } = await outcomeOf(tether, ref)
    expect(view.receipt).toMatchObject({ confirmed: true })
    expect(view.receipt?.released.files).toBeGreaterThanOrEqual(1)
    expect(existsSync(join(textOf(events, 'text'), '..'))).toBe(false)
  })

  test('is not confirmed where something it deferred failed', async () => {
    const tether = await openIsolated('group')
    const ref = await startUntilOutput(tether, 'fails-to-clean')
    await end(tether, ref, 'cancel', { waitMs: 10_000 })
    expect((await outcomeOf(tether, ref)).view).toMatchObject({ status: 'cancelled', receipt: { confirmed: false } })
  })

  test('while its process is being started never calls it', async () => {
    const tether = await openIsolated('group')
    const marks = await temporaryFolder()
    await untilWarm(tether)
    const { ref: first } = await tether.jobs.start(startOf('sleeps', null))
    const { ref } = await tether.jobs.start(startOf('holds', marks))
    await untilRunning(tether, ref)
    await end(tether, ref, 'cancel', { waitMs: 10_000 })
    expect((await outcomeOf(tether, ref)).view).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
    expect(readdirSync(marks)).toEqual([])
    await end(tether, first, 'cancel', { waitMs: 10_000 })
  })

  test('cancels its child jobs, whose parent is then cancelled too', async () => {
    const tether = await openIsolated('group')
    const { ref } = await tether.jobs.start(startOf('parent', { task: 'sleeps', input: null }))
    const childId = await eventually('the child runs', async () => {
      const { jobs } = await tether.jobs.list({ tenant: 'default', limit: 10 })
      return jobs.find((job) => job.parentId === ref.id && job.lastSeq > 2)?.id
    })
    await end(tether, ref, 'cancel', { waitMs: 10_000 })
    const { view } = await outcomeOf(tether, ref)
    expect(view).toMatchObject({
      status: 'cancelled',
      cancellation: { phase: 'child' },
      receipt: { confirmed: true, released: { children: 1 } },
    })
    const { jobs } = await tether.jobs.list({ tenant: 'default', limit: 10 })
    expect(jobs.find((job) => job.id === childId)).toMatchObject({
      status: 'cancelled',
      cancellation: { cause: 'parent_cancelled' },
    })
  })

  test('shows a child job of shielded code what it is shown in process', async () => {
    const tether = await openIsolated('group')
    const seen = await Promise.all(
      ['shields-child', 'shields-child-in-process'].map(async (task) => {
        const ref = await startUntilOutput(tether, task)
        await end(tether, ref, 'stop', { waitMs: 10_000 })
        const { view, events } = await outcomeOf(tether, ref)
        expect(view.status).toBe('stopped')
        return events.flatMap((event) => (event.type === 'data' ? [event.value] : []))
      }),
    )
    expect(seen[0]).toEqual(seen[1])
    expect(seen[0]).toHaveLength(1)
  })

  test('after its idle time counts what it sends', async () => {
    const tether = await openIsolated('group')
    const { view } = await runJob(tether, 'spins', null, { idleTimeoutMs: 1500, settleMs: 300 })
    expect(view).toMatchObject({ status: 'timed_out', cancellation: { cause: 'idle_timed_out' } })
  })
})

describe('stopping an isolated task', () => {
  test.each(['steps', 'sleeps', 'swallows'])('ends it at its next boundary (%s)', async (task) => {
    const tether = await openIsolated('group')
    const ref = await startUntilOutput(tether, task)
    await end(tether, ref, 'stop', { reason: 'later', waitMs: 10_000 })
    expect((await outcomeOf(tether, ref)).view).toMatchObject({
      status: 'stopped',
      stop: { cause: 'stop_requested', reason: 'later' },
      receipt: { confirmed: true, released: { processes: 1 } },
    })
  })

  test('tells it the cause, the reason and who asked, as in process', async () => {
    const tether = await openIsolated('group')
    const ref = await startUntilOutput(tether, 'tells-why')
    await end(tether, ref, 'stop', { reason: 'because', waitMs: 10_000 })
    const { view, events } = await outcomeOf(tether, ref)
    expect(view.status).toBe('succeeded')
    expect(events.find((event) => event.type === 'data')).toMatchObject({
      value: { why: 'stop_requested', reason: 'because', by: 'test', name: 'AbortError', isCancelled: false },
    })
  })

  test('of one that hears nothing becomes a cancel at its deadline', async () => {
    const tether = await openIsolated('group')
    const ref = await startUntilOutput(tether, 'spins', null, { stopDeadlineMs: 200, settleMs: 300 })
    await end(tether, ref, 'stop', { waitMs: 10_000 })
    expect((await outcomeOf(tether, ref)).view).toMatchObject({
      status: 'cancelled',
      cancellation: { cause: 'stop_deadline' },
      receipt: { confirmed: true },
    })
  })
})
