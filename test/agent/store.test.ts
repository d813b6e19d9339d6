import { describe, expect, test } from 'vitest'
import type { TaskContext } from '../../src/execution/task.ts'
import type { Json } from '../../src/job/json.ts'
import type { StoreChange } from '../../src/store/JobStore.ts'
import { openHeldWorld } from '../eventlog/heldWorld.ts'
import { ask } from '../server/requests.ts'
import { CALLER, end, eventually, Gate, openWorld, startOf, taskOf, temporaryFolder } from '../world.ts'
import { ended, runAgent, startAgent } from './agentWorld.ts'

type Body = (ctx: TaskContext, input: Json) => Promise<Json | undefined | void>

async function run(body: Body): Promise<Json | undefined> {
  const { url } = await openWorld({ tasks: [taskOf('body', body)] })
  const { view } = await runAgent(url, { task: 'body', input: null })
  expect(view.failure).toBeUndefined()
  return view.result
}

/** What a call rejects with: its code and its message. */
async function refusal(call: Promise<unknown>): Promise<Json> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => Object(thrown),
  )
  return error === undefined ? null : { code: error.code ?? error.name, message: error.message }
}

function isValue(changes: readonly StoreChange[]): boolean {
  return changes.some(({ kind }) => kind === 'value')
}

describe('ctx.store', () => {
  test('keeps values, changes them, deletes them, and knows what is not there', async () => {
    const values: Json = { text: 'ä\u2028😀', list: [1, null, true], deep: { '': [{}] } }
    expect(
      await run(async ({ store }) => {
        await store.put('a', values)
        await store.put('b', 'first')
        await store.put('b', 'second')
        await store.put('null', null)
        const all = [await store.get('a'), await store.get('b'), await store.get('null')]
        await store.delete('b')
        await store.delete('b')
        return [...all.map((value) => value ?? null), (await store.get('b')) === undefined]
      }),
    ).toEqual([values, 'second', null, true])
  })

  test('keeps a copy: what becomes of the object changes nothing', async () => {
    expect(
      await run(async ({ store }) => {
        const value = { n: 1 }
        const put = store.put('a', value)
        value.n = 2
        await put
        return (await store.get('a')) ?? null
      }),
    ).toEqual({ n: 1 })
  })

  test('sees what it has just written, in the order in which it was written', async () => {
    expect(
      await run(async ({ store }) => {
        const writes = Array.from({ length: 100 }, (_, n) => store.put('n', n))
        await Promise.all(writes)
        return (await store.get('n')) ?? null
      }),
    ).toBe(99)
  })

  test('lists keys sorted, by prefix, a page at a time', async () => {
    expect(
      await run(async ({ store }) => {
        for (const key of ['b', 'a', 'a/2', 'a/1', 'a0', 'ä', '😀', 'z%', 'z_']) await store.put(key, 1)
        return [
          await store.list(),
          await store.list({ prefix: 'a/' }),
          await store.list({ after: 'a/2' }),
          await store.list({ prefix: 'a', after: 'a/1' }),
          await store.list({ prefix: 'z_' }),
          await store.list({ prefix: 'nothing' }),
        ].map((keys) => [...keys])
      }),
    ).toEqual([
      ['a', 'a/1', 'a/2', 'a0', 'b', 'z%', 'z_', 'ä', '😀'],
      ['a/1', 'a/2'],
      ['a0', 'b', 'z%', 'z_', 'ä', '😀'],
      ['a/2', 'a0'],
      ['z_'],
      [],
    ])
  })

  test('lists a thousand at the most, and goes on after the last', async () => {
    expect(
      await run(async ({ store }) => {
        const keys = Array.from({ length: 1500 }, (_, n) => `k${String(n).padStart(5, '0')}`)
        await Promise.all(keys.map((key) => store.put(key, 1)))
        const first = await store.list()
        const rest = await store.list({ after: first.at(-1) ?? '' })
        return [first.length, rest.length, [...first, ...rest].join() === keys.join()]
      }),
    ).toEqual([1000, 500, true])
  })

  test.each<[string, (ctx: TaskContext) => Promise<unknown>, string]>([
    ['an empty key', ({ store }) => store.get(''), '1 to 200 characters, got 0 characters'],
    ['a key of 201', ({ store }) => store.put('k'.repeat(201), 1), 'got 201 characters'],
    ['a key that is no text', ({ store }) => store.delete(7 as unknown as string), 'got a number'],
    ['half a character as a key', ({ store }) => store.get('\ud83d'), 'got 1 characters'],
    ['a value that is too large', ({ store }) => store.put('a', 'x'.repeat(65_535)), 'that of a has 65537'],
    ['no value', ({ store }) => store.put('a', undefined as unknown as Json), 'must be JSON, got undefined'],
    ['a function', ({ store }) => store.put('a', (() => 1) as unknown as Json), 'must be JSON, got function'],
    ['a circle', ({ store }) => store.put('a', circle()), 'cannot be written as JSON'],
    ['a prefix that is no text', ({ store }) => store.list({ prefix: 7 as unknown as string }), 'got a number'],
    ['a place that is no text', ({ store }) => store.list({ after: null as unknown as string }), 'got a object'],
  ])('refuses %s', async (_name, call, message) => {
    expect(await run((ctx) => refusal(call(ctx)))).toMatchObject({
      code: 'TETHER_VALUE_INVALID',
      message: expect.stringContaining(message),
    })
  })

  test('takes keys and values up to their limits', async () => {
    expect(
      await run(async ({ store }) => {
        await store.put('k'.repeat(200), 'x'.repeat(64 * 1024 - 2))
        return JSON.stringify(await store.get('k'.repeat(200))).length
      }),
    ).toBe(64 * 1024)
  })
})

