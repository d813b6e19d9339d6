import { describe, expect, test } from 'vitest'
import { parseJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT } from '../../src/job/key.ts'
import type { JobPolicy } from '../../src/job/policy.ts'
import { Holder, type LeaveCause } from '../../src/jobs/Holder.ts'
import { JobHolders } from '../../src/jobs/JobHolders.ts'
import { ManualClock } from '../cancellation/ManualClock.ts'
import { CollectingSink } from '../eventlog/CollectingSink.ts'
import { isCreate, openHeldWorld } from '../eventlog/heldWorld.ts'
import { end, eventsOf, eventually, Gate, openWorld, startOf, taskOf, typesOf, untilRunning } from '../world.ts'

const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))

async function held(policy: Partial<JobPolicy>) {
  const tether = await openWorld({ tasks: [waits] })
  const holder = tether.jobs.openHolder()
  const { ref } = await tether.jobs.start(startOf('waits', null, { holder, policy }))
  await untilRunning(tether, ref)
  const join = async (): Promise<Holder> => {
    const another = tether.jobs.openHolder()
    await tether.jobs.attach(ref, { after: 0, named: true, sink: new CollectingSink(), holder: another })
    return another
  }
  return { tether, ref, holder, join }
}

describe('when the last holder leaves', () => {
  test.each([
    ['cancel', 'cancelled', 'cancellation'],
    ['stop', 'stopped', 'stop'],
  ] as const)('the policy %s ends the job %s', async (onDisconnect, status, field) => {
    const { tether, ref, holder } = await held({ onDisconnect })
    holder.leave('client_disconnected')
    expect(await tether.jobs.outcome(ref)).toMatchObject({ status, [field]: { cause: 'client_disconnected' } })
  })

  test('the policy continue lets it run on', async () => {
    const { tether, ref, holder } = await held({ onDisconnect: 'continue' })
    holder.leave('client_disconnected')
    expect((await tether.jobs.job(ref)).status).toBe('running')
    await end(tether, ref, 'cancel', { waitMs: 5000 })
    expect((await tether.jobs.job(ref)).cancellation?.cause).toBe('cancel_requested')
  })

  test('only the last counts, and with the cause by which it left', async () => {
    const { tether, ref, holder, join } = await held({ onDisconnect: 'cancel' })
    const second = await join()
    holder.leave('client_disconnected')
    holder.leave('client_disconnected')
    expect((await tether.jobs.job(ref)).status).toBe('running')
    second.leave('slow_consumer')
    expect(await tether.jobs.outcome(ref)).toMatchObject({ cancellation: { cause: 'slow_consumer' } })
  })

  test('a holder whose stream the server ended is no disconnect', async () => {
    const { tether, ref, holder } = await held({ onDisconnect: 'cancel' })
    holder.release()
    holder.leave('client_disconnected')
    expect((await tether.jobs.job(ref)).status).toBe('running')
    await end(tether, ref, 'cancel', { waitMs: 5000 })
  })

  test('during stopping, the policy cancel cancels and the policy stop changes nothing', async () => {
    const deaf = taskOf(
      'deaf',
      (ctx) => new Promise((resolve) => ctx.signal.addEventListener('abort', () => resolve(), { once: true })),
    )
    const tether = await openWorld({ tasks: [deaf] })
    for (const onDisconnect of ['cancel', 'stop'] as const) {
      const holder = tether.jobs.openHolder()
      const { ref } = await tether.jobs.start(startOf('deaf', null, { holder, policy: { onDisconnect } }))
      await untilRunning(tether, ref)
      await end(tether, ref, 'stop')
      holder.leave('client_disconnected')
      if (onDisconnect === 'stop') {
        expect((await tether.jobs.job(ref)).status).toBe('stopping')
        await end(tether, ref, 'cancel', { reason: 'test is over' })
      }
      expect(await tether.jobs.outcome(ref)).toMatchObject({
        status: 'cancelled',
        stop: { cause: 'stop_requested' },
        cancellation: { cause: onDisconnect === 'cancel' ? 'client_disconnected' : 'cancel_requested' },
      })
    }
  })

  test('while the job is queued it never runs', async () => {
    let calls = 0
    const counts = taskOf('counts', async () => {
      calls += 1
    })
    const tether = await openWorld({ settings: { CONCURRENCY: '1' }, tasks: [waits, counts] })
    const first = await tether.jobs.start(startOf('waits', null))
    const holder = tether.jobs.openHolder()
    const { ref } = await tether.jobs.start(startOf('counts', null, { holder, policy: { onDisconnect: 'cancel' } }))
    holder.leave('client_disconnected')
    expect(await tether.jobs.outcome(ref)).toMatchObject({ status: 'cancelled', cancellation: { phase: 'queued' } })
    await end(tether, first.ref, 'cancel', { waitMs: 5000 })
    expect(calls).toBe(0)
  })
})

