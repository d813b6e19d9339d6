import { describe, expect, test } from 'vitest'
import type { TaskContext } from '../../src/execution/task.ts'
import { TaskFailure } from '../../src/execution/task.ts'
import { end, eventsOf, eventually, Gate, openWorld, startOf, taskOf, untilRunning } from '../world.ts'
import { openHeldWorld } from './heldWorld.ts'

const KIB = 1024
const MIB = 1024 * 1024

function textOf(events: Awaited<ReturnType<typeof eventsOf>>): string {
  return events.map((event) => (event.type === 'output' ? event.text : '')).join('')
}

describe('an author who awaits', () => {
  test('waits while more than 256 KiB are not logged yet, and goes on when they are', async () => {
    const logged = new Gate()
    let sent = 0
    const go = new Gate()
    const pours = taskOf('pours', async (ctx) => {
      await go.opened
      for (let n = 0; n < 40; n += 1) {
        await ctx.output('x'.repeat(32 * KIB))
        sent += 1
      }
    })
    const { tether, store } = await openHeldWorld({ tasks: [pours] })
    const { ref } = await tether.jobs.start(startOf('pours', null))
    await untilRunning(tether, ref)
    store.holdCommits(() => logged.opened)
    go.open()
    await eventually('the author waits', () => sent === 8)
    logged.open()
    expect((await tether.jobs.outcome(ref)).status).toBe('succeeded')
    expect(textOf(await eventsOf(tether, ref))).toHaveLength(40 * 32 * KIB)
  })

  test('and is cancelled meanwhile is let go, though the store takes nothing', async () => {
    const logged = new Gate()
    const pours = taskOf('pours', async (ctx) => {
      for (;;) {
        await ctx.output('x'.repeat(64 * KIB))
        ctx.checkpoint()
      }
    })
    const { tether, store } = await openHeldWorld({ tasks: [pours] })
    const { ref } = await tether.jobs.start(startOf('pours', null))
    await untilRunning(tether, ref)
    store.holdCommits(() => logged.opened)
    const answered = end(tether, ref, 'cancel', { waitMs: 5000 })
    await eventually('the function has settled', () => tether.orchestrator.getActiveExecutionCount() === 0)
    logged.open()
    expect(await answered).toMatchObject({ view: { status: 'cancelled', receipt: { confirmed: true } } })
  })
})

test('a loop of awaited outputs lets the others live, also once its output is refused', async () => {
  const forever = taskOf('forever', async (ctx) => {
    while (!ctx.signal.aborted) await ctx.output('x')
  })
  const tether = await openWorld({ tasks: [forever] })
  const { ref } = await tether.jobs.start(startOf('forever', null))
  await untilRunning(tether, ref)
  expect(await end(tether, ref, 'cancel', { waitMs: 5000 })).toMatchObject({ view: { status: 'cancelled' } })
})

describe('an author who never awaits', () => {
  const CHUNK = 'x'.repeat(64 * KIB)

  function pour(ctx: TaskContext): void {
    for (let n = 0; n < 1024; n += 1) void ctx.output(CHUNK)
  }

  test('fails at 16 MiB, and what fitted is in the log', async () => {
    const tether = await openWorld({ tasks: [taskOf('pours', async (ctx) => pour(ctx))] })
    const { ref } = await tether.jobs.start(startOf('pours', null))
    expect(await tether.jobs.outcome(ref)).toMatchObject({
      status: 'failed',
      failure: { code: 'TETHER_OUTPUT_OVERRUN' },
    })
    expect(textOf(await eventsOf(tether, ref))).toHaveLength(16 * MIB)
  })

  test('fails also where the error is swallowed', async () => {
    const swallows = taskOf('swallows', async (ctx) => {
      try {
        pour(ctx)
      } catch {
        return 'all is well'
      }
      return 'it fitted'
    })
    const tether = await openWorld({ tasks: [swallows] })
    const { ref } = await tether.jobs.start(startOf('swallows', null))
    expect(await tether.jobs.outcome(ref)).toMatchObject({
      status: 'failed',
      failure: { code: 'TETHER_OUTPUT_OVERRUN' },
    })
  })

  test('fails alone: a command that runs beside it, and whose output does not fit any more, harms nobody else', async () => {
    const logged = new Gate()
    const both = taskOf('both', async (ctx) => {
      for (let n = 0; n < 256; n += 1) void ctx.output(CHUNK)
      await ctx.exec('echo too much; sleep 0.1; echo more')
    })
    const { tether, store } = await openHeldWorld({ tasks: [both] })
    const { ref } = await tether.jobs.start(startOf('both', null))
    await untilRunning(tether, ref)
    store.holdCommits(() => logged.opened)
    await eventually('the job has settled', () => tether.orchestrator.getActiveExecutionCount() === 0)
    logged.open()
    expect(await tether.jobs.outcome(ref)).toMatchObject({
      status: 'failed',
      failure: { code: 'TETHER_OUTPUT_OVERRUN' },
    })
  })
})

test('an event that is too large is refused at once, and the job may go on', async () => {
  const large = taskOf('large', async (ctx) => {
    const refused: unknown[] = []
    for (const value of ['x'.repeat(64 * KIB), '\u0001'.repeat(11 * KIB), '語'.repeat(22 * KIB)]) {
      try {
        await ctx.data('large', value)
      } catch (error) {
        refused.push(error instanceof TaskFailure ? error.code : String(error))
      }
    }
    await ctx.data('fits', 'x'.repeat(63 * KIB))
    return refused.map(String)
  })
  const tether = await openWorld({ tasks: [large] })
  const { ref } = await tether.jobs.start(startOf('large', null))
  expect(await tether.jobs.outcome(ref)).toMatchObject({
    status: 'succeeded',
    result: ['TETHER_EVENT_TOO_LARGE', 'TETHER_EVENT_TOO_LARGE', 'TETHER_EVENT_TOO_LARGE'],
  })
  expect((await eventsOf(tether, ref)).filter((event) => event.type === 'data')).toHaveLength(1)
})
