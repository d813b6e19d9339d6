import type { LanguageModelV4CallOptions, LanguageModelV4Prompt } from '@ai-sdk/provider'
import { describe, expect, test } from 'vitest'
import type { TaskContext } from '../../src/execution/task.ts'
import type { Json } from '../../src/job/json.ts'
import { ask, jobOf } from '../server/requests.ts'
import { Gate, taskOf } from '../world.ts'
import { type AgentWorld, ended, logOf, openAgents, SHAPES, type Shape, startAgent, stepsOf } from './agentWorld.ts'
import { says } from './FakeModelServer.ts'

type Body = (ctx: TaskContext) => Promise<Json | undefined | void>

const PROMPT: LanguageModelV4Prompt = [{ role: 'user', content: [{ type: 'text', text: 'Hello?' }] }]

async function openWith(body: Body, shape: Shape = 'openai'): Promise<AgentWorld> {
  return openAgents({ tasks: [taskOf('body', body)] }, shape)
}

function start({ url }: AgentWorld): Promise<string> {
  return startAgent(url, { task: 'body', input: null })
}

async function streamed(ctx: TaskContext, more: Partial<LanguageModelV4CallOptions> = {}, onText?: () => void) {
  const model = await ctx.model()
  const { stream } = await model.doStream({ prompt: PROMPT, ...more })
  let text = ''
  for await (const part of stream) {
    if (part.type !== 'text-delta') continue
    text += part.delta
    onText?.()
  }
  return text
}

async function cancelled(world: AgentWorld, id: string): Promise<void> {
  await ask(world.url, `/jobs/${id}/cancel?wait=20`, { method: 'POST' })
  expect(await jobOf(world.url, id)).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
}

/** An answer of a server that was not asked for a stream. */
function whole(shape: Shape, text: string): { body: string } {
  if (shape === 'openai') {
    const choices = [{ index: 0, message: { role: 'assistant', content: text }, finish_reason: 'stop' }]
    const usage = { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 }
    return { body: JSON.stringify({ id: 'x', object: 'chat.completion', created: 1, model: 'fake', choices, usage }) }
  }
  const usage = { input_tokens: 3, output_tokens: 4 }
  const content = [{ type: 'text', text }]
  const message = { type: 'message', id: 'x', model: 'fake', role: 'assistant', content }
  return { body: JSON.stringify({ ...message, stop_reason: 'end_turn', stop_sequence: null, usage }) }
}

