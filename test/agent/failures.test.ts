import { describe, expect, test } from 'vitest'
import type { JobView } from '../../src/job/view.ts'
import { JumpingClock } from '../JumpingClock.ts'
import {
  type AgentWorld,
  ended,
  logOf,
  openAgents,
  runAgent,
  SHAPES,
  type Shape,
  startAgent,
  textOf,
} from './agentWorld.ts'
import { FakeModelServer, failsWith, type Reply, says } from './FakeModelServer.ts'
import { jumpRetries, type Retry } from './retries.ts'
import { ChatCompletions, Messages, type Part } from './wire.ts'

interface Outcome extends AgentWorld {
  readonly view: JobView
  readonly retries: readonly Retry[]
  readonly text: string
}

/** A stream that says `The end.`, to its last event. */
function wholeOf(shape: Shape): string {
  const encoder = shape === 'openai' ? new ChatCompletions() : new Messages()
  const finish = shape === 'openai' ? 'stop' : 'end_turn'
  return encoder.begin() + encoder.say({ text: 'The end.' }) + encoder.end(finish, { input: 10, output: 5 })
}

/** Runs an agent against these answers; back-offs pass at once. */
async function run(shape: Shape, ...replies: readonly Reply[]): Promise<Outcome> {
  const clock = new JumpingClock()
  const world = await openAgents({ clock }, shape)
  world.model.script(...replies)
  const id = await startAgent(world.url)
  const retries = await jumpRetries(world.url, id, clock)
  const view = await ended(world.url, id)
  expect(world.model.requests).toHaveLength(replies.length)
  world.model.seal()
  return { ...world, view, retries, text: textOf(await logOf(world.url, id), 'text') }
}

