import { describe, expect, test } from 'vitest'
import type { Json } from '../../src/job/json.ts'
import { running, uniqueSleep } from '../processes/world.ts'
import { ask, jobOf } from '../server/requests.ts'
import { eventually, Gate, temporaryFolder, type WorldOptions } from '../world.ts'
import {
  type AgentWorld,
  ended,
  KEY,
  logOf,
  openAgents,
  runAgent,
  SHAPES,
  startAgent,
  stepsOf,
  textOf,
  untilEvent,
} from './agentWorld.ts'
import { calls, failsWith, says } from './FakeModelServer.ts'
import { childrenOf } from './family.ts'
import * as fixtures from './fixtures/isolatedTasks.ts'
import { Origin } from './Origin.ts'

function open(options: WorldOptions = {}, shape: (typeof SHAPES)[number] = 'openai'): Promise<AgentWorld> {
  return openAgents({ tasks: Object.values(fixtures), ...options }, shape)
}

async function untilReady(url: string, id: string): Promise<void> {
  await untilEvent(url, id, (event) => event.type === 'output' && event.text === 'ready')
}

describe('an agent in a process of its own', () => {
  test.each(SHAPES)('works as in process: its model, its tools, its log, its tokens (%s)', async (shape) => {
    const { model, url } = await open({}, shape)
    model.script(calls(['terminal', { command: 'echo hello' }]), says('Done.'))
    const { view, events } = await runAgent(url, { task: 'isolated-agent' })
    expect(view).toMatchObject({
      status: 'succeeded',
      result: { text: 'Done.', steps: 2, usage: { inputTokens: 20, outputTokens: 10, totalTokens: 30 } },
    })
    expect(Object(view.result).pid).not.toBe(process.pid)
    expect(textOf(events, 'stdout')).toBe('hello\n')
    expect(textOf(events, 'text')).toBe('Done.')
    expect(stepsOf(events)).toEqual([
      'job.queued',
      'job.started',
      'model.started',
      'model.finished',
      'tool.started',
      'tool.finished',
      'model.started',
      'model.finished',
      'job.succeeded',
    ])
    expect(await model.untilClosed()).not.toContain('server')
  })

  test('runs tools of its own in there', async () => {
    const { model, url } = await open()
    model.script(calls(['look', {}]), says('Seen.'))
    const { view, events } = await runAgent(url, { task: 'isolated-agent', input: { prompt: 'Look.', own: true } })
    expect(events.find(({ type }) => type === 'tool.finished')).toMatchObject({
      summary: `pid ${Object(view.result).pid}`,
    })
  })

  test('has sub-agents, which are jobs of the server', async () => {
    const { model, url } = await open()
    model.answers(({ prompt, answers }) =>
      prompt === 'top' && answers === 0 ? calls(['sub_agent', { prompt: 'below' }]) : says(`${prompt} is done.`),
    )
    const { view } = await runAgent(url, { task: 'isolated-agent', input: { prompt: 'top' } })
    expect(view).toMatchObject({ status: 'succeeded', result: { text: 'top is done.' } })
    expect(await childrenOf(url, view.id)).toMatchObject([{ task: 'agent', status: 'succeeded' }])
  })

  test.each(['cancel', 'stop'] as const)('in the middle of an answer is ended by a %s as in process', async (kind) => {
    const go = new Gate()
    const { model, url } = await open()
    model.script(calls(['no_such_tool', {}]), {
      parts: [{ text: 'Half' }, { wait: go.opened }, { call: 'terminal', input: { command: 'echo never' } }],
    })
    const id = await startAgent(url, { task: 'isolated-agent' })
    await untilEvent(url, id, (event) => event.type === 'output' && event.text === 'Half')
    await ask(url, `/jobs/${id}/${kind}`, { method: 'POST' })
    if (kind === 'stop') go.open()
    const view = await ended(url, id)
    expect(view).toMatchObject({
      status: kind === 'cancel' ? 'cancelled' : 'stopped',
      receipt: {
        confirmed: true,
        usage: { totalTokens: kind === 'cancel' ? 15 : 30 },
        ...(kind === 'cancel' ? { released: { requests: 1 } } : {}),
      },
    })
    expect(await model.untilClosed()).not.toContain('server')
    expect(model.requests).toHaveLength(2)
    model.seal()
  })

  test('in a terminal is ended by a cancel with all that it started', async () => {
    const sleep = uniqueSleep()
    const { model, url } = await open()
    model.script(calls(['terminal', { command: `(setsid ${sleep}) & ${sleep}` }]))
    const id = await startAgent(url, { task: 'isolated-agent' })
    await eventually('both run', () => running(sleep).length === 2)
    await ask(url, `/jobs/${id}/cancel?wait=20`, { method: 'POST' })
    expect(await jobOf(url, id)).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
    expect(running(sleep)).toEqual([])
    model.seal()
  })

  test('in a sub-agent that is in the middle of an answer is ended by a cancel', async () => {
    const { model, url, tether } = await open()
    model.answers(({ prompt }) =>
      prompt === 'top' ? calls(['sub_agent', { prompt: 'below' }]) : { parts: [{ text: 'Half' }, { stall: true }] },
    )
    const id = await startAgent(url, { task: 'isolated-agent', input: { prompt: 'top' } })
    const child = await eventually('there is a child', async () => (await childrenOf(url, id))[0])
    await untilEvent(url, child.id, (event) => event.type === 'output')
    await ask(url, `/jobs/${id}/cancel?wait=20`, { method: 'POST' })
    expect(await jobOf(url, id)).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
    expect(await jobOf(url, child.id)).toMatchObject({
      status: 'cancelled',
      cancellation: { cause: 'parent_cancelled', phase: 'model' },
      receipt: { released: { requests: 1 } },
    })
    expect(await model.untilClosed()).not.toContain('server')
    expect(tether.jobs.activeCount).toBe(0)
    model.seal()
  })

  test('fails with the model’s error, and the key is not in it', async () => {
    const { model, url } = await open()
    model.script(failsWith(401, `bad key ${KEY}`))
    const { view } = await runAgent(url, { task: 'isolated-agent' })
    expect(view.failure).toMatchObject({
      code: 'TETHER_MODEL_UNAUTHORIZED',
      message: 'the model server refused the key for the model fake (401): bad key [redacted]',
    })
  })

  test('finds the first model of a list', async () => {
    const { model, url } = await open({ settings: { MODEL: '' } })
    model.script(says('Found.'))
    expect((await runAgent(url, { task: 'isolated-agent' })).view.result).toMatchObject({ text: 'Found.' })
    expect(model.requests[0]?.body.model).toBe('first-of-list')
  })
})