describe('a holder that is gone before its job is recorded', () => {
  test.each(['before the start', 'while it is being written', 'as soon as it is written'] as const)(
    '%s has left all the same: the job is recorded, then ended',
    async (when) => {
      let calls = 0
      const counts = taskOf('counts', async (ctx) => {
        calls += 1
        await ctx.sleep(60_000)
      })
      const { tether, store } = await openHeldWorld({ tasks: [counts] })
      const written = new Gate()
      let isAsked = false
      store.holdCommits(async (changes) => {
        if (!isCreate(changes)) return
        isAsked = true
        await written.opened
      })
      const jobId = parseJobId('job_of_a_holder')
      const ref = { tenant: DEFAULT_TENANT, id: jobId }
      const holder = tether.jobs.openHolder()
      if (when === 'before the start') holder.leave('client_disconnected')
      const started = tether.jobs.start(startOf('counts', null, { jobId, holder, policy: { onDisconnect: 'cancel' } }))
      await eventually('the record is being written', () => isAsked)
      if (when === 'while it is being written') holder.leave('client_disconnected')
      written.open()
      if (when === 'as soon as it is written') void started.then(() => holder.leave('client_disconnected'))
      await started
      expect(await tether.jobs.outcome(ref)).toMatchObject({
        status: 'cancelled',
        cancellation: { cause: 'client_disconnected' },
      })
      const types = typesOf(await eventsOf(tether, ref))
      expect(types[0]).toBe('job.queued')
      expect(types.at(-1)).toBe('job.cancelled')
      if (when !== 'as soon as it is written') {
        expect(types).toHaveLength(2)
        expect(calls).toBe(0)
      }
      expect(tether.jobs.activeCount).toBe(0)
    },
  )
})

describe('a grace', () => {
  test('ends the job when nobody has come back', async () => {
    const { tether, ref, holder } = await held({ onDisconnect: 'cancel', disconnectGraceMs: 20 })
    holder.leave('client_disconnected')
    expect((await tether.jobs.job(ref)).status).toBe('running')
    expect(await tether.jobs.outcome(ref)).toMatchObject({ cancellation: { cause: 'client_disconnected' } })
  })

  test('is over when the policy becomes continue', async () => {
    const { tether, ref, holder } = await held({ onDisconnect: 'cancel', disconnectGraceMs: 30 })
    holder.leave('client_disconnected')
    const view = await tether.jobs.changePolicy(ref, { onDisconnect: 'continue' })
    expect(view.policy).toMatchObject({ onDisconnect: 'continue', timeoutMs: 3_600_000 })
    const leftMs = performance.now()
    await eventually('the grace is over', () => performance.now() - leftMs > 60)
    expect((await tether.jobs.job(ref)).status).toBe('running')
    await end(tether, ref, 'cancel', { waitMs: 5000 })
  })

  test('a policy cannot be changed once the job has ended', async () => {
    const tether = await openWorld({ tasks: [taskOf('quick', async () => 1)] })
    const { ref } = await tether.jobs.start(startOf('quick', null))
    await tether.jobs.outcome(ref)
    await expect(tether.jobs.changePolicy(ref, { onDisconnect: 'continue' })).rejects.toMatchObject({
      code: 'TETHER_JOB_FINISHED',
    })
  })
})