describe.each(SHAPES)('a model server (%s)', (shape) => {
  test.each([
    [
      401,
      'no such key',
      'TETHER_MODEL_UNAUTHORIZED',
      'the model server refused the key for the model fake (401): no such key',
    ],
    [
      403,
      'not for you',
      'TETHER_MODEL_UNAUTHORIZED',
      'the model server refused the key for the model fake (403): not for you',
    ],
    [404, 'no such model', 'TETHER_MODEL_UNAVAILABLE', 'the model server has no model fake (404): no such model'],
    [400, 'too long', 'TETHER_MODEL_FAILED', 'the call of the model fake failed (400): too long'],
    [413, 'too large', 'TETHER_MODEL_FAILED', 'the call of the model fake failed (413): too large'],
  ])('that answers %i is asked once, and the job fails with its words', async (status, said, code, message) => {
    const { view, retries } = await run(shape, failsWith(status, said))
    expect(view).toMatchObject({ status: 'failed', failure: { code, message, retryable: false } })
    expect(retries).toEqual([])
  })

  test.each([408, 429, 500, 502, 503, 529])('that answers %i is asked again, and then it goes on', async (status) => {
    const { view, retries } = await run(shape, failsWith(status, 'busy'), failsWith(status, 'busy'), says('At last.'))
    expect(view).toMatchObject({ status: 'succeeded', result: { text: 'At last.', steps: 1 } })
    expect(retries).toMatchObject([
      { model: 'fake', attempt: 1, reason: `the call of the model fake failed (${status}): busy` },
      { model: 'fake', attempt: 2 },
    ])
    // Doubled, within a quarter.
    for (const [index, { waitMs }] of retries.entries()) {
      expect(waitMs).toBeGreaterThanOrEqual(375 * 2 ** index)
      expect(waitMs).toBeLessThanOrEqual(625 * 2 ** index)
    }
  })

  test('that never gets well is asked five times', async () => {
    const { view, retries } = await run(shape, ...Array.from({ length: 5 }, () => failsWith(500, 'broken')))
    expect(view).toMatchObject({
      status: 'failed',
      failure: {
        code: 'TETHER_MODEL_FAILED',
        message: 'the call of the model fake failed (500): broken',
        retryable: true,
      },
    })
    expect(retries.map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4])
  })

  test.each([
    ['seconds', { 'retry-after': '7' }, 7000],
    ['milliseconds', { 'retry-after-ms': '1234', 'retry-after': '9' }, 1234],
  ])('that names %s to wait is waited for exactly so long', async (_name, headers, waitMs) => {
    const { view, retries } = await run(shape, failsWith(429, 'slowly', headers), says('Thanks.'))
    expect(view.status).toBe('succeeded')
    expect(retries).toMatchObject([{ waitMs }])
  })

  test('that names a date to wait for is waited for until then', async () => {
    const at = new Date(Date.now() + 20_000).toUTCString()
    const { retries } = await run(shape, failsWith(503, 'slowly', { 'retry-after': at }), says('Thanks.'))
    expect(retries[0]?.waitMs).toBeGreaterThan(15_000)
    expect(retries[0]?.waitMs).toBeLessThanOrEqual(20_000)
  })

  test.each([
    { 'retry-after': 'soon' },
    { 'retry-after': '' },
    { 'retry-after': '0' },
    { 'retry-after': '-1' },
    { 'retry-after': '0.001' },
    { 'retry-after': 'Thu, 01 Jan 2026 00:00:00 GMT' },
    { 'retry-after-ms': '0' },
    { 'retry-after-ms': '-100', 'retry-after': '0' },
  ])('that names %j to wait is waited for as usual', async (headers: Readonly<Record<string, string>>) => {
    const { retries } = await run(shape, failsWith(429, 'slowly', headers), says('Thanks.'))
    expect(retries[0]?.waitMs).toBeGreaterThanOrEqual(375)
    expect(retries[0]?.waitMs).toBeLessThanOrEqual(625)
  })

  test('that wants a longer wait than a minute is not waited for', async () => {
    const { view } = await run(shape, failsWith(429, 'quota', { 'retry-after': '61' }))
    expect(view).toMatchObject({ status: 'failed', failure: { code: 'TETHER_MODEL_FAILED', retryable: true } })
  })

  test.each([301, 302, 303, 307, 308])('that answers %i is not followed: the key is its own', async (status) => {
    const other = await FakeModelServer.start()
    const location = `${other.baseUrl.replace('http://', 'http://user:pass@')}/messages?secret=1#x`
    const { view, model } = await run(shape, { status, headers: { location }, body: 'elsewhere' })
    const { origin } = new URL(other.baseUrl)
    expect(view.failure).toEqual({
      code: 'TETHER_MODEL_FAILED',
      message: `the model server at ${new URL(model.baseUrl).origin} must answer itself, and answered ${status}, which leads to ${origin}`,
      retryable: false,
    })
    expect(other.requests).toEqual([])
    expect(other.connections).toEqual([])
  })

  test.each([{}, { location: 'http://[' }])('that answers 302 with %j leads nowhere', async (headers) => {
    const { view } = await run(shape, { status: 302, headers, body: '' })
    expect(view.failure?.message).toMatch(/must answer itself, and answered 302, which leads to nowhere$/)
  })

  test('that says its status in words of any script is told of', async () => {
    // Node writes them a byte for a character.
    const statusText = Buffer.from('Zu früh, 忙').toString('latin1')
    const { view } = await run(shape, { status: 400, statusText, body: '' })
    expect(view.failure).toMatchObject({
      code: 'TETHER_MODEL_FAILED',
      message: 'the call of the model fake failed (400): Zu früh, ?',
      retryable: false,
    })
  })

  test('that says its error as a page is told of by its status', async () => {
    const page = { status: 502, statusText: 'Bad Gateway', headers: { 'content-type': 'text/html' } }
    const { view } = await run(shape, ...Array.from({ length: 5 }, () => ({ ...page, body: '<h1>nginx</h1>' })))
    expect(view.failure).toMatchObject({
      code: 'TETHER_MODEL_FAILED',
      message: 'the call of the model fake failed (502): Bad Gateway',
    })
  })

  const page = '<!doctype html><title>Please log in</title>'
  test.each([
    ['a page', 'text/html; charset=utf-8', page],
    ['JSON', 'application/json', JSON.stringify({ error: { message: 'out of credit' } })],
  ])('that answers 200 with %s has not answered: one error says so, once', async (_name, type, body) => {
    const { view } = await run(shape, { status: 200, headers: { 'content-type': type }, body })
    expect(view).toMatchObject({ status: 'failed', failure: { code: 'TETHER_MODEL_FAILED', retryable: false } })
    expect(view.failure?.message).toContain(type.split(';')[0])
    if (type === 'application/json') expect(view.failure?.message).toContain('out of credit')
  })

  test.each(['text/plain', 'application/octet-stream', ''])('that calls its stream %j is understood', async (type) => {
    const { view } = await run(shape, { ...says('All the same.'), headers: { 'content-type': type } })
    expect(view).toMatchObject({ status: 'succeeded', result: { text: 'All the same.' } })
  })

  const CUTS = ['FIN', 'RST', 'end'] as const

  test.each(CUTS)('whose connection ends (%s) before it has said anything is asked again', async (cut) => {
    const { view, retries } = await run(shape, { parts: [{ cut }] }, says('Whole.'))
    expect(view).toMatchObject({ status: 'succeeded', result: { text: 'Whole.' } })
    expect(retries).toMatchObject([{ attempt: 1, reason: expect.stringContaining('broke off') }])
  })

  test.each(CUTS)('whose connection ends (%s) in its answer has failed, and is not asked again', async (cut) => {
    const { view, text, retries } = await run(shape, { parts: [{ text: 'The answer is ' }, { cut }] })
    expect(view).toMatchObject({
      status: 'failed',
      failure: { code: 'TETHER_MODEL_FAILED', message: expect.stringContaining('broke off'), retryable: true },
    })
    expect(text).toBe('The answer is ')
    expect(retries).toEqual([])
  })

  test.each(CUTS)(
    'whose connection ends (%s) in a call of a tool is asked again: nothing of it was shown',
    async (cut) => {
      const half: Part[] = [{ call: 'terminal', input: '{"command":"echo never' }, { cut }]
      const { view, retries } = await run(shape, { parts: half }, says('Whole.'))
      expect(view).toMatchObject({ status: 'succeeded', result: { text: 'Whole.', steps: 1 } })
      expect(retries).toHaveLength(1)
    },
  )

  test('that sends what is no JSON has broken off', async () => {
    const before = await run(shape, { parts: [{ text: '' }, { raw: 'data: {"choices":[{"del\n\n' }] }, says('Whole.'))
    expect(before.view).toMatchObject({ status: 'succeeded', result: { text: 'Whole.' } })
    const after = await run(shape, { parts: [{ text: 'Half' }, { raw: 'data: <nonsense>\n\n' }, { text: 'more' }] })
    expect(after.view).toMatchObject({
      status: 'failed',
      failure: { code: 'TETHER_MODEL_FAILED', message: expect.stringContaining('broke off') },
    })
  })

  test('that sends lines which are no events, or none at all, has broken off', async () => {
    const { view } = await run(shape, { parts: [{ raw: 'hello\nthere\n\n' }, { cut: 'end' }] }, says('Whole.'))
    expect(view.status).toBe('succeeded')
  })

  test.each([
    ['one line', 'data: ', 'x'],
    ['lines that end with LF', '', 'data: x\n'],
    ['lines that end with CRLF', '', 'data: x\r\n'],
    ['lines that end with CR', '', 'data: x\r'],
    ['comments', '', ': x\n'],
  ])('that sends an event without end (%s) is left after some of it', async (_name, begin, more) => {
    const endless = { parts: [{ text: 'x' }, { raw: begin }, { rawForever: more.repeat(100_000) }] }
    const { view, model } = await run(shape, endless)
    expect(view.failure).toMatchObject({
      code: 'TETHER_MODEL_FAILED',
      message: expect.stringContaining('broke off: an event of its answer has more than 1048576 bytes'),
    })
    expect(await model.untilClosed()).not.toContain('server')
  })

  test.each(['\n\n', '\r\n\r\n', '\r\r'])('may send many long events that end with %j', async (end) => {
    const comment = `: ${'x'.repeat(400_000)}${end}`
    const parts = [...Array.from({ length: 8 }, () => ({ raw: comment })), { text: 'Whole.' }]
    const { view } = await run(shape, { parts })
    expect(view).toMatchObject({ status: 'succeeded', result: { text: 'Whole.' } })
  })

  test.each<readonly Part[]>([[{ stall: true }], [{ cut: 'FIN' }], [{ cut: 'RST' }], [{ rawForever: 'on and on' }]])(
    'that has said its last event has answered, whatever becomes of its connection: %j',
    async (after) => {
      const { view, model } = await run(shape, { parts: [{ raw: wholeOf(shape) }, after] })
      expect(view).toMatchObject({
        status: 'succeeded',
        result: { text: 'The end.', usage: { totalTokens: 15 } },
      })
      await model.untilClosed()
    },
  )

  test.each(['\n\n', '\r\n\r\n', '\r\r'])('whose events end with %j may have its last one in pieces', async (end) => {
    const pieces =
      wholeOf(shape)
        .replaceAll('\n', end.slice(0, end.length / 2))
        .match(/[^]{1,3}/g) ?? []
    const parts = pieces.flatMap((raw): Part[] => [{ raw }, { reached: () => undefined }])
    const { view } = await run(shape, { parts: [...parts, { stall: true }] })
    expect(view).toMatchObject({ status: 'succeeded', result: { text: 'The end.' } })
  })

  test.each(['FIN', 'RST'] as const)('whose connection ends (%s) before its last event has broken off', async (cut) => {
    const whole = wholeOf(shape)
    const raw = whole.slice(0, whole.lastIndexOf('data: '))
    const { view } = await run(shape, { parts: [{ raw }, { cut }] })
    expect(view).toMatchObject({ status: 'failed', failure: { message: expect.stringContaining('broke off') } })
  })

  test('that only speaks of its last event has not said it', async () => {
    const text = 'data: [DONE]\n\ndata: {"type":"message_stop"}\n\n'
    const { view } = await run(shape, { parts: [{ text }, { text: 'Whole.' }] })
    expect(view).toMatchObject({ status: 'succeeded', result: { text: `${text}Whole.` } })
  })

  test('that says an error in its stream is told of with its words', async () => {
    const error = { type: 'api_error', message: 'the engine died', code: null }
    const { view } = await run(shape, { parts: [{ text: 'Half' }, { error }] })
    expect(view).toMatchObject({
      status: 'failed',
      failure: { code: 'TETHER_MODEL_FAILED', message: expect.stringMatching(/broke off: the engine died$/) },
    })
  })

  test('that says an error first in its stream is asked again where that may help', async () => {
    const error = { type: 'overloaded_error', message: 'Overloaded', code: null }
    const { view, retries } = await run(shape, { parts: [{ error }] }, says('Whole.'))
    expect(view.status).toBe('succeeded')
    expect(retries).toMatchObject([{ reason: expect.stringContaining('Overloaded') }])
  })

  test.each([
    [shape === 'openai' ? 'length' : 'max_tokens', 'TETHER_MODEL_TRUNCATED', 'reached its limit of tokens'],
    [shape === 'openai' ? 'content_filter' : 'refusal', 'TETHER_MODEL_FAILED', 'content filter'],
  ])('that ends with %s has not answered', async (finish, code, message) => {
    const { view } = await run(shape, { ...says('The beginning'), finish })
    expect(view).toMatchObject({
      status: 'failed',
      failure: { code, message: expect.stringContaining(message), retryable: false },
    })
  })

  test('that does not say why it ended has broken off', async () => {
    const { view } = await run(shape, { ...says('The beginning'), finish: null })
    expect(view).toMatchObject({ status: 'failed', failure: { code: 'TETHER_MODEL_FAILED' } })
  })

  test('that ends for a reason which nobody knows has answered', async () => {
    const { view } = await run(shape, { ...says('The end.'), finish: 'because' })
    expect(view).toMatchObject({ status: 'succeeded', result: { text: 'The end.' } })
  })

  test('that says nothing has answered with nothing', async () => {
    const { view, text } = await run(shape, { parts: [] })
    expect(view).toMatchObject({ status: 'succeeded', result: { text: '', steps: 1 } })
    expect(text).toBe('')
  })
})

test('a model server that is not there is asked five times', async () => {
  const clock = new JumpingClock()
  const { url } = await openAgents({ clock, settings: { OPENAI_BASE_URL: 'http://127.0.0.1:4/v1' } })
  const id = await startAgent(url)
  const retries = await jumpRetries(url, id, clock)
  expect(await ended(url, id)).toMatchObject({
    status: 'failed',
    failure: { code: 'TETHER_MODEL_FAILED', message: expect.stringContaining('ECONNREFUSED'), retryable: true },
  })
  expect(retries).toHaveLength(4)
})

test('a server that says no usage is none to count', async () => {
  const { model, url } = await openAgents()
  model.script({ ...says('Done.'), usage: null })
  const { view, events } = await runAgent(url)
  expect(view).toMatchObject({ status: 'succeeded', result: { text: 'Done.', usage: {} } })
  expect(events.find(({ type }) => type === 'model.finished')).toMatchObject({ usage: {} })
})
