import { Writable } from 'node:stream'
import { inspect } from 'node:util'
import { pino } from 'pino'
import { describe, expect, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import type { JobView } from '../../src/job/view.ts'
import { openTether } from '../../src/tether.ts'
import { JumpingClock } from '../JumpingClock.ts'
import { jobOf } from '../server/requests.ts'
import { Gate, openWorld, taskOf, temporaryFolder } from '../world.ts'
import {
  ended,
  KEY,
  logOf,
  openAgents,
  runAgent,
  SHAPES,
  settingsFor,
  startAgent,
  stepsOf,
  untilEvent,
} from './agentWorld.ts'
import { FakeModelServer, failsWith, type Reply, says } from './FakeModelServer.ts'
import { jumpRetries } from './retries.ts'

/** Runs an agent on a server with these settings, next to two model servers. */
async function ask(
  settingsOf: (openai: string, anthropic: string) => Readonly<Record<string, string>>,
  model?: string,
): Promise<{ view: JobView; asked: readonly string[]; lists: number }> {
  const [openai, anthropic] = [await FakeModelServer.start(), await FakeModelServer.start()]
  const { url } = await openWorld({ settings: settingsOf(openai.baseUrl, anthropic.baseUrl) })
  const input = { prompt: 'Which are you?', ...(model === undefined ? {} : { model }) }
  const { view } = await runAgent(url, { input })
  const asked = [
    ...openai.requests.map(({ body }) => `openai ${body.model}`),
    ...anthropic.requests.map(({ body }) => `anthropic ${body.model}`),
  ]
  return { view, asked, lists: openai.lists + anthropic.lists }
}

/** A list whose first model has this name. */
function listOf(id: string): Reply {
  return { body: JSON.stringify({ data: [{ id }, { id: 'second' }] }) }
}

describe('the model of a job', () => {
  test.each([
    // As `MODEL`, the settings that there are, as asked for by the job, and what then is asked.
    ['openai:gpt', 'url', undefined, 'openai gpt'],
    ['gpt', 'url', undefined, 'openai gpt'],
    ['gpt', 'url key anthropic', undefined, 'openai gpt'],
    ['anthropic:claude', 'url anthropic', undefined, 'anthropic claude'],
    ['claude', 'anthropic', undefined, 'anthropic claude'],
    ['llama3:8b', 'url', undefined, 'openai llama3:8b'],
    ['openai:llama3:8b', 'url', undefined, 'openai llama3:8b'],
    ['openai:anthropic:x', 'url anthropic', undefined, 'openai anthropic:x'],
    ['meta/llama-3.1-8b@latest', 'url', undefined, 'openai meta/llama-3.1-8b@latest'],
    ['', 'url', undefined, 'openai first-of-list'],
    ['', 'url anthropic', undefined, 'openai first-of-list'],
    ['', 'anthropic', undefined, 'anthropic first-of-list'],
    ['openai:gpt', 'url anthropic', 'anthropic:claude', 'anthropic claude'],
    ['anthropic:claude', 'url anthropic', 'llama3:8b', 'openai llama3:8b'],
    ['scripted', 'url', 'openai:gpt', 'openai gpt'],
  ])('is with MODEL %j, %s and the input %j: %s', async (setting, given, input, wanted) => {
    const { view, asked, lists } = await ask(
      (openai, anthropic) => ({
        ...(setting === '' ? {} : { MODEL: setting }),
        ...(given.includes('url') ? { OPENAI_BASE_URL: openai } : {}),
        ...(given.includes('key') ? { OPENAI_API_KEY: KEY } : {}),
        ...(given.includes('anthropic') ? { ANTHROPIC_API_KEY: KEY, ANTHROPIC_BASE_URL: anthropic } : {}),
      }),
      input,
    )
    expect(view.failure).toBeUndefined()
    expect(asked).toEqual([wanted])
    expect(lists).toBe(wanted.includes('first-of-list') ? 1 : 0)
  })

  test.each([
    ['anthropic:claude', 'url', 'ANTHROPIC_API_KEY'],
    ['openai:gpt', 'anthropic', 'OPENAI_BASE_URL or OPENAI_API_KEY'],
    ['gpt', '', 'ANTHROPIC_API_KEY'],
  ])('%s with %j fails with the settings that are missing', async (model, given, missing) => {
    const { view, asked } = await ask(
      (openai, anthropic) => ({
        ...(given === 'url' ? { OPENAI_BASE_URL: openai } : {}),
        ...(given === 'anthropic' ? { ANTHROPIC_API_KEY: KEY, ANTHROPIC_BASE_URL: anthropic } : {}),
      }),
      model,
    )
    expect(view).toMatchObject({
      status: 'failed',
      failure: {
        code: 'TETHER_MODEL_UNAVAILABLE',
        message: `the model ${JSON.stringify(model)} needs ${missing} to be set at the server`,
        retryable: false,
      },
    })
    expect(asked).toEqual([])
  })

  test('is asked without a key where there is none', async () => {
    const model = await FakeModelServer.start()
    const { url } = await openWorld({ settings: { OPENAI_BASE_URL: `${model.baseUrl}/`, MODEL: 'local' } })
    await runAgent(url)
    expect(model.requests[0]?.headers.authorization).toBeUndefined()
    expect(model.requests[0]?.path).toBe('/v1/chat/completions')
  })

  test('that is the first of a list is looked up once a server', async () => {
    const { model, url } = await openAgents({ settings: { MODEL: '' } })
    for (let n = 0; n < 3; n += 1) expect((await runAgent(url)).view.status).toBe('succeeded')
    expect(model.lists).toBe(1)
    expect(model.requests.map(({ body }) => body.model)).toEqual(['first-of-list', 'first-of-list', 'first-of-list'])
  })

  test.each([
    ['is empty', { body: '{"data":[]}' }, 'TETHER_MODEL_FAILED', false],
    ['is no content', { status: 204, body: '' }, 'TETHER_MODEL_FAILED', false],
    ['is none', { body: '<html>' }, 'TETHER_MODEL_FAILED', false],
    ['has no ids', { body: '{"data":[{"name":"x"}]}' }, 'TETHER_MODEL_FAILED', false],
    ['is not there', { status: 404, body: '' }, 'TETHER_MODEL_FAILED', false],
    ['is refused', failsWith(401, 'who?'), 'TETHER_MODEL_UNAUTHORIZED', false],
    ['is not to be had now', failsWith(503, 'starting'), 'TETHER_MODEL_FAILED', true],
    ['breaks off', { parts: [{ raw: '{"data":[' }, { cut: 'RST' as const }] }, 'TETHER_MODEL_FAILED', true],
    ['wants a long wait', failsWith(429, 'quota', { 'retry-after': '61' }), 'TETHER_MODEL_FAILED', true],
    ['begins with a name that has spaces', listOf('a model'), 'TETHER_MODEL_FAILED', false],
    ['begins with a name that has control characters', listOf('model\r\nx: y'), 'TETHER_MODEL_FAILED', false],
    ['begins with an empty name', listOf(''), 'TETHER_MODEL_FAILED', false],
    ['begins with a name without end', listOf('x'.repeat(201)), 'TETHER_MODEL_FAILED', false],
  ])('that is the first of a list which %s fails with one error', async (_name, list, code, retryable) => {
    const clock = new JumpingClock()
    const { model, url } = await openAgents({ settings: { MODEL: '' }, clock })
    model.list = list
    const id = await startAgent(url)
    const retries = await jumpRetries(url, id, clock)
    const view = await ended(url, id)
    expect(view).toMatchObject({ status: 'failed', failure: { code, retryable } })
    expect(retries).toHaveLength(retryable && !('headers' in list && 'retry-after' in list.headers) ? 4 : 0)
    expect(model.lists).toBe(retries.length + 1)
    expect(view.failure?.message).toContain(`${model.baseUrl}/models`)
    expect(model.requests).toEqual([])
    model.list = { body: '{"data":[{"id":"now"}]}' }
    // What was not found is not remembered.
    expect((await runAgent(url)).view.status).toBe('succeeded')
  })

  test('may have a name of 200 characters', async () => {
    const { model, url } = await openAgents({ settings: { MODEL: '' } })
    model.list = listOf('~'.repeat(200))
    expect((await runAgent(url)).view.status).toBe('succeeded')
    expect(model.requests[0]?.body.model).toBe('~'.repeat(200))
  })

  test.each(SHAPES)('whose list is not to be had at first is asked for again (%s)', async (shape) => {
    const clock = new JumpingClock()
    const { model, url } = await openAgents({ settings: { MODEL: '' }, clock }, shape)
    const lists = [
      failsWith(503, KEY, { 'retry-after': '7' }),
      failsWith(429, 'slowly', { 'retry-after': '0' }),
      { parts: [{ raw: '{"data":[' }, { cut: 'RST' as const }] },
      listOf('at-last'),
    ]
    model.lookUp = () => lists.shift() ?? listOf('never')
    const id = await startAgent(url)
    const retries = await jumpRetries(url, id, clock)
    expect(await ended(url, id)).toMatchObject({ status: 'succeeded' })
    expect(model.requests.map(({ body }) => body.model)).toEqual(['at-last'])
    expect(retries.map(({ attempt }) => attempt)).toEqual([1, 2, 3])
    expect(retries[0]).toMatchObject({ waitMs: 7000, reason: expect.stringContaining(`${model.baseUrl}/models`) })
    for (const [index, { waitMs }] of retries.slice(1).entries()) {
      expect(waitMs).toBeGreaterThanOrEqual(750 * 2 ** index)
      expect(waitMs).toBeLessThanOrEqual(1250 * 2 ** index)
    }
  })

  test.each([
    ['cancel', 'cancelled'],
    ['stop', 'stopped'],
  ])('whose list is to be asked for again is not after a %s', async (kind, status) => {
    const { model, url } = await openAgents({ settings: { MODEL: '' } })
    model.list = failsWith(503, 'busy', { 'retry-after': '60' })
    const id = await startAgent(url)
    await untilEvent(url, id, (event) => event.type === 'data' && event.name === 'model.retry')
    await fetch(`${url}/jobs/${id}/${kind}?wait=20`, { method: 'POST' })
    expect(await jobOf(url, id)).toMatchObject({ status, receipt: { confirmed: true } })
    expect(model.lists).toBe(1)
  })

  test.each(['cancel', 'stop'] as const)('whose list fails during a %s is not asked for again', async (kind) => {
    const go = new Gate()
    const { model, url } = await openAgents({ settings: { MODEL: '' } })
    model.list = { ...failsWith(503, 'busy'), beforeHead: go.opened }
    const id = await startAgent(url)
    await expect.poll(() => model.lists).toBe(1)
    await fetch(`${url}/jobs/${id}/${kind}`, { method: 'POST' })
    go.open()
    expect((await ended(url, id)).status).toBe(kind === 'cancel' ? 'cancelled' : 'stopped')
    expect(stepsOf(await logOf(url, id))).not.toContain('data')
    expect(model.lists).toBe(1)
  })

  test.each(SHAPES)('whose list is elsewhere is not looked up there (%s)', async (shape) => {
    const other = await FakeModelServer.start()
    const { model, url } = await openAgents({ settings: { MODEL: '' } }, shape)
    model.list = { status: 307, headers: { location: `${other.baseUrl}/models` }, body: '' }
    const { view } = await runAgent(url)
    expect(view.failure).toMatchObject({
      code: 'TETHER_MODEL_FAILED',
      message: expect.stringContaining(`answered 307, which leads to ${new URL(other.baseUrl).origin}`),
      retryable: false,
    })
    expect(other.lists).toBe(0)
    expect(model.lists).toBe(1)
  })

  test.each(['cancel', 'stop'] as const)(
    'whose list does not come is waited for no longer after a %s',
    async (kind) => {
      const { model, url } = await openAgents({ settings: { MODEL: '' } })
      model.list = { beforeHead: new Promise(() => undefined) }
      const id = await startAgent(url, { stopDeadlineMs: 100 })
      await expect.poll(() => model.lists).toBe(1)
      await fetch(`${url}/jobs/${id}/${kind}?wait=20`, { method: 'POST' })
      const view = await ended(url, id)
      expect(view).toMatchObject({ status: 'cancelled', receipt: { confirmed: true, released: { requests: 1 } } })
      expect(await model.untilClosed()).toEqual(['client FIN'])
    },
  )
})

describe('the key of a server', () => {
  const LONG_KEY = 'sk-proj-0123456789/abcdef+ghijkl"\\=='

  test.each(
    SHAPES.flatMap((shape) =>
      (['an error', 'its status line', 'a page', 'its stream', 'JSON with a 200'] as const).map(
        (how) => [shape, how] as const,
      ),
    ),
  )('that a model server (%s) echoes in %s comes in no event, no error and no log', async (shape, how) => {
    const model = await FakeModelServer.start()
    const lines: string[] = []
    const log = new Writable({
      write(chunk: Buffer, _encoding, done) {
        lines.push(chunk.toString())
        done()
      },
    })
    const dataDir = await temporaryFolder()
    const own = taskOf('own', async (ctx) => {
      // An author who tells all that there is of an error.
      try {
        const { stream } = await (await ctx.model()).doStream({ prompt: [{ role: 'user', content: [] }] })
        for await (const part of stream) {
          if (part.type === 'error') throw new Error('an error in the stream', { cause: part.error })
        }
      } catch (error) {
        ctx.defer(() => {
          throw error
        })
        await ctx.output(inspect(error, { depth: 9, showHidden: true }))
        throw error
      }
    })
    const settings = settingsFor(model, shape)
    const tether = await openTether({
      config: readConfig({
        PORT: '0',
        DATA_DIR: dataDir,
        CONTAINMENT: 'group',
        ...settings,
        [shape === 'openai' ? 'OPENAI_API_KEY' : 'ANTHROPIC_API_KEY']: LONG_KEY,
      }),
      logger: pino({ level: 'trace' }, log),
      serverEnv: process.env,
      cwd: dataDir,
      tasks: [own],
    })
    onTestFinished(() => tether.stop())
    model.answers(({ headers }) => {
      const secret = headers.authorization ?? String(headers['x-api-key'])
      const words = `bad key: ${secret}`
      if (how === 'an error') return failsWith(401, words, { 'x-echo': secret })
      if (how === 'its status line') return { status: 401, statusText: words, body: '' }
      if (how === 'a page')
        return { status: 403, statusText: words, headers: { 'content-type': 'text/html' }, body: words }
      if (how === 'JSON with a 200') return { status: 200, body: JSON.stringify({ error: { message: words } }) }
      return { parts: [{ text: 'x' }, { error: { type: 'api_error', message: words } }] }
    })
    const ids = [await startAgent(tether.url), await startAgent(tether.url, { task: 'own', input: null })]
    for (const id of ids) {
      const view = await ended(tether.url, id)
      expect(view.status).toBe('failed')
      const shown = JSON.stringify([view, await logOf(tether.url, id)])
      expect(shown).toMatch(/bad key: (Bearer )?\[redacted\]/)
      expect(shown).not.toMatch(/sk-proj|abcdef\+/)
    }
    await tether.stop()
    expect(lines.join('')).toMatch(/bad key: (Bearer )?\[redacted\].*not released/)
    expect(lines.join('')).not.toMatch(/sk-proj|abcdef\+/)
  })

  test('that is a common word takes nothing out of an error', async () => {
    const { model, url } = await openAgents({ settings: { OPENAI_API_KEY: 'ollama' } })
    model.script(failsWith(400, 'ollama cannot do that'))
    expect((await runAgent(url)).view.failure?.message).toContain('ollama cannot do that')
  })

  test('takes nothing out of an answer that only looks like an error', async () => {
    const { model, url } = await openAgents()
    model.script(says('{"error": {"message": "all is well"}}'))
    expect((await runAgent(url)).view.result).toMatchObject({ text: '{"error": {"message": "all is well"}}' })
  })
})

test('a key that stands in the address of the model server is not told where that cannot be reached', async () => {
  const clock = new JumpingClock()
  const { url } = await openWorld({
    clock,
    // Nothing listens at port 1.
    settings: { OPENAI_API_KEY: KEY, OPENAI_BASE_URL: `http://127.0.0.1:1/${KEY}/v1` },
  })
  const id = await startAgent(url)
  const retries = await jumpRetries(url, id, clock)
  const [view, events] = [await ended(url, id), await logOf(url, id)]
  expect(retries).toHaveLength(4)
  expect(view.failure?.message).toContain('no model server answered at http://127.0.0.1:1/[redacted]/v1/models')
  expect(JSON.stringify([view, events])).not.toContain(KEY)
})