describe('in a process of its own', () => {
  test('a model streams to the task, and a cancel closes it', async () => {
    const { model, url } = await open()
    model.script(says('Whole.'), { parts: [{ text: 'Half' }, { stall: true }] })
    const { view } = await runAgent(url, { task: 'isolated-model', input: {} })
    expect(view).toMatchObject({ status: 'succeeded', result: 'Whole.' })
    const id = await startAgent(url, { task: 'isolated-model', input: {} })
    await untilEvent(url, id, (event) => event.type === 'output')
    await ask(url, `/jobs/${id}/cancel?wait=20`, { method: 'POST' })
    expect(await jobOf(url, id)).toMatchObject({
      status: 'cancelled',
      receipt: { confirmed: true, released: { requests: 1 } },
    })
    expect(await model.untilClosed()).not.toContain('server')
  })

  test('a tool has its events and its phase, and hears a cancel', async () => {
    const { url } = await open()
    const id = await startAgent(url, { task: 'isolated-tool', input: {} })
    await untilReady(url, id)
    await ask(url, `/jobs/${id}/cancel?wait=20`, { method: 'POST' })
    expect(await jobOf(url, id)).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
    expect(stepsOf(await logOf(url, id)).filter((type) => type.startsWith('tool.'))).toEqual(['tool.started'])
  })

  test('code that was handed nothing finds the job', async () => {
    const { url } = await open()
    const { view, events } = await runAgent(url, { task: 'isolated-token', input: {} })
    expect(view.result).toEqual({ nested: true, inTool: 'true', ok: true })
    expect(events.filter(({ type }) => type.startsWith('tool.'))).toMatchObject([
      { tool: 'nested', callId: 'call_1', input: { a: 1 } },
      { tool: 'nested', callId: 'call_1', ok: true, summary: 'true' },
    ])
  })

  test('a request is closed by a cancel', async () => {
    const origin = await Origin.start()
    const { url } = await open()
    const id = await startAgent(url, { task: 'isolated-fetch', input: { url: origin.url } })
    await eventually('it waits', () => origin.connections[0]?.requests === 1)
    await ask(url, `/jobs/${id}/cancel?wait=20`, { method: 'POST' })
    expect(await jobOf(url, id)).toMatchObject({
      status: 'cancelled',
      receipt: { confirmed: true, released: { requests: 1 } },
    })
    expect(await origin.untilClosed()).not.toContain('server')
  })
})

describe('what is kept by a task in a process of its own', () => {
  test('is there for its next job, after a restart too, and is listed', async () => {
    const dataDir = await temporaryFolder()
    const first = await open({ dataDir })
    const call = async (url: string, input: object): Promise<Json | undefined> => {
      const { view } = await runAgent(url, { task: 'isolated-store', input })
      expect(view.failure).toBeUndefined()
      return view.result
    }
    expect(await call(first.url, { get: 'a' })).toBeNull()
    expect(await call(first.url, { put: 'a', get: { deep: ['ä\u2028'] } })).toEqual({ deep: ['ä\u2028'] })
    expect(await call(first.url, { put: 'b' })).toBe('kept')
    expect(await call(first.url, { list: '' })).toEqual(['a', 'b'])
    expect(await call(first.url, { del: 'b', get: 'b' })).toBeNull()
    await first.tether.stop()
    const second = await open({ dataDir })
    expect(await call(second.url, { get: 'a' })).toEqual({ deep: ['ä\u2028'] })
    expect(await call(second.url, { list: 'a' })).toEqual(['a'])
  })

  test.each([
    [{ put: '' }, 'a key must be a text of 1 to 200 characters, got 0 characters'],
    [{ put: 'a', get: 'x'.repeat(65_535) }, 'that of a has 65537'],
    [{ list: 7 }, 'prefix must be a text, got a number'],
  ])('has the same limits: %j', async (input, message) => {
    const { url } = await open()
    const { view } = await runAgent(url, { task: 'isolated-store', input })
    expect(view.result).toMatchObject({ code: 'TETHER_VALUE_INVALID', message: expect.stringContaining(message) })
  })

  test.each(['cancel', 'stop'] as const)('is not changed after a %s, but by cleanup', async (kind) => {
    const { url } = await open()
    const task = 'isolated-store-at-end'
    const id = await startAgent(url, { task, input: {} })
    await untilReady(url, id)
    await ask(url, `/jobs/${id}/${kind}?wait=20`, { method: 'POST' })
    expect((await ended(url, id)).status).toBe(kind === 'cancel' ? 'cancelled' : 'stopped')
    expect((await runAgent(url, { task, input: { look: true } })).view.result).toEqual({ a: 1, met: 'AbortError' })
  })
})
