import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { defineTool, type TaskContext, Type } from '../../src/execution/task.ts'
import { JumpingClock } from '../JumpingClock.ts'
import { running, uniqueSleep } from '../processes/world.ts'
import { ask, jobOf } from '../server/requests.ts'
import { eventually, Gate, taskOf } from '../world.ts'
import {
  type AgentWorld,
  ended,
  logOf,
  openAgents,
  SHAPES,
  startAgent,
  stepsOf,
  textOf,
  untilEvent,
  untilTool,
} from './agentWorld.ts'
import { calls, failsWith, type Reply, says } from './FakeModelServer.ts'
import { childrenOf, lineOf, playDown } from './family.ts'

/** Asks for a stop, which has not ended the job when it is answered. */
async function askStop(url: string, id: string): Promise<void> {
  const { status, json } = await ask(url, `/jobs/${id}/stop`, { method: 'POST' })
  expect(status).toBe(202)
  expect(json).toMatchObject({ status: 'stopping', terminal: false })
}

/** What an agent does when the stop comes, and what goes on until it has come to its end by itself. */
interface Phase {
  readonly name: string
  readonly phase: string
  readonly reply: (go: Gate) => Reply
  readonly until: (world: AgentWorld, jobId: string) => Promise<unknown>
  /** Of the call in flight. */
  readonly says: string
}

const TWO_CALLS = [
  { call: 'terminal', input: { command: 'true' } },
  { call: 'sub_agent', input: { prompt: '1' } },
] as const

const PHASES: readonly Phase[] = [
  {
    name: 'waiting for the head of an answer',
    phase: 'model',
    reply: (go) => ({ beforeHead: go.opened, parts: [{ text: 'All of it.' }, ...TWO_CALLS] }),
    until: ({ model }) => eventually('it is asked', () => model.requests.at(-1)?.prompt === '1'),
    says: 'All of it.',
  },
  {
    name: 'in the middle of an answer',
    phase: 'model',
    reply: (go) => ({ parts: [{ text: 'The first ' }, { wait: go.opened }, { text: 'and the rest.' }, ...TWO_CALLS] }),
    until: ({ url }, id) => untilEvent(url, id, (event) => event.type === 'output' && event.text === 'The first '),
    says: 'The first and the rest.',
  },
  {
    name: 'in the middle of a thought',
    phase: 'model',
    reply: (go) => ({ parts: [{ reasoning: 'Hm.' }, { wait: go.opened }, { reasoning: 'Well.' }, ...TWO_CALLS] }),
    until: ({ url }, id) => untilEvent(url, id, (event) => event.type === 'output' && event.text === 'Hm.'),
    says: '',
  },
]

const CASES = [1, 3].flatMap((depth) => SHAPES.map((shape) => [depth, shape] as const))

describe.each(PHASES)('a stop of an agent that is $name', ({ phase, reply, until, says: said }) => {
  test.each(CASES)('lets the call finish, and nothing follows, at depth %i (%s)', async (depth, shape) => {
    const go = new Gate()
    const world = await openAgents({}, shape)
    const { model, url } = world
    playDown(model, () => reply(go))
    const id = await startAgent(url, { prompt: String(depth) })
    const line = await lineOf(url, id, depth)
    const innermost = line.at(-1)?.id ?? ''
    await until(world, innermost)

    await askStop(url, id)
    // It comes to a child when its parent's is in the store, and counts there when it is in the store for the child.
    await eventually('the innermost is stopping', async () => (await jobOf(url, innermost)).status === 'stopping')
    expect(model.openConnections).toBeGreaterThan(0)
    const asked = model.requests.length
    go.open()
    const view = await ended(url, id)

    expect(view).toMatchObject({
      status: 'stopped',
      stop: { cause: 'stop_requested', phase: depth === 1 ? phase : 'child' },
      receipt: { confirmed: true, usage: { inputTokens: 10, outputTokens: 5, totalTokens: 15 } },
    })
    for (const { id: child } of line.slice(1)) {
      expect(await jobOf(url, child)).toMatchObject({
        status: 'stopped',
        stop: { cause: 'parent_stopped', phase: child === innermost ? phase : 'child' },
        receipt: { confirmed: true, usage: { totalTokens: 15 } },
      })
    }
    const events = await logOf(url, innermost)
    expect(textOf(events, 'text').trimEnd()).toBe(said)
    const steps = stepsOf(events)
    // The call that was in flight comes to its end in the log; no tool, no call, no child after it.
    expect(steps.slice(steps.indexOf('job.stopping'))).toEqual(['job.stopping', 'model.finished', 'job.stopped'])
    expect(events.find(({ type }) => type === 'model.finished')).toMatchObject({ usage: { totalTokens: 15 } })
    expect(await childrenOf(url, innermost)).toEqual([])
    expect(model.requests).toHaveLength(asked)
    model.seal()
    expect(await model.untilClosed()).not.toContain('server')
    expect(world.tether.jobs.activeCount).toBe(0)
  })
})

