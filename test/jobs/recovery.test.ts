import { describe, expect, test } from 'vitest'
import type { JobPolicy } from '../../src/job/policy.ts'
import type { Holder } from '../../src/jobs/Holder.ts'
import { CollectingSink } from '../eventlog/CollectingSink.ts'
import { JumpingClock } from '../JumpingClock.ts'
import { end, eventsOf, eventually, openWorld, startOf, taskOf, temporaryFolder, typesOf } from '../world.ts'

const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))
const quick = taskOf('quick', async (_ctx, input) => input)

/** A folder in which the jobs of `start` wait: their server was stopped while its one slot was taken. */
async function leftBehind(requests: readonly ReturnType<typeof startOf>[]) {
  const dataDir = await temporaryFolder()
  const before = await openWorld({ dataDir, settings: { CONCURRENCY: '1' }, tasks: [waits, quick] })
  await before.jobs.start(startOf('waits', 'takes the slot'))
  const started = []
  for (const request of requests) started.push(await before.jobs.start(request))
  await before.stop()
  return { dataDir, started }
}

describe('jobs that waited when their server ended', () => {
  test('are run in their order by the next one', async () => {
    const { dataDir, started } = await leftBehind([1, 2, 3].map((n) => startOf('quick', n)))
    const order: unknown[] = []
    const notes = taskOf('quick', async (_ctx, input) => {
      order.push(input)
    })
    const after = await openWorld({ dataDir, settings: { CONCURRENCY: '1' }, tasks: [waits, notes] })
    for (const { ref } of started) await after.jobs.outcome(ref)
    expect(order).toEqual([1, 2, 3])
  })

  test('with onRestart interrupt, or of a task that is gone, are interrupted', async () => {
    const { dataDir, started } = await leftBehind([
      startOf('quick', 1, { policy: { onRestart: 'interrupt' } }),
      startOf('quick', { secret: 'of a task that cannot say so any more' }),
    ])
    const after = await openWorld({ dataDir, tasks: [] })
    const views = await Promise.all(started.map(({ ref }) => after.jobs.job(ref)))
    expect(views.map(({ status }) => status)).toEqual(['interrupted', 'interrupted'])
    expect(views[0]?.failure?.code).toBe('TETHER_SERVER_CRASHED')
    expect(views[1]?.failure?.code).toBe('TETHER_TASK_GONE')
    expect(views[1]?.input).toBeNull()
    for (const { ref } of started)
      expect(typesOf(await eventsOf(after, ref))).toEqual(['job.queued', 'job.interrupted'])
    expect(after.jobs.activeCount).toBe(0)
  })

  test('can be cancelled, and found by their group and idempotency key, by the next one', async () => {
    const group = 'group_left' as Parameters<typeof after.jobs.endGroup>[1]
    const request = startOf('waits', 1, { group, idempotencyKey: 'key-1' })
    const { dataDir, started } = await leftBehind([request])
    const after = await openWorld({ dataDir, tasks: [waits, quick] })
    expect(await after.jobs.start(request)).toMatchObject({ created: false, ref: started[0]?.ref })
    const caller = { tenant: 'default', subject: 'test' }
    const asked = { kind: 'cancel', reason: '', caller, ifUnknown: 'reject' } as const
    expect(await after.jobs.endGroup('default', group, asked)).toMatchObject({ accepted: 1 })
    await eventually('it has ended', () => after.jobs.activeCount === 0)
  })

  test('are started by none that cannot listen', async () => {
    const { dataDir, started } = await leftBehind([startOf('quick', 1)])
    let calls = 0
    const counts = taskOf('quick', async () => {
      calls += 1
    })
    const other = await openWorld()
    const { port } = new URL(other.url)
    await expect(openWorld({ dataDir, settings: { PORT: port }, tasks: [waits, counts] })).rejects.toThrow('EADDRINUSE')
    expect(calls).toBe(0)
    const after = await openWorld({ dataDir, tasks: [waits, counts] })
    for (const { ref } of started) expect((await after.jobs.outcome(ref)).status).toBe('succeeded')
    expect(calls).toBe(1)
  })

  test('and write without pause do not keep the next one from listening', async () => {
    const { dataDir, started } = await leftBehind([startOf('quick', null)])
    const pours = taskOf('quick', async (ctx) => {
      while (!ctx.signal.aborted) await ctx.output('x'.repeat(300_000))
    })
    const after = await openWorld({ dataDir, tasks: [waits, pours] })
    for (const { ref } of started) await end(after, ref, 'cancel', { waitMs: 5000 })
  }, 10_000)
})