describe('what ctx.store keeps', () => {
  const notes = (name: string) =>
    taskOf(name, async ({ store }, input) => {
      const before = (await store.get('last')) ?? null
      await store.put('last', input)
      return before
    })

  test('is there for the next job of the task, and for no other task', async () => {
    const { url } = await openWorld({ tasks: [notes('one'), notes('two')] })
    const result = async (task: string, input: object) => (await runAgent(url, { task, input })).view.result
    expect(await result('one', { n: 1 })).toBeNull()
    expect(await result('one', { n: 2 })).toEqual({ n: 1 })
    expect(await result('two', { n: 3 })).toBeNull()
    expect(await result('one', { n: 4 })).toEqual({ n: 2 })
  })

  test('is there for no other tenant', async () => {
    const tether = await openWorld({ tasks: [notes('one')] })
    const result = async (tenant: string, input: Json) => {
      const start = { ...startOf('one', input), caller: { ...CALLER, tenant } }
      const { ref } = await tether.jobs.start(start)
      return (await tether.jobs.outcome(ref)).result
    }
    expect(await result('a', 1)).toBeNull()
    expect(await result('b', 2)).toBeNull()
    expect(await result('a', 3)).toBe(1)
    expect(await result('b', 4)).toBe(2)
  })

  test('is there after a restart, and is not kept by the jobs that wrote it', async () => {
    const dataDir = await temporaryFolder()
    const first = await openWorld({ dataDir, tasks: [notes('one')] })
    const { view } = await runAgent(first.url, { task: 'one', input: { n: 1 } })
    await fetch(`${first.url}/jobs/${view.id}`, { method: 'DELETE' })
    await first.stop()
    const second = await openWorld({ dataDir, tasks: [notes('one')] })
    expect((await runAgent(second.url, { task: 'one', input: { n: 2 } })).view.result).toEqual({ n: 1 })
  })
})

describe('each call of ctx.store is a boundary', () => {
  const CALLS: readonly [string, (ctx: TaskContext) => Promise<unknown>][] = [
    ['get', ({ store }) => store.get('a')],
    ['put', ({ store }) => store.put('a', 2)],
    ['delete', ({ store }) => store.delete('a')],
    ['list', ({ store }) => store.list()],
  ]

  test.each(CALLS.flatMap(([name, call]) => (['cancel', 'stop'] as const).map((kind) => [name, kind, call] as const)))(
    '%s meets a %s, and nothing is done',
    async (_name, kind, call) => {
      const there = new Gate()
      let met: unknown
      const tether = await openWorld({
        tasks: [
          taskOf('body', async (ctx): Promise<void> => {
            await ctx.store.put('a', 1)
            there.open()
            await new Promise((resolve) => ctx.stopSignal.addEventListener('abort', resolve, { once: true }))
            await call(ctx).catch((error: unknown) => {
              met = error
            })
          }),
          taskOf('other', async (ctx) => (await ctx.store.get('a')) ?? null),
        ],
      })
      const id = await startAgent(tether.url, { task: 'body', input: null })
      await there.opened
      await ask(tether.url, `/jobs/${id}/${kind}?wait=20`, { method: 'POST' })
      expect((await ended(tether.url, id)).status).toBe(kind === 'cancel' ? 'cancelled' : 'stopped')
      expect(met).toMatchObject({ name: 'AbortError', why: `${kind}_requested` })
    },
  )

  test('is silent in shielded code, so that cleanup may note something', async () => {
    const there = new Gate()
    const body = taskOf('body', async (ctx, input) => {
      if (input !== null) return (await ctx.store.get('note')) ?? null
      ctx.defer(() => ctx.store.put('note', 'I was here'))
      there.open()
      await ctx.sleep(60_000)
      return null
    })
    const { url } = await openWorld({ tasks: [body] })
    const id = await startAgent(url, { task: 'body', input: null })
    await there.opened
    await ask(url, `/jobs/${id}/cancel?wait=20`, { method: 'POST' })
    expect(await ended(url, id)).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
    expect((await runAgent(url, { task: 'body', input: {} })).view.result).toBe('I was here')
  })

  test('does not hold up a cancel where the store is slow', async () => {
    let met: unknown
    const body = taskOf('body', async ({ store }) => {
      await store.put('a', 1).catch((error: unknown) => {
        met = error
        throw error
      })
    })
    const { tether, store } = await openHeldWorld({ tasks: [body] })
    const taken = new Gate()
    store.holdCommits((changes) => (isValue(changes) ? taken.opened : Promise.resolve()))
    const { ref } = await tether.jobs.start(startOf('body', null, { policy: { settleMs: 60_000 } }))
    await eventually('it is being written', () => store.asked.some(isValue))
    await end(tether, ref, 'cancel')
    await eventually('its function has settled', () => met !== undefined)
    expect(met).toMatchObject({ name: 'AbortError', why: 'cancel_requested' })
    taken.open()
    expect(await tether.jobs.outcome(ref)).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
  })

  test('is written once the store takes it again', async () => {
    const body = taskOf('body', async ({ store }) => refusal(store.put('a', 1)))
    const { tether, store } = await openHeldWorld({ tasks: [body] })
    store.holdCommits((changes) => (isValue(changes) ? Promise.reject(new Error('no room')) : Promise.resolve()))
    const { ref } = await tether.jobs.start(startOf('body', null))
    await eventually('it was tried', () => store.asked.some(isValue))
    store.holdCommits(undefined)
    expect(await tether.jobs.outcome(ref)).toMatchObject({ status: 'succeeded', result: null })
  })
})

function circle(): Json {
  const value: Record<string, Json> = {}
  value['self'] = value
  return value
}