describe('a stop of an agent that is in a tool', () => {
  test.each([1, 3])('lets the command finish by itself, and nothing follows, at depth %i', async (depth) => {
    const folder = mkdtempSync(join(tmpdir(), 'tether-stop-'))
    const { model, url } = await openAgents()
    const line = `echo begun; while [ ! -e ${folder}/go ]; do sleep 0.01; done; echo finished`
    playDown(model, () => calls(['terminal', { command: line }], ['terminal', { command: 'echo never' }]))
    const id = await startAgent(url, { prompt: String(depth) })
    const innermost = (await lineOf(url, id, depth)).at(-1)?.id ?? ''
    await untilEvent(url, innermost, (event) => event.type === 'output' && event.text.includes('begun'))

    await askStop(url, id)
    await eventually('the innermost is stopping', async () => (await jobOf(url, innermost)).status === 'stopping')
    expect(await jobOf(url, innermost)).toMatchObject({ stop: { phase: 'tool:terminal' } })
    writeFileSync(join(folder, 'go'), '')

    expect(await ended(url, id)).toMatchObject({ status: 'stopped', receipt: { confirmed: true } })
    const events = await logOf(url, innermost)
    expect(textOf(events, 'stdout')).toBe('begun\nfinished\n')
    const steps = stepsOf(events)
    expect(steps.slice(steps.indexOf('job.stopping'))).toEqual(['job.stopping', 'tool.finished', 'job.stopped'])
    expect(events.find(({ type }) => type === 'tool.finished')).toMatchObject({ ok: true, summary: 'exit code 0' })
    expect(model.requests).toHaveLength(depth)
    model.seal()
  })

  test('that was the last one is followed by no call of the model either', async () => {
    const go = new Gate()
    const begun = new Gate()
    const held = defineTool({
      name: 'held',
      description: 'Held.',
      input: Type.Object({}),
      async run() {
        begun.open()
        await go.opened
        return 'held'
      },
    })
    const works = taskOf('works', async (ctx) => {
      await ctx.agent({ prompt: 'Go.', tools: [held] })
    })
    const { model, url } = await openAgents({ tasks: [works] })
    model.script(calls(['held', {}]))
    const id = await startAgent(url, { task: 'works', input: null })
    await begun.opened
    await askStop(url, id)
    go.open()
    expect(await ended(url, id)).toMatchObject({ status: 'stopped' })
    const steps = stepsOf(await logOf(url, id))
    expect(steps.slice(steps.indexOf('job.stopping'))).toEqual(['job.stopping', 'tool.finished', 'job.stopped'])
    model.seal()
  })

  test('wakes all sub-agents that work at the same time, and each finishes its call', async () => {
    const go = new Gate()
    const { model, url } = await openAgents()
    model.answers(({ prompt }) =>
      prompt === 'all'
        ? calls(['sub_agent', { prompt: 'a' }], ['sub_agent', { prompt: 'b' }], ['sub_agent', { prompt: 'c' }])
        : { parts: [{ text: `${prompt} says` }, { wait: go.opened }, { text: '.' }, ...TWO_CALLS] },
    )
    const id = await startAgent(url, { prompt: 'all' })
    await eventually('all are asked', () => model.requests.length === 4)
    await askStop(url, id)
    await eventually('all are stopping', async () =>
      (await childrenOf(url, id)).every(({ status }) => status === 'stopping'),
    )
    go.open()
    expect(await ended(url, id)).toMatchObject({ status: 'stopped' })
    for (const child of await childrenOf(url, id)) {
      expect(child).toMatchObject({ status: 'stopped', receipt: { usage: { totalTokens: 15 } } })
      expect(textOf(await logOf(url, child.id), 'text').trimEnd()).toMatch(/^[abc] says\.$/)
    }
    expect(stepsOf(await logOf(url, id)).filter((type) => type === 'child.finished')).toHaveLength(3)
    expect(model.requests).toHaveLength(4)
    model.seal()
  })
})

