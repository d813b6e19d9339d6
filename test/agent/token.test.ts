import { EventEmitter } from 'node:events'
import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { type CancelToken, currentToken, defineTool, type TaskContext, Type } from '../../src/execution/task.ts'
import type { Json } from '../../src/job/json.ts'
import { ask } from '../server/requests.ts'
import { Gate, openWorld, startOf, taskOf } from '../world.ts'
import { ended, openAgents, runAgent, startAgent } from './agentWorld.ts'
import { calls, says } from './FakeModelServer.ts'

/** Nested code that was handed nothing. */
async function nested(): Promise<CancelToken | undefined> {
  await delay(1)
  return currentToken()
}

/** Whether what was found is the job's own. */
async function findsOwn(find: (ctx: TaskContext) => Promise<CancelToken | undefined>): Promise<Json | undefined> {
  const { url } = await openWorld({ tasks: [taskOf('body', async (ctx) => (await find(ctx)) === ctx.token)] })
  const { view } = await runAgent(url, { task: 'body', input: null })
  expect(view.failure).toBeUndefined()
  return view.result
}

describe('currentToken finds the job whose code runs', () => {
  test.each<[string, (ctx: TaskContext) => Promise<CancelToken | undefined>]>([
    ['at once', async () => currentToken()],
    ['in nested code, after it has waited', nested],
    ['after files', async () => readFile('/etc/hostname').then(() => currentToken())],
    ['in a timer', () => new Promise((resolve) => setTimeout(() => resolve(currentToken()), 1))],
    ['in an immediate', () => new Promise((resolve) => setImmediate(() => resolve(currentToken())))],
    ['in a microtask', () => new Promise((resolve) => queueMicrotask(() => resolve(currentToken())))],
    ['in work that runs together', async () => (await Promise.all([nested(), nested()]))[1]],
    ['after ctx.sleep', async (ctx) => ctx.sleep(1).then(() => currentToken())],
    ['after ctx.exec', async (ctx) => ctx.exec('true').then(() => currentToken())],
    ['after an output that waited', async (ctx) => ctx.output('x'.repeat(1_000_000)).then(() => currentToken())],
    ['in shielded code', (ctx) => ctx.shield(nested)],
    [
      'in a generator',
      async () =>
        generated()
          .next()
          .then(({ value }) => value),
    ],
    [
      'in a tool',
      async (ctx) => {
        let found: CancelToken | undefined
        await ctx.tool('look', null, async () => {
          found = await nested()
          return 'looked'
        })
        return found
      },
    ],
  ])('%s', async (_name, find) => {
    expect(await findsOwn(find)).toBe(true)
  })

  test('in what is deferred, also where another job’s end has led there', async () => {
    const found: string[] = []
    const note = (who: string, ctx: TaskContext): void => {
      ctx.defer(async () => {
        const token = await nested()
        found.push(`${who} ${token === ctx.token ? 'own' : token === undefined ? 'none' : 'another’s'}`)
      })
      ctx.use({ [Symbol.dispose]: () => void found.push(`${who} ${currentToken() === ctx.token ? 'own' : 'not'}`) })
    }
    const child = taskOf('child', async (ctx) => note('child', ctx))
    const parent = taskOf('parent', async (ctx) => {
      note('parent', ctx)
      await ctx.run('child', null)
    })
    // One at a time: each starts where the one before it has ended.
    const { url } = await openWorld({ settings: { CONCURRENCY: '1' }, tasks: [parent, child] })
    const ids = [
      await startAgent(url, { task: 'parent', input: null }),
      await startAgent(url, { task: 'child', input: null }),
    ]
    for (const id of ids) await ended(url, id)
    expect(found).toEqual(['child own', 'child own', 'parent own', 'parent own', 'child own', 'child own'])
  })

  test('in the tools of an agent', async () => {
    let found: CancelToken | undefined
    let own: CancelToken | undefined
    const look = defineTool({
      name: 'look',
      description: 'Looks.',
      input: Type.Object({}),
      async run(ctx) {
        own = ctx.token
        found = await nested()
        return 'looked'
      },
    })
    const works = taskOf('works', async (ctx) => {
      await ctx.agent({ prompt: 'Look.', tools: [look] })
    })
    const { model, url } = await openAgents({ tasks: [works] })
    model.script(calls(['look', {}]), says('Done.'))
    await runAgent(url, { task: 'works', input: null })
    expect(found).toBeDefined()
    expect(found).toBe(own)
  })
})

async function* generated(): AsyncGenerator<CancelToken | undefined> {
  await delay(1)
  yield currentToken()
}

describe('currentToken finds nobody’s job', () => {
  test('outside of jobs, also while one runs and in what watches it', async () => {
    const watched: unknown[] = []
    const emitted: unknown[] = []
    const events = new EventEmitter()
    const go = new Gate()
    const tether = await openWorld({
      tasks: [
        taskOf('body', async (ctx) => {
          await ctx.output('begun')
          await go.opened
        }),
      ],
    })
    tether.jobs.watch(() => watched.push(currentToken()))
    events.on('look', () => emitted.push(currentToken()))
    const { ref } = await tether.jobs.start(startOf('body', null))
    await delay(5)
    events.emit('look')
    go.open()
    await tether.jobs.outcome(ref)
    expect(currentToken()).toBeUndefined()
    expect(emitted).toEqual([undefined])
    expect(watched.length).toBeGreaterThan(1)
  })

  test('in another job’s code: two that run together have each their own', async () => {
    const go = new Gate()
    const found = new Map<string, CancelToken | undefined>()
    const tokens = new Map<string, CancelToken>()
    const body = taskOf('body', async (ctx, input) => {
      tokens.set(JSON.stringify(input), ctx.token)
      await go.opened
      found.set(JSON.stringify(input), await nested())
    })
    const { url } = await openWorld({ tasks: [body] })
    const ids = [
      await startAgent(url, { task: 'body', input: { n: 1 } }),
      await startAgent(url, { task: 'body', input: { n: 2 } }),
    ]
    await expect.poll(() => tokens.size).toBe(2)
    go.open()
    for (const id of ids) await ended(url, id)
    for (const [who, token] of tokens) expect(found.get(who)).toBe(token)
    expect(new Set(tokens.values()).size).toBe(2)
  })
})

describe('the token of a job', () => {
  test.each(['cancel', 'stop'] as const)('says of a %s what the context says', async (kind) => {
    const there = new Gate()
    const said: unknown[] = []
    const { url } = await openWorld({
      tasks: [
        taskOf('body', async () => {
          const token = currentToken()
          if (token === undefined) throw new Error('there is no token')
          said.push(token.isStopRequested, token.isCancelled, token.signal.aborted, token.stopSignal.aborted)
          token.checkpoint()
          there.open()
          await new Promise((resolve) => token.stopSignal.addEventListener('abort', resolve, { once: true }))
          said.push(token.isStopRequested, token.isCancelled, token.signal.aborted, token.stopSignal.aborted)
          said.push(token.stopSignal.reason.why)
          await nested()
          token.checkpoint()
          said.push('never')
        }),
      ],
    })
    const id = await startAgent(url, { task: 'body', input: null })
    await there.opened
    await ask(url, `/jobs/${id}/${kind}?wait=20`, { method: 'POST' })
    expect((await ended(url, id)).status).toBe(kind === 'cancel' ? 'cancelled' : 'stopped')
    expect(said).toEqual([
      false,
      false,
      false,
      false,
      ...(kind === 'cancel' ? [false, true, true, true] : [true, false, false, true]),
      `${kind}_requested`,
    ])
  })
})