describe('a job whose policy is not continue, after a restart', () => {
  async function waiting(policy: Partial<JobPolicy>) {
    const { dataDir, started } = await leftBehind([startOf('quick', 'wanted', { policy })])
    const [first] = started
    if (first === undefined) throw new Error('the job must have been started')
    const clock = new JumpingClock()
    const after = await openWorld({ dataDir, clock, tasks: [waits, quick] })
    const attach = async (holder?: Holder) => {
      const sink = new CollectingSink()
      const attachment = await after.jobs.attach(first.ref, {
        after: 0,
        named: true,
        sink,
        ...(holder === undefined ? {} : { holder }),
      })
      attachment.reader.start()
      return { ...attachment, sink }
    }
    return { after, clock, ref: first.ref, attach }
  }

  test.each([
    ['cancel', 0, 9_000],
    ['stop', 0, 9_000],
    ['cancel', 30_000, 29_000],
  ] as const)(
    '%s with a grace of %i is not run for nobody, and ends when nobody has come',
    async (onDisconnect, disconnectGraceMs, stillMs) => {
      const { after, clock, ref } = await waiting({ onDisconnect, disconnectGraceMs })
      clock.jump(stillMs)
      await new Promise((resolve) => setImmediate(resolve))
      expect((await after.jobs.job(ref)).status).toBe('queued')
      clock.jump(1_000)
      const view = await after.jobs.outcome(ref)
      expect(view.status).toBe(onDisconnect === 'cancel' ? 'cancelled' : 'stopped')
      expect(view.cancellation ?? view.stop).toMatchObject({ cause: 'client_disconnected', phase: 'queued' })
      expect(typesOf(await eventsOf(after, ref))).toEqual(['job.queued', `job.${view.status}`])
    },
  )

  test('runs as soon as a holder comes, and an observer is none', async () => {
    const { after, ref, attach } = await waiting({ onDisconnect: 'cancel' })
    const observer = await attach()
    expect(observer.holds).toBe(false)
    expect((await after.jobs.job(ref)).status).toBe('queued')
    const { holds, sink } = await attach(after.jobs.openHolder())
    expect(holds).toBe(true)
    await sink.over
    expect(typesOf(sink.events)).toEqual(['job.queued', 'job.started', 'job.succeeded'])
    await observer.sink.over
  })

  test('runs for the start that is sent again', async () => {
    const { after, ref } = await waiting({ onDisconnect: 'cancel' })
    const holder = after.jobs.openHolder()
    const again = startOf('quick', 'wanted', { jobId: ref.id, policy: { onDisconnect: 'cancel' }, holder })
    expect(await after.jobs.start(again)).toMatchObject({ created: false })
    expect((await after.jobs.outcome(ref)).status).toBe('succeeded')
  })

  test('runs once its policy is continue, and ends at once where it is cancelled', async () => {
    const first = await waiting({ onDisconnect: 'cancel' })
    await first.after.jobs.changePolicy(first.ref, { onDisconnect: 'continue' })
    expect((await first.after.jobs.outcome(first.ref)).status).toBe('succeeded')
    const second = await waiting({ onDisconnect: 'cancel' })
    await end(second.after, second.ref, 'cancel')
    expect(await second.after.jobs.outcome(second.ref)).toMatchObject({ cancellation: { cause: 'cancel_requested' } })
    second.clock.jump(60_000)
    expect(second.after.jobs.activeCount).toBe(0)
  })
})

test('a log goes on with the next number after a restart', async () => {
  const { dataDir, started } = await leftBehind([startOf('quick', 'again')])
  const after = await openWorld({ dataDir, tasks: [waits, quick] })
  for (const { ref } of started) {
    await after.jobs.outcome(ref)
    expect((await eventsOf(after, ref)).map(({ seq }) => seq)).toEqual([1, 2, 3])
  }
})
