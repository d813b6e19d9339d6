import { expect, test } from 'vitest'
import type { FrameSink } from '../../src/eventlog/JobReader.ts'
import {
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

test('a task cannot write events of another kind through the options of progress', async () => {
  const forged = { type: 'job.succeeded', seq: 99, jobId: 'x', result: 'forged', total: 2 }
  const tether = await openWorld({ tasks: [taskOf('forges', async (ctx) => ctx.progress(1, forged))] })
  const { ref } = await tether.jobs.start(startOf('forges', null))
  await tether.jobs.outcome(ref)
  const events = await eventsOf(tether, ref)
  expect(typesOf(events)).toEqual(['job.queued', 'job.started', 'progress', 'job.succeeded'])
  expect(events[2]).toEqual({ type: 'progress', jobId: ref.id, seq: 3, at: expect.any(String), current: 1, total: 2 })
})

test('a log that is deleted under a slow reader is cut, not ended', async () => {
  const pours = taskOf('pours', async (ctx) => {
    for (let n = 0; n < 100; n += 1) await ctx.output('x'.repeat(60_000))
  })
  const tether = await openWorld({ tasks: [pours] })
  const { ref } = await tether.jobs.start(startOf('pours', null))
  await tether.jobs.outcome(ref)
  const over = Promise.withResolvers<string>()
  const first = new Gate()
  const write = (): boolean => {
    first.open()
    return false
  }
  const sink: FrameSink = {
    write,
    writePage: write,
    pageBytes: 64 * 1024,
    end: () => over.resolve('ended'),
    fail: () => over.resolve('cut'),
  }
  const { reader } = await tether.jobs.attach(ref, { after: 0, named: true, sink })
  reader.start()
  await first.opened
  await tether.jobs.forget(ref)
  const resuming = setInterval(() => reader.resume(), 1)
  expect(await over.promise).toBe('cut')
  clearInterval(resuming)
})

test('a running job whose end cannot be written at a shutdown has its stream cut, not ended', async () => {
  const held: HeldStore[] = []
  const tether = await openWorld({
    settings: { SETTLE_MS: '100' },
    tasks: [taskOf('waits', async (ctx) => ctx.sleep(60_000))],
    wrapStore: (store) => {
      const wrapped = new HeldStore(store)
      held.push(wrapped)
      return wrapped
    },
  })
  const { ref } = await tether.jobs.start(startOf('waits', null))
  await untilRunning(tether, ref)
  const over = Promise.withResolvers<string>()
  const sink: FrameSink = {
    write: () => true,
    writePage: () => true,
    pageBytes: 64 * 1024,
    end: () => over.resolve('ended'),
    fail: () => over.resolve('cut'),
  }
  const { reader } = await tether.jobs.attach(ref, { after: 0, named: true, sink })
  reader.start()
  const never = new Gate()
  held[0]?.holdCommits(() => never.opened)
  const stopped = tether.stop()
  expect(await over.promise).toBe('cut')
  never.open()
  await stopped
})

test('a variable that the loader obeys reaches the command and not what is wrapped around it', async () => {
  for (const CONTAINMENT of ['auto', 'pidns', 'group']) {
    const tether = await openWorld({ settings: { CONTAINMENT } })
    const input = { command: 'echo "[$LD_PRELOAD]"', env: { LD_PRELOAD: '/nowhere/secret.so' } }
    const { ref } = await tether.jobs.start(startOf('command', input))
    expect((await tether.jobs.outcome(ref)).status).toBe('succeeded')
    const said = (await eventsOf(tether, ref)).map((event) =>
      event.type === 'output' && event.channel === 'stdout' ? event.text : '',
    )
    expect(said.join('')).toBe('[/nowhere/secret.so]\n')
  }
})

test('a grace that is made shorter while it runs applies at once', async () => {
  const tether = await openWorld({ tasks: [taskOf('waits', async (ctx) => ctx.sleep(60_000))] })
  const holder = tether.jobs.openHolder()
  const policy = { onDisconnect: 'cancel', disconnectGraceMs: 3_600_000 } as const
  const { ref } = await tether.jobs.start(startOf('waits', null, { policy, holder }))
  await untilRunning(tether, ref)
  holder.leave('client_disconnected')
  await tether.jobs.changePolicy(ref, { disconnectGraceMs: 0 })
  expect((await tether.jobs.outcome(ref)).cancellation?.cause).toBe('client_disconnected')
})

test('a cancel of a job with a child that it does not await takes the child with it', async () => {
  const tether = await openWorld({
    tasks: [
      taskOf('forgets', async (ctx) => {
        void ctx.run('ticks', { count: 1, intervalMs: 1_000_000 })
        await ctx.sleep(60_000)
      }),
    ],
  })
  const { ref } = await tether.jobs.start(startOf('forgets', null))
  await eventually('the child runs', () => tether.orchestrator.getActiveExecutionCount() === 2)
  await end(tether, ref, 'cancel', { waitMs: 5000 })
  expect(tether.orchestrator.getActiveExecutionCount()).toBe(0)
})
