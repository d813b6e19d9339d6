import { describe, expect, test } from 'vitest'
import { parseJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT } from '../../src/job/key.ts'
import { StoreError } from '../../src/store/JobStore.ts'
import { isMoveTo, openHeldWorld } from '../eventlog/heldWorld.ts'
import { RawClient } from '../server/RawClient.ts'
import { ask, jobOf } from '../server/requests.ts'
import { eventually, Gate, HeldStore, openWorld, startOf, taskOf, untilRunning } from '../world.ts'
import { openFailingWorld, quick, silent } from './failingWorld.ts'

const ID = 'job-promised'

/** A stream that starts `silent`, and whose client has gone again. */
async function startAndLeave(url: string, more: Readonly<Record<string, unknown>>): Promise<void> {
  const client = await RawClient.connect(url)
  client.request({ method: 'POST', path: '/execute/stream', body: { task: 'silent', jobId: ID, ...more } })
  await client.until('event: job.started')
  client.socket.destroy()
}

describe('a change of policy that is refused in an outage', () => {
  test('leaves the grace that runs, and the job ends when that is over', async () => {
    const { tether, outage, recover } = await openFailingWorld({ settings: { MAX_STREAMS_PER_CLIENT: '1' } })
    await startAndLeave(tether.url, { disconnectGraceMs: 2_000 })
    await eventually('the server has noticed', async () => {
      const body = { task: 'quick', jobId: 'job-another' }
      return (await ask(tether.url, '/execute/stream', { body })).status === 200
    })
    outage.isFailing = true
    const change = await ask(tether.url, `/jobs/${ID}`, { method: 'PATCH', body: { onDisconnect: 'continue' } })
    expect(change.status).toBe(503)
    await recover()
    expect((await jobOf(tether.url, ID)).policy).toMatchObject({ onDisconnect: 'cancel', disconnectGraceMs: 2_000 })
    const view = await eventually('it has ended', async () => {
      const now = await jobOf(tether.url, ID)
      return now.terminal && now
    })
    expect(view).toMatchObject({ status: 'cancelled', cancellation: { cause: 'client_disconnected' } })
  })

  test('does not hide that its holder left meanwhile', async () => {
    const { tether, outage, recover } = await openFailingWorld()
    const client = await RawClient.connect(tether.url)
    client.request({ method: 'POST', path: '/execute/stream', body: { task: 'silent', jobId: ID } })
    await client.until('event: job.started')
    outage.isFailing = true
    const change = ask(tether.url, `/jobs/${ID}`, { method: 'PATCH', body: { onDisconnect: 'continue' } })
    await eventually('it is in force', async () => (await jobOf(tether.url, ID)).policy.onDisconnect === 'continue')
    client.socket.destroy()
    expect((await change).status).toBe(503)
    await recover()
    await eventually('it has ended', async () => (await jobOf(tether.url, ID)).status === 'cancelled')
  })

  test('leaves nothing in force, whichever other change was refused with it', async () => {
    const { tether, outage, recover } = await openFailingWorld()
    const { ref } = await tether.jobs.start(startOf('silent', null))
    await untilRunning(tether, ref)
    outage.isFailing = true
    const changes = ['cancel', 'stop', 'cancel'].map((onDisconnect) =>
      ask(tether.url, `/jobs/${ref.id}`, { method: 'PATCH', body: { onDisconnect } }),
    )
    expect((await Promise.all(changes)).map(({ status }) => status)).toEqual([503, 503, 503])
    await recover()
    expect((await jobOf(tether.url, ref.id)).policy.onDisconnect).toBe('continue')
  })
})