describe('the holders of one job, by the clock', () => {
  function setUp() {
    const clock = new ManualClock()
    const lost: LeaveCause[] = []
    const holders = new JobHolders(clock, (cause) => lost.push(cause))
    const join = (graceMs = 0, leaseMs = 0): Holder => {
      const holder = new Holder()
      holders.join(holder, { graceMs: () => graceMs, leaseMs })
      return holder
    }
    return { clock, lost, holders, join }
  }

  test('one that comes back within the grace takes over; the next leaving starts it anew', () => {
    const { clock, lost, join } = setUp()
    join(100).leave('client_disconnected')
    clock.advance(99)
    const second = join(100)
    clock.advance(1000)
    expect(lost).toEqual([])
    second.leave('slow_consumer')
    clock.advance(99)
    expect(lost).toEqual([])
    clock.advance(1)
    expect(lost).toEqual(['slow_consumer'])
    expect(clock.timers).toBe(0)
  })

  test('a lease that is not renewed is missed, one that is renewed is not', () => {
    const { clock, lost, holders, join } = setUp()
    const first = join(0, 100)
    const second = join(0, 100)
    clock.advance(90)
    expect(holders.renewLease(first.id, 100)).toBe(true)
    clock.advance(20)
    expect(second.left).toBe('lease_missed')
    expect(lost).toEqual([])
    clock.advance(80)
    expect(lost).toEqual(['lease_missed'])
    expect(holders.renewLease(first.id, 100)).toBe(false)
    expect(clock.timers).toBe(0)
  })

  test('one that has left already or was let go of counts for nothing', () => {
    const { lost, holders } = setUp()
    const gone = new Holder()
    gone.leave('client_disconnected')
    holders.join(gone, { graceMs: () => 0, leaseMs: 0 })
    expect(lost).toEqual(['client_disconnected'])
    const released = new Holder()
    released.release()
    holders.join(released, { graceMs: () => 0, leaseMs: 1000 })
    expect(holders.count).toBe(0)
    expect(lost).toHaveLength(1)
  })

  test('are let go of at the end, and leave no timer', () => {
    const { clock, lost, holders, join } = setUp()
    const holder = join(0, 100)
    join(50).leave('client_disconnected')
    holders.close()
    holder.leave('client_disconnected')
    clock.advance(1000)
    expect(lost).toEqual([])
    expect([holders.count, clock.timers]).toEqual([0, 0])
  })

  test('are waited for after a restart', () => {
    const { clock, lost, holders, join } = setUp()
    let came = 0
    const onCame = (): void => {
      came += 1
    }
    holders.expect({ graceMs: 100, atLeastMs: 0 }, onCame)
    clock.advance(50)
    expect(came).toBe(0)
    const holder = join()
    expect(came).toBe(1)
    clock.advance(100)
    expect(lost).toEqual([])
    join().leave('client_disconnected')
    holder.leave('client_disconnected')
    expect(came).toBe(1)
    expect(lost).toHaveLength(1)
    holders.expect({ graceMs: 10, atLeastMs: 0 }, onCame)
    clock.advance(10)
    expect(lost).toHaveLength(2)
  })

  test('are needed no more where the policy no longer asks for one, and never where the job has ended', () => {
    for (const [isClosed, cames] of [
      [false, 1],
      [true, 0],
    ] as const) {
      const { clock, lost, holders } = setUp()
      let came = 0
      holders.expect({ graceMs: 100, atLeastMs: 0 }, () => {
        came += 1
      })
      if (isClosed) holders.close()
      holders.changeGrace(undefined)
      clock.advance(1000)
      expect([came, lost.length, clock.timers]).toEqual([cames, 0, 0])
    }
  })
})

test('a lease that is missed ends the job, and a holder that is not there cannot renew one', async () => {
  const tether = await openWorld({ tasks: [waits] })
  const holder = tether.jobs.openHolder()
  const policy = { onDisconnect: 'cancel' as const, leaseMs: 30 }
  const { ref } = await tether.jobs.start(startOf('waits', null, { holder, policy }))
  await expect(tether.jobs.renewLease(ref, 'holder_nobody')).rejects.toMatchObject({ code: 'TETHER_INVALID_REQUEST' })
  expect(await tether.jobs.outcome(ref)).toMatchObject({ cancellation: { cause: 'lease_missed' } })
})

test('an observer keeps nothing alive and ends nothing', async () => {
  const { tether, ref, holder } = await held({ onDisconnect: 'cancel' })
  const sink = new CollectingSink()
  const { reader, holds } = await tether.jobs.attach(ref, { after: 0, named: true, sink })
  expect(holds).toBe(false)
  reader.start()
  reader.close()
  expect((await tether.jobs.job(ref)).status).toBe('running')
  await tether.jobs.attach(ref, { after: 0, named: true, sink: new CollectingSink() })
  holder.leave('client_disconnected')
  expect((await tether.jobs.outcome(ref)).status).toBe('cancelled')
})

test('a holder that attaches once the job is being cancelled does not hold it', async () => {
  const { tether, ref } = await held({ onDisconnect: 'cancel' })
  const cancelled = end(tether, ref, 'cancel', { waitMs: 5000 })
  const holder = tether.jobs.openHolder()
  const { holds } = await tether.jobs.attach(ref, { after: 0, named: true, sink: new CollectingSink(), holder })
  expect(holds).toBe(false)
  await cancelled
})
