import { describe, expect, test } from 'vitest'
import { SYSTEM_PROMPT } from '../../src/execution/agent/systemPrompt.ts'
import { type AgentTool, defineTool, Type } from '../../src/execution/task.ts'
import { taskOf } from '../world.ts'
import { KEY, openAgents, runAgent, SHAPES, stepsOf, textOf } from './agentWorld.ts'
import type { Reply } from './FakeModelServer.ts'

const looks = defineTool({
  name: 'look',
  description: 'Looks.',
  input: Type.Object({ at: Type.String() }, { additionalProperties: false }),
  run: async (_ctx, { at }) => `a view of ${at}\nin two lines`,
})

const fails = defineTool({
  name: 'fails',
  description: 'Fails.',
  input: Type.Object({}),
  run: async () => {
    throw new Error('on purpose')
  },
})

const works = (tools: readonly AgentTool[]) =>
  taskOf('works', async (ctx) => {
    const { text, steps, usage } = await ctx.agent({ prompt: 'Look around.', system: 'You look.', tools })
    return { text, steps, usage: { ...usage } }
  })

/** Three answers: thought, said and called; called twice in one, once in vain; said. */
const REPLIES: readonly Reply[] = [
  {
    parts: [
      { reasoning: 'Where am I?', signature: 'c2lnbmVk' },
      { text: 'I look ' },
      { text: 'north.' },
      { call: 'look', input: { at: 'north' }, id: 'call_a' },
    ],
    usage: { input: 100, output: 20 },
  },
  {
    parts: [
      { redactedReasoning: 'cmVkYWN0ZWQ=' },
      { call: 'look', input: '{"at": "south"}', id: 'call_b' },
      { call: 'fails', input: {}, id: 'call_c' },
    ],
    usage: { input: 150, output: 30 },
  },
  { parts: [{ text: 'There is nothing.' }], usage: { input: 200, output: 7 } },
]

const VIEW = (at: string): string => `a view of ${at}\nin two lines`

describe.each(SHAPES)('a conversation in the shape of %s', (shape) => {
  test('ends with the last words, the steps and the tokens of all calls', async () => {
    const { model, url } = await openAgents({ tasks: [works([looks, fails])] }, shape)
    model.script(...REPLIES)
    const { view, events } = await runAgent(url, { task: 'works' })
    expect(view).toMatchObject({
      status: 'succeeded',
      result: {
        text: 'There is nothing.',
        steps: 3,
        usage: { inputTokens: 450, outputTokens: 57, totalTokens: 507 },
      },
    })
    expect(stepsOf(events)).toEqual([
      'job.queued',
      'job.started',
      'model.started',
      'model.finished',
      'tool.started',
      'tool.finished',
      'model.started',
      'model.finished',
      'tool.started',
      'tool.finished',
      'tool.started',
      'tool.finished',
      'model.started',
      'model.finished',
      'job.succeeded',
    ])
    expect(textOf(events, 'reasoning')).toBe('Where am I?')
    // What follows a tool begins in a line of its own.
    expect(textOf(events, 'text')).toBe('I look north.\nThere is nothing.')
    expect(events.filter(({ type }) => type === 'model.finished')).toMatchObject([
      { model: 'fake', usage: { inputTokens: 100, outputTokens: 20, totalTokens: 120 } },
      { model: 'fake', usage: { inputTokens: 150, outputTokens: 30, totalTokens: 180 } },
      { model: 'fake', usage: { inputTokens: 200, outputTokens: 7, totalTokens: 207 } },
    ])
    expect(events.filter(({ type }) => type.startsWith('tool.'))).toMatchObject([
      { type: 'tool.started', tool: 'look', callId: 'call_1', input: { at: 'north' } },
      { type: 'tool.finished', tool: 'look', callId: 'call_1', ok: true, summary: 'a view of north' },
      { type: 'tool.started', tool: 'look', callId: 'call_2', input: { at: 'south' } },
      { type: 'tool.finished', tool: 'look', callId: 'call_2', ok: true, summary: 'a view of south' },
      { type: 'tool.started', tool: 'fails', callId: 'call_3', input: {} },
      { type: 'tool.finished', tool: 'fails', callId: 'call_3', ok: false, summary: 'on purpose' },
    ])
    model.seal()
  })

  test('has its characters whole, where the model parts them between two pieces', async () => {
    const { model, url } = await openAgents({}, shape)
    const [high, low] = ['\ud83d', '\ude00']
    model.script({
      parts: [
        { reasoning: `${high}${low}` },
        { text: `a${high}` },
        { text: `${low}b${high}` },
        { text: 'c' },
        { text: high },
      ],
    })
    const { view, events } = await runAgent(url)
    expect(textOf(events, 'text')).toBe('a😀b\ufffdc\ufffd')
    expect(textOf(events, 'reasoning')).toBe('😀')
    expect(Object(view.result).text).toMatch(/^a😀b/u)
  })

  test('keeps its connection, and sends the key where that kind of server wants it', async () => {
    const { model, url } = await openAgents({ tasks: [works([looks, fails])] }, shape)
    model.script(...REPLIES)
    await runAgent(url, { task: 'works' })
    expect(model.requests).toHaveLength(3)
    // The next call may come before the first connection has seen the end of its answer; never is there one for each.
    expect(model.connections.length).toBeLessThan(3)
    for (const { headers, path } of model.requests) {
      if (shape === 'openai') expect(headers.authorization).toBe(`Bearer ${KEY}`)
      else expect(headers).toMatchObject({ 'x-api-key': KEY, 'anthropic-version': '2023-06-01' })
      expect(path).toBe(shape === 'openai' ? '/v1/chat/completions' : '/v1/messages')
    }
    expect(new Set(await model.untilClosed())).toEqual(new Set(['client FIN']))
  })
})