describe('a start that the store does not take', () => {
  /** A start that is being written in an outage. */
  async function openWithdrawn() {
    let ran = 0
    const runs = taskOf('runs', async () => {
      ran += 1
    })
    const world = await openFailingWorld({ tasks: [runs] })
    world.outage.isFailing = true
    const asked = world.store.asked.length
    const body = { task: 'runs', jobId: ID }
    const start = ask(world.tether.url, '/jobs', { body })
    await eventually('it is being written', () => world.store.asked.length > asked)
    const startAgain = async () => {
      await world.recover()
      expect((await ask(world.tether.url, '/jobs', { body })).status).toBe(202)
      return eventually('it has ended', async () => {
        const view = await jobOf(world.tether.url, ID)
        return view.terminal && view
      })
    }
    return { ...world, start, startAgain, ran: () => ran }
  }

  test.each(['', '?hold=true'])('is not followed for ever by who attached to it meanwhile (%s)', async (query) => {
    const { tether, start, startAgain } = await openWithdrawn()
    const reader = await RawClient.connect(tether.url)
    reader.request({ path: `/jobs/${ID}/events${query}` })
    expect((await start).status).toBe(503)
    // Either it was cut off, or it was told that there is no such job.
    await eventually('it is told', () => reader.isClosed || reader.received.includes('TETHER_JOB_NOT_FOUND'))
    expect(await startAgain()).toMatchObject({ status: 'succeeded' })
  })

  test('does not lose the cancel that was accepted while it was being written', async () => {
    const { tether, start, startAgain, ran } = await openWithdrawn()
    const cancel = await ask(tether.url, `/jobs/${ID}/cancel`, { body: { ifUnknown: 'remember' } })
    expect(cancel.status).toBe(202)
    expect((await start).status).toBe(503)
    expect(await startAgain()).toMatchObject({ status: 'cancelled', cancellation: { cause: 'cancel_requested' } })
    expect(ran()).toBe(0)
  })

  test('gives back the cancel that was remembered for it', async () => {
    const { tether, store, recover } = await openFailingWorld()
    const cancel = await ask(tether.url, `/jobs/${ID}/cancel`, { body: { ifUnknown: 'remember' } })
    expect(cancel.status).toBe(202)
    store.holdCommits(async () => {
      throw new StoreError('the disk is full, says the test')
    })
    const body = { task: 'quick', input: 1, jobId: ID }
    expect((await ask(tether.url, '/jobs', { body })).status).toBe(503)
    store.holdCommits(undefined)
    await recover()
    const again = await ask(tether.url, '/jobs', { body })
    expect(again).toMatchObject({ status: 202, json: { status: 'cancelled' } })
    expect(tether.pending.tombstoneCount).toBe(0)
  })

  test('rejects a cancel that waited for it as one of a job that is not known', async () => {
    const { tether, start, recover } = await openWithdrawn()
    const cancel = ask(tether.url, `/jobs/${ID}/cancel?wait=8`, { body: { ifUnknown: 'reject' } })
    expect((await start).status).toBe(503)
    await recover()
    expect(await cancel).toMatchObject({ status: 404, json: { code: 'TETHER_JOB_NOT_FOUND' } })
  })
})

