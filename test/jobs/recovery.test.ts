import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseGroupId, parseJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT, keyOf } from '../../src/job/key.ts'
import type { JobPolicy } from '../../src/job/policy.ts'
import type { Holder } from '../../src/jobs/Holder.ts'
import { openSqliteJobStore } from '../../src/store/sqlite/SqliteJobStore.ts'
import { CollectingSink } from '../eventlog/CollectingSink.ts'
import { JumpingClock } from '../JumpingClock.ts'
import { create, POLICY, recordNamed } from '../store/records.ts'
import { CALLER, end, eventsOf, eventually, openWorld, startOf, taskOf, temporaryFolder, typesOf } from '../world.ts'

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

  test('and may wait no longer than its queueTimeoutMs ends timed_out, though its grace is longer', async () => {
    const policy = { onDisconnect: 'cancel', disconnectGraceMs: 60_000, queueTimeoutMs: 5_000 } as const
    const { after, clock, ref } = await waiting(policy)
    expect((await after.health.ready()).queued).toBe(1)
    clock.jump(5_000)
    expect((await after.jobs.outcome(ref)).status).toBe('timed_out')
    expect((await after.health.ready()).queued).toBe(0)
  })

  test('waits for 10 s also where its policy is changed to a shorter grace', async () => {
    const { after, clock, ref } = await waiting({ onDisconnect: 'cancel' })
    clock.jump(4_000)
    await after.jobs.changePolicy(ref, { onDisconnect: 'stop' })
    expect((await after.jobs.job(ref)).status).toBe('queued')
    clock.jump(9_999)
    expect((await after.jobs.job(ref)).status).toBe('queued')
    clock.jump(1)
    expect((await after.jobs.outcome(ref)).status).toBe('stopped')
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

describe('a request for a job that was not known before the restart', () => {
  const ref = { tenant: DEFAULT_TENANT, id: parseJobId('job_remembered') }

  test.each(['cancel', 'stop'] as const)('to %s ends the job when it comes, with who asked', async (kind) => {
    const dataDir = await temporaryFolder()
    const before = await openWorld({ dataDir, tasks: [quick] })
    await end(before, ref, kind, { ifUnknown: 'remember', reason: 'asked before' })
    await before.stop()
    const after = await openWorld({ dataDir, tasks: [quick] })
    const { view } = await after.jobs.start(startOf('quick', 1, { jobId: ref.id }))
    expect(view.status).toBe(kind === 'cancel' ? 'cancelled' : 'stopped')
    expect(view.cancellation ?? view.stop).toMatchObject({ reason: 'asked before', by: CALLER.subject })
    await after.stop()
    // It is consumed, also for the next process.
    const third = await openWorld({ dataDir, tasks: [quick] })
    expect(third.pending.tombstoneCount).toBe(0)
  })

  test('of a group stands for every member until it expires', async () => {
    const dataDir = await temporaryFolder()
    const before = await openWorld({ dataDir, tasks: [quick] })
    const group = parseGroupId('group_remembered')
    const asked = { kind: 'cancel', reason: '', caller: CALLER, ifUnknown: 'remember' } as const
    await before.jobs.endGroup(DEFAULT_TENANT, group, asked)
    await before.stop()
    const clock = new JumpingClock()
    const after = await openWorld({ dataDir, clock, tasks: [quick] })
    for (let n = 0; n < 2; n += 1) {
      expect((await after.jobs.start(startOf('quick', n, { group }))).view.status).toBe('cancelled')
    }
    clock.jump(10 * 60_000)
    const { ref: late } = await after.jobs.start(startOf('quick', 3, { group }))
    expect((await after.jobs.outcome(late)).status).toBe('succeeded')
  })

  test('is honoured where the job was recorded and its end was not, because the server died in between', async () => {
    const dataDir = await temporaryFolder()
    const store = await openSqliteJobStore({
      path: join(dataDir, 'tether.db'),
      durability: 'process',
      maxLogBytes: 1024,
    })
    const request = { kind: 'cancel', cause: 'cancel_requested', reason: '', requestedAt: Date.now() } as const
    const name = keyOf(ref)
    const tombstone = { name, request, expiresAt: Date.now() + 60_000 }
    await store.commit([
      { kind: 'tombstone', name, tombstone },
      create(
        recordNamed('a', {
          ...ref,
          task: 'quick',
          policy: { ...POLICY, onDisconnect: 'continue', onRestart: 'run' },
        }),
      ),
    ])
    await store.close()
    const after = await openWorld({ dataDir, tasks: [waits, quick] })
    expect((await after.jobs.job(ref)).status).toBe('cancelled')
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