test('sends OpenAI’s shape of what was said, thought, called and found, in its order', async () => {
  const { model, url } = await openAgents({ tasks: [works([looks, fails])] })
  model.script(...REPLIES)
  await runAgent(url, { task: 'works' })
  const [first, second, third] = model.requests.map(({ body }) => body)
  const begin = [
    { role: 'system', content: 'You look.' },
    { role: 'user', content: 'Look around.' },
  ]
  const firstAnswer = {
    role: 'assistant',
    content: 'I look north.',
    reasoning_content: 'Where am I?',
    tool_calls: [{ id: 'call_a', type: 'function', function: { name: 'look', arguments: '{"at":"north"}' } }],
  }
  const firstResult = { role: 'tool', tool_call_id: 'call_a', content: VIEW('north') }
  expect(first).toEqual({
    model: 'fake',
    stream: true,
    stream_options: { include_usage: true },
    messages: begin,
    tools: [looks, fails].map(({ name, description, input }) => ({
      type: 'function',
      function: { name, description, parameters: { ...input } },
    })),
  })
  expect(second?.messages).toEqual([...begin, firstAnswer, firstResult])
  expect(third?.messages).toEqual([
    ...begin,
    firstAnswer,
    firstResult,
    {
      role: 'assistant',
      content: null,
      tool_calls: [
        { id: 'call_b', type: 'function', function: { name: 'look', arguments: '{"at":"south"}' } },
        { id: 'call_c', type: 'function', function: { name: 'fails', arguments: '{}' } },
      ],
    },
    { role: 'tool', tool_call_id: 'call_b', content: VIEW('south') },
    { role: 'tool', tool_call_id: 'call_c', content: 'on purpose' },
  ])
})

test('sends Anthropic’s shape, with the signatures of what was thought, and results in one message of the user', async () => {
  const { model, url } = await openAgents({ tasks: [works([looks, fails])] }, 'anthropic')
  model.script(...REPLIES)
  await runAgent(url, { task: 'works' })
  const [first, second, third] = model.requests.map(({ body }) => body)
  const begin = [{ role: 'user', content: [{ type: 'text', text: 'Look around.' }] }]
  const firstAnswer = {
    role: 'assistant',
    content: [
      { type: 'thinking', thinking: 'Where am I?', signature: 'c2lnbmVk' },
      { type: 'text', text: 'I look north.' },
      { type: 'tool_use', id: 'call_a', name: 'look', input: { at: 'north' } },
    ],
  }
  const firstResult = {
    role: 'user',
    content: [{ type: 'tool_result', tool_use_id: 'call_a', content: VIEW('north') }],
  }
  expect(first).toMatchObject({
    model: 'fake',
    stream: true,
    max_tokens: expect.any(Number),
    system: [{ type: 'text', text: 'You look.' }],
    messages: begin,
    tools: [
      { name: 'look', input_schema: { ...looks.input } },
      { name: 'fails', input_schema: { ...fails.input } },
    ],
  })
  expect(second?.messages).toEqual([...begin, firstAnswer, firstResult])
  expect(third?.messages).toEqual([
    ...begin,
    firstAnswer,
    firstResult,
    {
      role: 'assistant',
      content: [
        { type: 'redacted_thinking', data: 'cmVkYWN0ZWQ=' },
        { type: 'tool_use', id: 'call_b', name: 'look', input: { at: 'south' } },
        { type: 'tool_use', id: 'call_c', name: 'fails', input: {} },
      ],
    },
    {
      role: 'user',
      content: [
        { type: 'tool_result', tool_use_id: 'call_b', content: VIEW('south') },
        { type: 'tool_result', tool_use_id: 'call_c', content: 'on purpose', is_error: true },
      ],
    },
  ])
})

test('tells a model about its work where the author of a task says nothing else', async () => {
  const { model, url } = await openAgents()
  await runAgent(url, { prompt: 'Hello?' })
  expect(model.requests[0]?.body.messages).toEqual([
    { role: 'system', content: SYSTEM_PROMPT },
    { role: 'user', content: 'Hello?' },
  ])
})