describe('what runs in an outage', () => {
  test('ends with its children when it is cancelled, and nothing is left that nobody could prove', async () => {
    const parent = taskOf('parent', async (ctx) => {
      await ctx.run('silent', null)
    })
    const settings = { SETTLE_MS: '500' }
    const { tether, outage, recover } = await openFailingWorld({ tasks: [parent], settings, storePatienceMs: 60_000 })
    const { ref } = await tether.jobs.start(startOf('parent', null))
    await eventually('both run', () => tether.orchestrator.getActiveExecutionCount() === 2)
    await eventually('that is in the log', async () => (await tether.jobs.job(ref)).lastSeq === 3)
    outage.isFailing = true
    expect((await ask(tether.url, `/jobs/${ref.id}/cancel`, { body: {} })).status).toBe(202)
    await eventually('both have settled', () => tether.orchestrator.getActiveExecutionCount() === 0)
    await recover()
    const view = await eventually('it has ended', async () => {
      const now = await jobOf(tether.url, ref.id)
      return now.terminal && now
    })
    expect(view).toMatchObject({ status: 'cancelled', receipt: { confirmed: true, released: { children: 1 } } })
  })

  test('has its whole timeoutMs from when its start is in the log', async () => {
    const half = taskOf('half', async (ctx) => {
      await ctx.sleep(100)
      return 'done'
    })
    const { tether, store } = await openHeldWorld({ storePatienceMs: 200, tasks: [half] })
    const over = new Gate()
    let isFailing = false
    store.holdCommits(async (changes) => {
      if (isMoveTo('running')(changes)) isFailing = true
      if (isFailing) throw new StoreError('the disk is full, says the test')
    })
    await ask(tether.url, '/jobs', { body: { task: 'half', jobId: ID, timeoutMs: 1_500 } })
    setTimeout(() => over.open(), 2_000)
    await over.opened
    store.holdCommits(undefined)
    const view = await eventually('it has ended', async () => {
      const now = await jobOf(tether.url, ID)
      return now.terminal && now
    })
    expect(view).toMatchObject({ status: 'succeeded', result: 'done' })
  })

  test('and tries for a child again and again leaves the loop to others', async () => {
    let tries = 0
    const begun = new Gate()
    const parent = taskOf('parent', async (ctx) => {
      await begun.opened
      while (tries < 1_000_000) {
        tries += 1
        const ran = await ctx.run('quick', 1).catch(() => 'refused')
        if (ran !== 'refused') return
      }
    })
    const { tether, outage, recover } = await openFailingWorld({ tasks: [parent] })
    const { ref } = await tether.jobs.start(startOf('parent', null))
    await untilRunning(tether, ref)
    outage.isFailing = true
    begun.open()
    // Where each try were refused at once, no request would be answered before the last one.
    await eventually('it tries', () => tries > 10)
    expect((await ask(tether.url, '/health/live')).status).toBe(200)
    expect(tries).toBeLessThan(1_000_000)
    tries = 1_000_000
    await recover()
    await eventually('it has ended', async () => (await tether.jobs.job(ref)).terminal)
  })
})

test('a store that does not answer is one that fails: starts are refused after its patience, and taken afterwards', async () => {
  const { tether, store } = await openHeldWorld({ storePatienceMs: 200, tasks: [silent, quick] })
  const gate = new Gate()
  store.holdCommits(() => gate.opened)
  const first = ask(tether.url, '/jobs', { body: { task: 'quick', input: 1, jobId: ID } })
  await eventually('it is not ready', async () => !(await tether.health.ready()).isReady)
  expect(await ask(tether.url, '/jobs', { body: { task: 'quick', input: 2 } })).toMatchObject({
    status: 503,
    json: { code: 'TETHER_STORE_UNAVAILABLE' },
  })
  gate.open()
  // What was under way may have taken effect, so it was not withdrawn: its answer is what became of it.
  expect((await first).status).toBe(202)
  await eventually('it is ready', async () => (await tether.health.ready()).isReady)
  expect((await ask(tether.url, '/jobs', { body: { task: 'quick', input: 2 } })).status).toBe(202)
})

test('a holder that is cut off because its log cannot be read may come back; where it does not, its job ends', async () => {
  const talk = taskOf('talk', async (ctx) => {
    for (let n = 0; n < 1000; n += 1) await ctx.output(`${'x'.repeat(20_000)}\n`)
    await ctx.sleep(60_000)
  })
  let isFailing = false
  const tether = await openWorld({
    tasks: [talk],
    wrapStore: (inner) => {
      const held = new HeldStore(inner)
      const { readEvents } = held
      held.readEvents = (...args) =>
        isFailing ? Promise.reject(new StoreError('an error of the disk, says the test')) : readEvents(...args)
      return held
    },
  })
  const client = await RawClient.connect(tether.url)
  client.request({ method: 'POST', path: '/execute/stream', body: { task: 'talk', jobId: ID } })
  await client.until('event: job.started')
  client.socket.pause()
  await eventually('all is said', async () => (await jobOf(tether.url, ID)).lastSeq > 1000, 30_000)
  isFailing = true
  client.socket.resume()
  await client.closed
  isFailing = false
  const ref = { tenant: DEFAULT_TENANT, id: parseJobId(ID) }
  expect((await tether.jobs.job(ref)).status).toBe('running')
  const view = await eventually(
    'it has ended',
    async () => {
      const now = await tether.jobs.job(ref)
      return now.terminal && now
    },
    20_000,
  )
  expect(view).toMatchObject({ status: 'cancelled' })
})
