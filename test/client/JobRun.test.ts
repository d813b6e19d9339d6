import { getEventListeners } from 'node:events'
import { describe, expect, onTestFinished, test } from 'vitest'
import { TetherClient as BrowserClient } from '../../src/client/browser/TetherClient.ts'
import { JobDetached, JobEnded, TetherApiError } from '../../src/client/error.ts'
import { TetherClient as NodeClient } from '../../src/client/TetherClient.ts'
import type { JobEvent } from '../../src/job/event.ts'
import type { Authenticate } from '../../src/server/access/Identity.ts'
import type { Tether } from '../../src/tether.ts'
import { counts, logOf } from '../readers/counting.ts'
import { jobOf } from '../server/requests.ts'
import { eventually, Gate, openWorld, taskOf, typesOf } from '../world.ts'
import { type CutProxy, openProxy } from './CutProxy.ts'

// Against a real server, through a proxy that breaks connections.

interface Opened {
  readonly world: Tether
  readonly proxy: CutProxy
  readonly client: NodeClient | BrowserClient
  /** Opens when the task `waits` may return. */
  readonly gate: Gate
}

describe.each([
  ["Node's sockets", NodeClient],
  ['fetch', BrowserClient],
])('a run over %s', (_, Client) => {
  async function open(authenticate?: Authenticate): Promise<Opened> {
    const gate = new Gate()
    const waits = taskOf('waits', async (ctx, input) => {
      await ctx.output('begun')
      await Promise.race([gate.opened, ctx.sleep(60_000)])
      return input
    })
    const fails = taskOf('fails', async () => {
      throw new Error('no luck')
    })
    const world = await openWorld({
      tasks: [waits, fails, counts],
      ...(authenticate === undefined ? {} : { authenticate }),
    })
    const proxy = await openProxy(world.url)
    const client = new Client({ server: proxy.url })
    onTestFinished(() => client.close())
    return { world, proxy, gate, client }
  }

  async function readAll(
    run: AsyncIterable<JobEvent>,
    onEvent: (event: JobEvent) => unknown = () => {},
  ): Promise<JobEvent[]> {
    const events: JobEvent[] = []
    for await (const event of run) {
      events.push(event)
      await onEvent(event)
    }
    return events
  }

  test('gives every event once and in order, and the result, though it is cut over and over', async () => {
    const { world, proxy, client } = await open()
    proxy.cuts.push(-1, 40, 3_000, 9_000, 20_000)
    const run = client.run({ task: 'counts', input: {}, jobId: 'job-12345', disconnectGraceMs: 10_000 })
    const events = await readAll(run)
    await run.result
    expect(events).toEqual(await logOf(world))
    expect(proxy.connectionCount).toBeGreaterThan(5)
  })

  test('gives its result to who reads no events', async () => {
    const { client, gate } = await open()
    gate.open()
    const run = client.run<{ readonly n: number }>({ task: 'waits', input: { n: 7 } })
    expect((await run.result).n).toBe(7)
    await expect(readAll(run)).rejects.toThrow('can be read once')
  })

  test('is cancelled by its signal, and the loop goes on to the receipt', async () => {
    const { client, world } = await open()
    const abort = new AbortController()
    const run = client.run({ task: 'waits', input: {} }, { signal: abort.signal })
    const events = await readAll(run, ({ type }) => type === 'output' && abort.abort(new Error('changed my mind')))
    expect(events.at(-1)).toMatchObject({
      type: 'job.cancelled',
      cancellation: { cause: 'cancel_requested', reason: 'changed my mind' },
      receipt: { confirmed: true },
    })
    const ended = await run.result.catch((error: unknown) => error)
    expect(ended).toBeInstanceOf(JobEnded)
    expect(ended).toMatchObject({ cause: { message: 'changed my mind' }, event: { type: 'job.cancelled' } })
    expect((await jobOf(world.url, run.id)).status).toBe('cancelled')
  })

  test('is cancelled by a signal that fires before the server has heard of it', async () => {
    const { client, proxy } = await open()
    const abort = new AbortController()
    proxy.holdsNew = true
    const run = client.run({ task: 'waits', input: {} }, { signal: abort.signal })
    const events = readAll(run)
    await eventually('the start is on its way', () => proxy.connectionCount === 1)
    proxy.holdsNew = false
    abort.abort()
    expect(await run.cancel()).toMatchObject({ kind: 'remembered', request: 'cancel' })
    // The start is sent again.
    proxy.cut()
    const [queued, cancelled] = await events
    expect([queued?.type, cancelled?.type]).toEqual(['job.queued', 'job.cancelled'])
    expect(cancelled).toMatchObject({ cancellation: { cause: 'cancel_requested', phase: 'queued' } })
  })

  test('starts nothing where its signal had fired', async () => {
    const { client, proxy } = await open()
    const run = client.run({ task: 'waits', input: {} }, { signal: AbortSignal.abort(new Error('too late')) })
    await expect(run.result).rejects.toThrow('too late')
    expect(proxy.connectionCount).toBe(0)
  })

  test('that is detached from runs on, and its loop ends', async () => {
    const { client, gate, world } = await open()
    const abort = new AbortController()
    const run = client.run({ task: 'waits', input: 'kept' }, { signal: abort.signal })
    const events = await readAll(run, ({ type }) => type === 'output' && run.detach())
    expect(typesOf(events)).not.toContain('job.succeeded')
    await expect(run.result).rejects.toThrow(JobDetached)
    abort.abort()
    gate.open()
    const view = await eventually('it has ended', async () => {
      const job = await jobOf(world.url, run.id)
      return job.terminal && job
    })
    expect(view).toMatchObject({ status: 'succeeded', result: 'kept', policy: { onDisconnect: 'continue' } })
  })

  test('that is detached from after its end gives its events and result all the same', async () => {
    const { client, gate, world } = await open()
    gate.open()
    const run = client.run({ task: 'waits', input: 'done' })
    const events = await readAll(run, async ({ type }) => {
      if (type !== 'job.queued') return
      await eventually('it has ended', async () => (await jobOf(world.url, run.id)).terminal)
      await run.detach()
    })
    expect(events.at(-1)?.type).toBe('job.succeeded')
    expect(await run.result).toBe('done')
  })

  test('that is stopped ends stopped, and one that is cancelled cancelled', async () => {
    const { client } = await open()
    for (const [kind, type] of [
      ['stop', 'job.stopped'],
      ['cancel', 'job.cancelled'],
    ] as const) {
      const run = client.run({ task: 'waits', input: {} })
      const events = await readAll(run, async (event) => {
        if (event.type === 'output') expect(await run[kind]('enough')).toMatchObject({ job: { id: run.id } })
      })
      expect(events.at(-1)).toMatchObject({ type, [kind === 'stop' ? 'stop' : 'cancellation']: { reason: 'enough' } })
      await expect(run.result).rejects.toMatchObject({ name: 'JobEnded', jobId: run.id, event: { type } })
    }
  })

  test('whose loop is left early is cancelled as its holder left', async () => {
    const { client, world } = await open()
    const run = client.run({ task: 'waits', input: {} })
    for await (const event of run) if (event.type === 'output') break
    await expect(run.result).rejects.toThrow(/was closed/)
    await eventually('it has ended', async () => (await jobOf(world.url, run.id)).terminal)
    expect(await jobOf(world.url, run.id)).toMatchObject({ cancellation: { cause: 'client_disconnected' } })
  })

  test('that fails, or is refused, says why', async () => {
    const { client } = await open()
    const failing = client.run({ task: 'fails', input: {} })
    await expect(failing.result).rejects.toThrow(/ended failed: TETHER_TASK_FAILED, Error: no luck/)
    const unknown = client.run({ task: 'nobody', input: {} })
    await expect(unknown.result).rejects.toThrow(TetherApiError)
    await expect(unknown.result).rejects.toMatchObject({ code: 'TETHER_TASK_NOT_FOUND' })
  })

  test('leaves the job where the cancel of its signal is refused', async () => {
    const { client, world } = await open(() => ({ tenant: 'ours', subject: 'somebody', scopes: ['read', 'run'] }))
    const abort = new AbortController()
    const run = client.run({ task: 'waits', input: {} }, { signal: abort.signal })
    const events = await readAll(run, ({ type }) => type === 'output' && abort.abort())
    expect(events.at(-1)?.type).toBe('output')
    await expect(run.result).rejects.toMatchObject({ code: 'TETHER_FORBIDDEN' })
    await eventually('it has ended', async () => (await jobOf(world.url, run.id)).terminal)
    expect(await jobOf(world.url, run.id)).toMatchObject({ cancellation: { cause: 'client_disconnected' } })
  })

  test('lets go of its signal where it is refused, also if nobody asks what became of it', async () => {
    const { client } = await open()
    const { signal } = new AbortController()
    const run = client.run({ task: 'nobody', input: {} }, { signal })
    await eventually('it is refused', async () => getEventListeners(signal, 'abort').length === 0)
    await expect(run.result).rejects.toMatchObject({ code: 'TETHER_TASK_NOT_FOUND' })
  })

  test('cancels by closing its stream where the cancel cannot be sent', async () => {
    const { client, proxy, world } = await open()
    const abort = new AbortController()
    const run = client.run({ task: 'waits', input: {} }, { signal: abort.signal, reconnect: { tryAtLeastMs: 0 } })
    const events = readAll(run, async ({ type }) => {
      if (type !== 'output') return
      proxy.cut()
      await proxy.down()
      abort.abort()
    })
    await expect(events).rejects.toThrow(/ended after event/)
    await eventually('it has ended', async () => (await jobOf(world.url, run.id)).terminal)
    expect(await jobOf(world.url, run.id)).toMatchObject({ cancellation: { cause: 'client_disconnected' } })
  })
})