describe('a stop', () => {
  test('in a back-off ends the job at once, and the call is not made again', async () => {
    const { model, url } = await openAgents()
    model.script(failsWith(503, 'busy', { 'retry-after': '60' }))
    const id = await startAgent(url)
    await untilEvent(url, id, (event) => event.type === 'data' && event.name === 'model.retry')
    await ask(url, `/jobs/${id}/stop?wait=20`, { method: 'POST' })
    expect(await jobOf(url, id)).toMatchObject({ status: 'stopped', stop: { phase: 'running' } })
    model.seal()
  })

  test('during a call that then fails ends the job without a word of a retry', async () => {
    const go = new Gate()
    const { model, url } = await openAgents()
    model.script({ ...failsWith(503, 'busy', { 'retry-after': '60' }), beforeHead: go.opened })
    const id = await startAgent(url)
    await model.request(1)
    await askStop(url, id)
    go.open()
    expect(await ended(url, id)).toMatchObject({ status: 'stopped' })
    expect(stepsOf(await logOf(url, id)).slice(-3)).toEqual(['job.stopping', 'model.finished', 'job.stopped'])
    model.seal()
  })

  test.each(SHAPES)('during the last answer meets no boundary: the job succeeds (%s)', async (shape) => {
    const go = new Gate()
    const { model, url } = await openAgents({}, shape)
    model.script({ parts: [{ text: 'That ' }, { wait: go.opened }, { text: 'was all.' }] })
    const id = await startAgent(url)
    await untilEvent(url, id, (event) => event.type === 'output')
    await askStop(url, id)
    go.open()
    expect(await ended(url, id)).toMatchObject({ status: 'succeeded', result: { text: 'That was all.' } })
    model.seal()
  })

  test('that is followed by a cancel ends the call in flight', async () => {
    const { model, url } = await openAgents()
    model.script({ parts: [{ text: 'That ' }, { stall: true }] })
    const id = await startAgent(url)
    await untilEvent(url, id, (event) => event.type === 'output')
    await askStop(url, id)
    expect(model.openConnections).toBe(1)
    await ask(url, `/jobs/${id}/cancel?wait=20`, { method: 'POST' })
    expect(await jobOf(url, id)).toMatchObject({
      status: 'cancelled',
      cancellation: { cause: 'cancel_requested', phase: 'model', stop: { cause: 'stop_requested', phase: 'model' } },
      receipt: { confirmed: true, released: { requests: 1 } },
    })
    expect(stepsOf(await logOf(url, id)).slice(-3)).toEqual(['job.stopping', 'job.cancelling', 'job.cancelled'])
    expect(await model.untilClosed()).not.toContain('server')
    model.seal()
  })

  test.each([
    ['a call that never ends', { parts: [{ text: 'That ' }, { stall: true }] } satisfies Reply, 1],
    ['a command that never ends', calls(['terminal', { command: `echo begun; ${uniqueSleep()}` }]), 0],
  ])('becomes a cancel after stopDeadlineMs where it meets %s', async (_name, reply, requests) => {
    const clock = new JumpingClock()
    const { model, url } = await openAgents({ clock })
    model.script(reply)
    const id = await startAgent(url, { stopDeadlineMs: 60_000 })
    await untilEvent(url, id, (event) => event.type === 'output')
    await askStop(url, id)
    clock.jump(60_000)
    expect(await ended(url, id)).toMatchObject({
      status: 'cancelled',
      cancellation: { cause: 'stop_deadline', stop: { cause: 'stop_requested' } },
      receipt: { confirmed: true, released: { requests } },
    })
    expect(await model.untilClosed()).not.toContain('server')
    model.seal()
  })
})