describe.each(SHAPES)('a model that a task uses by itself (%s)', (shape) => {
  test('streams, stands in the log and counts', async () => {
    const world = await openWith((ctx) => streamed(ctx), shape)
    world.model.script(says('Hello.'))
    const id = await start(world)
    expect(await ended(world.url, id)).toMatchObject({ status: 'succeeded', result: 'Hello.' })
    const events = await logOf(world.url, id)
    expect(stepsOf(events)).toEqual(['job.queued', 'job.started', 'model.started', 'model.finished', 'job.succeeded'])
    expect(events[3]).toMatchObject({ model: 'fake', usage: { inputTokens: 10, outputTokens: 5, totalTokens: 15 } })
  })

  test('answers in one piece, which counts as well', async () => {
    const world = await openWith(async (ctx) => {
      const { content } = await (await ctx.model()).doGenerate({ prompt: PROMPT })
      return content.map((part) => (part.type === 'text' ? part.text : '')).join('')
    }, shape)
    world.model.script(whole(shape, 'In one piece.'))
    const id = await start(world)
    expect(await ended(world.url, id)).toMatchObject({ status: 'succeeded', result: 'In one piece.' })
    expect((await logOf(world.url, id))[3]).toMatchObject({ type: 'model.finished', usage: { totalTokens: 7 } })
  })

  test('throws what happened when the job is cancelled: its stream does not just end', async () => {
    const there = new Gate()
    let met: unknown
    const world = await openWith(async (ctx) => {
      await streamed(ctx, {}, () => there.open()).catch((error: unknown) => {
        met = error
        throw error
      })
    }, shape)
    world.model.script({ parts: [{ text: 'Half' }, { stall: true }] })
    const id = await start(world)
    await there.opened
    await cancelled(world, id)
    expect(met).toMatchObject({ name: 'AbortError', why: 'cancel_requested' })
    expect(await world.model.untilClosed()).not.toContain('server')
  })

  test('throws it also where it answers in one piece', async () => {
    let met: unknown
    const world = await openWith(async (ctx) => {
      const model = await ctx.model()
      try {
        await model.doGenerate({ prompt: PROMPT })
      } catch (error) {
        met = error
        throw error
      }
    }, shape)
    world.model.script({ beforeHead: new Promise(() => undefined) })
    const id = await start(world)
    await world.model.request(1)
    await cancelled(world, id)
    expect(met).toMatchObject({ name: 'AbortError', why: 'cancel_requested' })
  })

  test('is closed by a reader that has had enough, and the job goes on', async () => {
    const world = await openWith(async (ctx) => {
      const { stream } = await (await ctx.model()).doStream({ prompt: PROMPT })
      for await (const part of stream) if (part.type === 'text-delta') break
      await world.model.untilClosed()
      return 'went on'
    }, shape)
    world.model.script({ parts: [{ forever: 'on and on ' }] })
    const id = await start(world)
    expect(await ended(world.url, id)).toMatchObject({ status: 'succeeded', result: 'went on' })
    expect(stepsOf(await logOf(world.url, id)).slice(-2)).toEqual(['model.finished', 'job.succeeded'])
  })

  test('is aborted by a signal of the task’s own, and the job goes on', async () => {
    const world = await openWith(async (ctx) => {
      const abort = new AbortController()
      const text = streamed(ctx, { abortSignal: abort.signal }, () => abort.abort())
      const error = await text.then(() => undefined, Object)
      await world.model.untilClosed()
      return { name: error?.name, again: await streamed(ctx) }
    }, shape)
    world.model.script({ parts: [{ text: 'Half' }, { stall: true }] }, says('Whole.'))
    const id = await start(world)
    expect(await ended(world.url, id)).toMatchObject({
      status: 'succeeded',
      result: { name: 'AbortError', again: 'Whole.' },
    })
  })

  test('is not asked at all where the task’s own signal has fired', async () => {
    const world = await openWith(async (ctx) => {
      const error = await streamed(ctx, { abortSignal: AbortSignal.abort() }).then(() => undefined, Object)
      return error?.name
    }, shape)
    const id = await start(world)
    expect((await ended(world.url, id)).result).toBe('AbortError')
    expect(world.model.requests).toEqual([])
    world.model.seal()
  })

  test('that nobody reads on is closed with the job', async () => {
    const world = await openWith(async (ctx) => {
      await (await ctx.model()).doStream({ prompt: PROMPT })
      return 'left it'
    }, shape)
    world.model.script({ parts: [{ forever: 'on and on ' }] })
    const id = await start(world)
    expect((await ended(world.url, id)).result).toBe('left it')
    expect(await world.model.untilClosed()).not.toContain('server')
  })
})

describe('a model in shielded code', () => {
  test.each(['cancel', 'stop'] as const)('has the last word after a %s', async (kind) => {
    const there = new Gate()
    const words: string[] = []
    const world = await openWith(async (ctx) => {
      ctx.defer(async () => {
        words.push(await streamed(ctx))
      })
      there.open()
      await ctx.sleep(60_000)
    })
    world.model.script(says('Good night.'))
    const id = await start(world)
    await there.opened
    await ask(world.url, `/jobs/${id}/${kind}?wait=20`, { method: 'POST' })
    expect(await ended(world.url, id)).toMatchObject({
      status: kind === 'cancel' ? 'cancelled' : 'stopped',
      receipt: { confirmed: true, usage: { totalTokens: 15 } },
    })
    expect(words).toEqual(['Good night.'])
    expect(await world.model.untilClosed()).toEqual(['client FIN'])
  })

  test('that was asked before the cancel is closed by it: its connection is the job’s', async () => {
    const go = new Gate()
    const there = new Gate()
    const world = await openWith(async (ctx) => {
      const text = await ctx.shield(() => streamed(ctx, {}, () => there.open()))
      ctx.checkpoint()
      return text
    })
    world.model.script({ parts: [{ text: 'Half' }, { wait: go.opened }, { text: ' and half.' }] })
    const id = await start(world)
    await there.opened
    await ask(world.url, `/jobs/${id}/cancel?wait=20`, { method: 'POST' })
    go.open()
    expect(await ended(world.url, id)).toMatchObject({ status: 'cancelled' })
    expect(await world.model.untilClosed()).toEqual(['client FIN'])
  })
})

test('a call that fails is over in the log too, and its phase with it', async () => {
  const there = new Gate()
  const world = await openWith(async (ctx) => {
    await streamed(ctx).catch(() => undefined)
    there.open()
    await ctx.sleep(60_000)
  })
  world.model.script({ status: 400, body: '{}' })
  const id = await start(world)
  await there.opened
  await ask(world.url, `/jobs/${id}/cancel?wait=20`, { method: 'POST' })
  expect(await jobOf(world.url, id)).toMatchObject({ cancellation: { phase: 'running' } })
  expect(stepsOf(await logOf(world.url, id)).slice(2, 4)).toEqual(['model.started', 'model.finished'])
})
