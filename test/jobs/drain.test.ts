import { describe, expect, test } from 'vitest'
import { CollectingSink } from '../eventlog/CollectingSink.ts'
import { isCreate, openHeldWorld } from '../eventlog/heldWorld.ts'
import { ask } from '../server/requests.ts'
import {
  eventsOf,
  eventually,
  Gate,
  openWorld,
  startOf,
  taskOf,
  temporaryFolder,
  typesOf,
  untilRunning,
} from '../world.ts'

const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))
const quick = taskOf('quick', async () => 'done')

describe('a shutdown', () => {
  test('interrupts what runs, with a receipt and the cause server_shutdown, and readers get the terminal event', async () => {
    const tether = await openWorld({ tasks: [waits] })
    const { ref } = await tether.jobs.start(startOf('waits', null))
    await untilRunning(tether, ref)
    const sink = new CollectingSink()
    ;(await tether.jobs.attach(ref, { after: 0, named: true, sink })).reader.start()
    await tether.stop()
    await sink.over
    expect(typesOf(sink.events)).toEqual(['job.queued', 'job.started', 'job.cancelling', 'job.interrupted'])
    expect(sink.events.at(-1)).toMatchObject({
      failure: { code: 'TETHER_SERVER_SHUTDOWN', retryable: true },
      cancellation: { cause: 'server_shutdown' },
      receipt: { confirmed: true },
    })
    expect(tether.jobs.activeCount).toBe(0)
  })

  test('interrupts what waits and is held; what waits and is not held stays, and runs at the next start', async () => {
    const dataDir = await temporaryFolder()
    const settings = { CONCURRENCY: '1' }
    const before = await openWorld({ dataDir, settings, tasks: [waits, quick] })
    await before.jobs.start(startOf('waits', null))
    const holder = before.jobs.openHolder()
    const held = await before.jobs.start(startOf('quick', 'held', { holder, policy: { onDisconnect: 'cancel' } }))
    const free = await before.jobs.start(startOf('quick', 'free'))
    await before.stop()
    const after = await openWorld({ dataDir, settings, tasks: [waits, quick] })
    expect(await after.jobs.outcome(held.ref)).toMatchObject({
      status: 'interrupted',
      cancellation: { cause: 'server_shutdown', phase: 'queued' },
    })
    expect(await after.jobs.outcome(free.ref)).toMatchObject({ status: 'succeeded', result: 'done' })
    expect(typesOf(await eventsOf(after, free.ref))).toEqual(['job.queued', 'job.started', 'job.succeeded'])
  })

  test('takes children with their parent', async () => {
    const parent = taskOf('parent', async (ctx) => ctx.run('waits', null))
    const dataDir = await temporaryFolder()
    const before = await openWorld({ dataDir, tasks: [parent, waits] })
    const { ref } = await before.jobs.start(startOf('parent', null))
    await eventually('both run', () => before.orchestrator.getActiveExecutionCount() === 2)
    await before.stop()
    const after = await openWorld({ dataDir, tasks: [parent, waits] })
    expect((await after.jobs.job(ref)).status).toBe('interrupted')
    expect(after.jobs.activeCount).toBe(0)
  })

  test('refuses new starts, also one that was being looked up, and answers one that was being recorded', async () => {
    const { tether, store } = await openHeldWorld({ tasks: [waits] })
    const recorded = new Gate()
    let isAsked = false
    store.holdCommits(async (changes) => {
      if (!isCreate(changes)) return
      isAsked = true
      await recorded.opened
    })
    const holder = tether.jobs.openHolder()
    const started = tether.jobs.start(startOf('waits', null, { holder, policy: { onDisconnect: 'cancel' } }))
    await eventually('it is being recorded', () => isAsked)
    const stopped = tether.stop()
    await expect(tether.jobs.start(startOf('waits', 2))).rejects.toMatchObject({ code: 'TETHER_DRAINING' })
    recorded.open()
    expect((await started).view.status).toBe('interrupted')
    await stopped
  })

  test('refuses to delete a job from then on', async () => {
    const tether = await openWorld({ tasks: [quick] })
    const { ref } = await tether.jobs.start(startOf('quick', null))
    await tether.jobs.outcome(ref)
    await tether.jobs.drain({ finishWithinMs: 0 })
    expect(await ask(tether.url, `/jobs/${ref.id}`, { method: 'DELETE' })).toMatchObject({
      status: 503,
      json: { code: 'TETHER_DRAINING' },
    })
    expect((await ask(tether.url, `/jobs/${ref.id}`)).status).toBe(200)
  })

  test('twice is once, at the same time and later', async () => {
    const tether = await openWorld({ tasks: [waits] })
    const { ref } = await tether.jobs.start(startOf('waits', null))
    await untilRunning(tether, ref)
    await Promise.all([tether.stop(), tether.stop()])
    await tether.stop()
  })

  test('lets what runs finish within DRAIN_MS, and starts nothing that waits', async () => {
    const dataDir = await temporaryFolder()
    const go = new Gate()
    const gated = taskOf('gated', async () => go.opened.then(() => 'finished'))
    const settings = { CONCURRENCY: '1', DRAIN_MS: '20000' }
    const before = await openWorld({ dataDir, settings, tasks: [gated, quick] })
    const running = await before.jobs.start(startOf('gated', null))
    const waiting = await before.jobs.start(startOf('quick', null))
    await untilRunning(before, running.ref)
    const stopped = before.stop()
    expect((await before.health.ready()).isReady).toBe(false)
    const outcome = before.jobs.outcome(running.ref)
    go.open()
    expect(await outcome).toMatchObject({ status: 'succeeded', result: 'finished' })
    expect((await before.jobs.job(waiting.ref)).status).toBe('queued')
    await stopped
  })

  test('that is hurried interrupts at once though DRAIN_MS is long', async () => {
    const tether = await openWorld({ settings: { DRAIN_MS: '60000' }, tasks: [waits] })
    const { ref } = await tether.jobs.start(startOf('waits', null))
    await untilRunning(tether, ref)
    const hurry = new AbortController()
    const outcome = tether.jobs.outcome(ref)
    const stopped = tether.stop(hurry.signal)
    expect((await tether.jobs.job(ref)).status).toBe('running')
    hurry.abort()
    expect((await outcome).status).toBe('interrupted')
    await stopped
  })
})