describe('code around an agent that is stopped', () => {
  /** A task whose agent calls a model and then `tool`. */
  async function stopIn(tool: (ctx: TaskContext, ready: () => void) => Promise<string>, around = plain) {
    const ready = new Gate()
    const held = defineTool({
      name: 'held',
      description: 'Held.',
      input: Type.Object({}),
      run: (ctx) => tool(ctx, () => ready.open()),
    })
    const work = (ctx: TaskContext) => ctx.agent({ prompt: 'Go.', tools: [held] })
    const { model, url } = await openAgents({ tasks: [taskOf('works', (ctx) => around(ctx, () => work(ctx)))] })
    model.script(calls(['held', {}], ['held', {}]))
    const id = await startAgent(url, { task: 'works', input: null })
    await ready.opened
    await ask(url, `/jobs/${id}/stop?wait=20`, { method: 'POST' })
    const view = await ended(url, id)
    model.seal()
    return { view, events: await logOf(url, id) }
  }

  async function plain(_ctx: TaskContext, work: () => Promise<unknown>): Promise<string> {
    await work()
    return 'done'
  }

  test('runs its finally and its defer, where boundaries are as they should be', async () => {
    const order: string[] = []
    const { view } = await stopIn(
      async (ctx, ready) => {
        ready()
        await ctx.sleep(60_000)
        return 'never'
      },
      async (ctx, work) => {
        ctx.defer(async () => {
          await ctx.sleep(1)
          order.push('defer')
        })
        try {
          await work()
          return 'never'
        } finally {
          order.push('finally')
        }
      },
    )
    expect(view).toMatchObject({ status: 'stopped', receipt: { confirmed: true, usage: { totalTokens: 15 } } })
    expect(order).toEqual(['finally', 'defer'])
  })

  test('that catches the stop and returns still ends stopped', async () => {
    const { view } = await stopIn(
      async (ctx, ready) => {
        ready()
        await ctx.sleep(60_000)
        return 'never'
      },
      async (_ctx, work) => {
        await work().catch(() => undefined)
        return 'all is well'
      },
    )
    expect(view.status).toBe('stopped')
    expect(view.result).toBeUndefined()
  })

  test('a tool that swallows it is told to nobody: no tool and no call follows', async () => {
    let runs = 0
    const { view, events } = await stopIn(async (ctx, ready) => {
      runs += 1
      ready()
      await ctx.sleep(60_000).catch(() => undefined)
      return 'as if nothing were'
    })
    expect(view.status).toBe('stopped')
    expect(runs).toBe(1)
    expect(stepsOf(events).slice(-3)).toEqual(['job.stopping', 'tool.finished', 'job.stopped'])
  })

  test('a tool that makes an error of its own of it is told to nobody either', async () => {
    const { view } = await stopIn(async (ctx, ready) => {
      ready()
      await ctx.sleep(60_000).catch(() => {
        throw new TypeError('something else')
      })
      return 'never'
    })
    expect(view.status).toBe('stopped')
  })

  test('a tool that never met a boundary ends as it likes; the next boundary is met', async () => {
    const { view, events } = await stopIn(async (ctx, ready) => {
      ready()
      await new Promise<void>((resolve) => ctx.stopSignal.addEventListener('abort', () => resolve(), { once: true }))
      return 'by the signal'
    })
    expect(view.status).toBe('stopped')
    expect(events.find(({ type }) => type === 'tool.finished')).toMatchObject({ ok: true, summary: 'by the signal' })
  })

  test.each(['model', 'agent', 'tool', 'run', 'exec', 'spawn', 'fetch', 'sleep'] as const)(
    'a tool that goes on with ctx.%s meets it there',
    async (what) => {
      let met: unknown
      const { view } = await stopIn(async (ctx, ready) => {
        const stopped = new Promise<void>((resolve) => {
          ctx.stopSignal.addEventListener('abort', () => resolve(), { once: true })
        })
        ready()
        await stopped
        await goOn(ctx, what).catch((error: unknown) => {
          met = error
        })
        return 'went on'
      })
      expect(view.status).toBe('stopped')
      expect(met).toMatchObject({ name: 'AbortError', why: 'stop_requested' })
    },
  )
})

async function goOn(ctx: TaskContext, what: string): Promise<unknown> {
  switch (what) {
    case 'model':
      return ctx.model()
    case 'agent':
      return ctx.agent({ prompt: 'More.' })
    case 'tool':
      return ctx.tool('more', null, async () => 'more')
    case 'run':
      return ctx.run('agent', { prompt: 'More.' })
    case 'exec':
      return ctx.exec('true')
    case 'spawn':
      return ctx.spawn('true')
    case 'fetch':
      return ctx.fetch('http://127.0.0.1:9/')
    default:
      return ctx.sleep(1)
  }
}

test('a background command lives on after a stop until the job has ended, and is gone then', async () => {
  const sleep = uniqueSleep()
  const go = new Gate()
  const { model, url } = await openAgents()
  model.script(calls(['terminal', { command: sleep, background: true }]), {
    parts: [{ text: 'It runs.' }, { wait: go.opened }, ...TWO_CALLS],
  })
  const id = await startAgent(url)
  await untilTool(url, id, 'terminal')
  await model.request(2)
  await untilEvent(url, id, (event) => event.type === 'output' && event.text.includes('It runs.'))
  await askStop(url, id)
  expect(running(sleep)).toHaveLength(1)
  go.open()
  const view = await ended(url, id)
  expect(view).toMatchObject({ status: 'stopped', receipt: { confirmed: true } })
  expect(view.receipt?.released.processes).toBeGreaterThanOrEqual(1)
  expect(running(sleep)).toEqual([])
  model.seal()
})

test('a stop is the same for an agent whose last word it does not let come', async () => {
  const { model, url } = await openAgents()
  const go = new Gate()
  // A boundary is met between the answer and its tools, also where there are none but unknown ones.
  model.script({ parts: [{ wait: go.opened }, { call: 'no_such_tool', input: {} }] }, says('never'))
  const id = await startAgent(url)
  await model.request(1)
  await askStop(url, id)
  go.open()
  expect(await ended(url, id)).toMatchObject({ status: 'stopped' })
  expect(stepsOf(await logOf(url, id)).filter((type) => type.startsWith('tool.'))).toEqual([])
  expect(model.requests).toHaveLength(1)
  model.seal()
})
