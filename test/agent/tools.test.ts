import { describe, expect, test } from 'vitest'
import { type AgentTool, defineTool, type TaskContext, Type } from '../../src/execution/task.ts'
import { ask } from '../server/requests.ts'
import { Gate, taskOf } from '../world.ts'
import { ended, logOf, openAgents, runAgent, SHAPES, type Shape, startAgent, untilEvent } from './agentWorld.ts'
import { calls, type ModelRequest, type Reply, says } from './FakeModelServer.ts'

const adds = defineTool({
  name: 'add',
  description: 'Adds.',
  input: Type.Object({ a: Type.Integer(), b: Type.Integer() }, { additionalProperties: false }),
  run: async (_ctx, { a, b }) => String(a + b),
})

const noInput = defineTool({
  name: 'no_input',
  description: 'Takes nothing.',
  input: Type.Object({}),
  run: async (_ctx, input) => JSON.stringify(input),
})

function worksWith(tools: readonly AgentTool[], options: { maxSteps?: number; maxTokens?: number } = {}) {
  return taskOf('works', async (ctx) => {
    const { text, steps, usage } = await ctx.agent({ prompt: 'Work.', tools, ...options })
    return { text, steps, usage: { ...usage } }
  })
}

/** What the model was told of its last calls, in their order. */
function toldIn({
  messages,
}: ModelRequest): { readonly id: string; readonly text: string; readonly isError: boolean }[] {
  const last = messages.findLastIndex(({ role }) => role === 'assistant')
  return messages.slice(last + 1).flatMap((message) => {
    if (message.role === 'tool') {
      const { tool_call_id: id, content: text } = Object(message)
      return [{ id, text, isError: false }]
    }
    const blocks = typeof message.content === 'string' ? [] : (message.content ?? [])
    return blocks.map((block) => {
      const { tool_use_id: id, content: text, is_error: isError = false } = Object(block)
      return { id, text, isError }
    })
  })
}

/** Lets the model answer so, and says what it is told then. */
async function told(shape: Shape, reply: Reply, tools: readonly AgentTool[] = [adds, noInput]) {
  const { model, url } = await openAgents({ tasks: [worksWith(tools)] }, shape)
  model.script(reply, says('I see.'))
  const { view, events } = await runAgent(url, { task: 'works', input: null })
  expect(view).toMatchObject({ status: 'succeeded', result: { text: 'I see.', steps: 2 } })
  const second = model.requests[1]
  if (second === undefined) throw new Error('there was no second request')
  return { told: toldIn(second.body), body: second.body, events }
}

describe.each(SHAPES)('a model (%s) that calls', (shape) => {
  test.each([
    ['a tool with what is no JSON', 'add', '{"a": 1, "b":', 'the input of the call is not JSON'],
    ['a tool that there is not', 'subtract', { a: 1 }, 'there is no tool subtract; there are add, no_input'],
    ['a tool without what it needs', 'add', { a: 1 }, 'input.b is missing'],
    ['a tool with a wrong type', 'add', { a: 1, b: '2' }, 'input.b must be integer, got "2"'],
    ['a tool with too much', 'add', { a: 1, b: 2, c: 3 }, 'input.c is not a known field'],
    ['a tool with a list', 'add', '[1, 2]', 'input must be object, got [1,2]'],
    ['a tool with a text', 'add', '"1 + 2"', 'input must be object, got "1 + 2"'],
    ['a tool with nothing at all', 'add', 'null', 'input must be object, got null'],
  ])('%s is told so, and goes on', async (_name, tool, input, words) => {
    const { told: all, events } = await told(shape, calls([tool, input]))
    expect(all).toEqual([{ id: 'call_1', text: words, isError: shape === 'anthropic' }])
    expect(events.find(({ type }) => type === 'tool.finished')).toMatchObject({ tool, ok: false, summary: words })
  })

  test('with what is no object sends an object back: no server takes anything else', async () => {
    const { body } = await told(shape, calls(['add', '[1, 2]'], ['add', '"x"'], ['add', '{"a":'], ['add', 'null']))
    const answer = Object(body.messages.find(({ role }) => role === 'assistant'))
    const inputs =
      shape === 'openai'
        ? answer.tool_calls.map((call: { function: { arguments: string } }) => JSON.parse(call.function.arguments))
        : answer.content.map((block: { input: unknown }) => block.input)
    expect(inputs).toEqual([{}, {}, {}, {}])
  })

  test('a tool with what is nested very deeply is told so, and goes on', async () => {
    const nest = (levels: number): string => `{"a":1,"b":2,"deep":${'['.repeat(levels)}${']'.repeat(levels)}}`
    const deep = defineTool({
      name: 'deep',
      description: 'Goes deep.',
      input: Type.Object({}),
      run: async () => 'deep',
    })
    const { told: all, body } = await told(
      shape,
      calls(['deep', nest(100)], ['deep', nest(101)], ['deep', nest(200_000)]),
      [deep],
    )
    const refused = 'the input of the call must be nested no deeper than 100 levels'
    expect(all.map(({ text }) => text)).toEqual(['deep', refused, refused])
    expect(JSON.stringify(body.messages)).not.toContain('['.repeat(101))
  })

  test('a tool that takes nothing with nothing is understood', async () => {
    const { told: all } = await told(shape, calls(['no_input', ''], ['no_input', '{}']))
    expect(all.map(({ text }) => text)).toEqual(['{}', '{}'])
  })

  test('with the same id twice has both told, each by an id of its own', async () => {
    const { told: all, body } = await told(shape, {
      parts: [
        { call: 'add', input: { a: 1, b: 1 }, id: 'same' },
        { call: 'add', input: { a: 2, b: 2 }, id: 'same' },
        { call: 'add', input: { a: 3, b: 3 }, id: 'same' },
      ],
    })
    expect(all.map(({ text }) => text)).toEqual(['2', '4', '6'])
    const ids = all.map(({ id }) => id)
    expect(new Set(ids).size).toBe(3)
    const answer = Object(body.messages.find(({ role }) => role === 'assistant'))
    const asked = shape === 'openai' ? answer.tool_calls : answer.content
    expect(asked.map(({ id }: { id: string }) => id)).toEqual(ids)
  })

  test('a hundred tools in one answer has all of them run, in their order', async () => {
    const order: number[] = []
    const notes = defineTool({
      name: 'note',
      description: 'Notes.',
      input: Type.Object({ n: Type.Integer() }),
      async run(ctx, { n }) {
        await ctx.sleep(n % 3)
        order.push(n)
        return `noted ${n}`
      },
    })
    const numbers = Array.from({ length: 100 }, (_, n) => n)
    const { told: all } = await told(shape, calls(...numbers.map((n) => ['note', { n }] as const)), [notes])
    expect(order).toEqual(numbers)
    expect(all.map(({ text }) => text)).toEqual(numbers.map((n) => `noted ${n}`))
  })

  test('with texts that JSON cannot carry as they are gets them through', async () => {
    const echo = defineTool({
      name: 'echo',
      description: 'Echoes.',
      input: Type.Object({ text: Type.String() }),
      run: async (_ctx, { text }) => text,
    })
    const { told: all } = await told(shape, calls(['echo', '{"text":"\\ud83d \\u0000 \\u2028 😀"}']), [echo])
    expect(all[0]?.text).toBe('\ufffd \0 \u2028 😀')
  })
})

describe('calls of tools', () => {
  test('that may run together do, and no others; what is told has the order of the calls', async () => {
    const running = new Set<string>()
    const seen: string[] = []
    const tool = (name: string, isParallel: boolean, ms: number) =>
      defineTool({
        name,
        description: name,
        input: Type.Object({ n: Type.Integer() }),
        isParallel,
        async run(ctx, { n }) {
          const me = `${name}${n}`
          running.add(me)
          seen.push([...running].join('+'))
          await ctx.sleep(ms - n)
          running.delete(me)
          return me
        },
      })
    const { told: all } = await told(
      'openai',
      calls(
        ['slow', { n: 1 }],
        ['both', { n: 2 }],
        ['both', { n: 3 }],
        ['both', { n: 4 }],
        ['other', { n: 5 }],
        ['slow', { n: 6 }],
      ),
      [tool('slow', false, 10), tool('both', true, 20), tool('other', true, 20)],
    )
    expect(seen).toEqual(['slow1', 'both2', 'both2+both3', 'both2+both3+both4', 'other5', 'slow6'])
    expect(all.map(({ text }) => text)).toEqual(['slow1', 'both2', 'both3', 'both4', 'other5', 'slow6'])
  })

  test('of one tool run sixty-four at a time, and those past the first 256 of an answer are refused', async () => {
    let running = 0
    let most = 0
    let runs = 0
    const reads = defineTool({
      name: 'read',
      description: 'Reads.',
      input: Type.Object({ n: Type.Integer() }),
      isParallel: true,
      async run(ctx, { n }) {
        runs += 1
        most = Math.max(most, ++running)
        await ctx.sleep(n % 3)
        running -= 1
        return `read ${n}`
      },
    })
    const numbers = Array.from({ length: 300 }, (_, n) => n)
    const { told: all, events } = await told('anthropic', calls(...numbers.map((n) => ['read', { n }] as const)), [
      reads,
    ])
    expect({ most, runs }).toEqual({ most: 64, runs: 256 })
    expect(all.map(({ id }) => id)).toEqual(numbers.map((n) => `call_${n + 1}`))
    expect(all.slice(0, 256).map(({ text }) => text)).toEqual(numbers.slice(0, 256).map((n) => `read ${n}`))
    const refused = { text: 'not run: one answer may call 256 tools, this one calls 300', isError: true }
    expect(all.slice(256)).toEqual(numbers.slice(256).map((n) => ({ id: `call_${n + 1}`, ...refused })))
    expect(events.filter(({ type }) => type === 'tool.finished')).toHaveLength(256)
  })

  test.each(['stop', 'cancel'])('that wait for their turn are never begun after a %s', async (kind) => {
    const go = new Gate()
    const waits = defineTool({
      name: 'wait',
      description: 'Waits.',
      input: Type.Object({}),
      isParallel: true,
      async run(ctx) {
        await (kind === 'stop' ? go.opened : new Promise((resolve) => ctx.signal.addEventListener('abort', resolve)))
        return 'waited'
      },
    })
    const { model, url } = await openAgents({ tasks: [worksWith([waits])] })
    model.script(calls(...Array.from({ length: 100 }, () => ['wait', {}] as const)))
    const id = await startAgent(url, { task: 'works', input: null })
    let begun = 0
    await untilEvent(url, id, ({ type }) => type === 'tool.started' && ++begun % 64 === 0)
    await ask(url, `/jobs/${id}/${kind}`, { method: 'POST' })
    go.open()
    expect(await ended(url, id)).toMatchObject({
      status: kind === 'stop' ? 'stopped' : 'cancelled',
      receipt: { confirmed: true },
    })
    const events = await logOf(url, id)
    expect(events.filter(({ type }) => type === 'tool.started')).toHaveLength(64)
    model.seal()
  })

  test('that throw are told, whatever it is that they throw', async () => {
    const throws = defineTool({
      name: 'throws',
      description: 'Throws.',
      input: Type.Object({ what: Type.String() }),
      async run(_ctx, { what }) {
        if (what === 'error') throw new Error('an error\nof two lines')
        // eslint-disable-next-line typescript/only-throw-error -- authors do.
        if (what === 'text') throw 'a text'
        // eslint-disable-next-line typescript/only-throw-error
        throw undefined
      },
    })
    const { told: all, events } = await told(
      'openai',
      calls(['throws', { what: 'error' }], ['throws', { what: 'text' }], ['throws', { what: '' }]),
      [throws],
    )
    expect(all.map(({ text }) => text)).toEqual(['an error\nof two lines', 'a text', 'undefined'])
    expect(events.filter(({ type }) => type === 'tool.finished')).toMatchObject([
      { ok: false, summary: 'an error' },
      { ok: false, summary: 'a text' },
      { ok: false, summary: 'undefined' },
    ])
  })

  test('say for people what they say, in one line that is not too long', async () => {
    const talks = defineTool({
      name: 'talk',
      description: 'Talks.',
      input: Type.Object({}),
      run: async () => ({ text: 'x'.repeat(250_000), summary: `${'s'.repeat(300)}\nnever`, ok: false }),
    })
    const { told: all, events } = await told('anthropic', calls(['talk', {}]), [talks])
    expect(all[0]).toMatchObject({ isError: true })
    expect(all[0]?.text).toMatch(/^x{100000}\n… cut: 250000 characters in all$/)
    expect(events.find(({ type }) => type === 'tool.finished')).toMatchObject({
      ok: false,
      summary: `${'s'.repeat(200)}… (300 characters)`,
    })
  })

  test('have a million characters of results together: what is past them is cut to its beginning, with a mark', async () => {
    const talks = defineTool({
      name: 'talk',
      description: 'Talks.',
      input: Type.Object({ units: Type.Integer() }),
      run: async (_ctx, { units }) => 'x'.repeat(units),
    })
    const sizes = [...Array.from({ length: 9 }, () => 100_000), 99_990, 250, 200, 0]
    const { told: all } = await told('openai', calls(...sizes.map((units) => ['talk', { units }] as const)), [talks])
    expect(all.slice(0, 10).map(({ text }) => text.length)).toEqual(sizes.slice(0, 10))
    expect(all.slice(10).map(({ text }) => text)).toEqual([
      `${'x'.repeat(200)}\n… cut: 250 characters in all`,
      'x'.repeat(200),
      '',
    ])
  })

  test('show their input in the log, cut where it is long, and are run with all of it', async () => {
    let length = 0
    const takes = defineTool({
      name: 'take',
      description: 'Takes.',
      input: Type.Object({ text: Type.String(), list: Type.Array(Type.Integer()), deep: Type.Unsafe<object>({}) }),
      async run(_ctx, { text }) {
        length = text.length
        return 'taken'
      },
    })
    const deep = { a: { b: { c: { d: { e: { f: { g: 1 } } } } } } }
    const input = { text: '😀'.repeat(100_000), list: Array.from({ length: 1000 }, (_, n) => n), deep }
    const { events } = await told('openai', calls(['take', input]), [takes])
    expect(length).toBe(200_000)
    const started = Object(events.find(({ type }) => type === 'tool.started'))
    expect(started.input.text).toMatch(/^(😀){500}… \(200000 characters\)$/u)
    expect(started.input.list).toHaveLength(50)
    expect(started.input.deep).toEqual({ a: { b: { c: { d: { e: '…' } } } } })
  })

  test('are run with a mountain of input, of which the log has some', async () => {
    let edits = 0
    const edit = defineTool({
      name: 'edit',
      description: 'Edits.',
      input: Type.Object({ edits: Type.Array(Type.Object({ old: Type.String(), new: Type.String() })) }),
      async run(_ctx, input) {
        edits = input.edits.length
        return 'edited'
      },
    })
    const one = { old: '語'.repeat(1000), new: '\u0000'.repeat(1000) }
    const { told: all } = await told('openai', calls(['edit', { edits: Array.from({ length: 60 }, () => one) }]), [
      edit,
    ])
    expect(edits).toBe(60)
    expect(all[0]?.text).toBe('edited')
  })

  test.each(SHAPES)(
    'under a name that is none show as one that is, everywhere, and are told what there is (%s)',
    async (shape) => {
      const { told: all, body, events } = await told(shape, calls([`rm -rf / ${'😀'.repeat(10_000)}`, {}]))
      const shown = `rm_-rf${'_'.repeat(58)}`
      expect(all[0]?.text).toBe(`there is no tool ${shown}; there are add, no_input`)
      const names = events.flatMap((event) => ('tool' in event ? [event.tool] : []))
      expect(names).toEqual([shown, shown])
      const answer = Object(body.messages.find(({ role }) => role === 'assistant'))
      expect(shape === 'openai' ? answer.tool_calls[0].function.name : answer.content[0].name).toBe(shown)
    },
  )
})

describe('an agent', () => {
  test('whose model calls tools for ever ends after maxSteps', async () => {
    const { model, url } = await openAgents()
    model.answers(() => calls(['no_such_tool', {}]))
    const { view } = await runAgent(url, { input: { prompt: 'Go.', maxSteps: 7 } })
    expect(view).toMatchObject({
      status: 'failed',
      failure: { code: 'TETHER_MAX_STEPS', message: 'the agent was not done after 7 model calls (maxSteps)' },
    })
    expect(model.requests).toHaveLength(7)
    model.seal()
  })

  test('has 50 steps where nothing else is said', async () => {
    const { model, url } = await openAgents()
    model.answers(() => calls(['no_such_tool', {}]))
    expect((await runAgent(url)).view.failure?.message).toContain('after 50 model calls')
    expect(model.requests).toHaveLength(50)
  })

  test('does not ask again once it has used maxTokens', async () => {
    const { model, url } = await openAgents()
    model.answers(() => ({ ...calls(['no_such_tool', {}]), usage: { input: 400, output: 100 } }))
    const { view } = await runAgent(url, { input: { prompt: 'Go.', maxTokens: 1200 } })
    expect(view).toMatchObject({
      status: 'failed',
      failure: {
        code: 'TETHER_MAX_TOKENS',
        message: 'the agent was not done within 1200 tokens (maxTokens), and has used 1500',
      },
    })
    expect(model.requests).toHaveLength(3)
    model.seal()
  })

  test('lets a model say no more than is left, and never asks for more than any model can say', async () => {
    const { model, url } = await openAgents()
    model.answers(({ number }) => ({
      ...(number < 3 ? calls(['no_such_tool', {}]) : says('Done.')),
      usage: { input: 49_000, output: 500 },
    }))
    const { view } = await runAgent(url, { input: { prompt: 'Go.', maxTokens: 100_000 } })
    expect(view.status).toBe('succeeded')
    // A server refuses a limit that is above its model's own, and what that is nobody says.
    expect(model.requests.map(({ body }) => body.max_tokens)).toEqual([undefined, undefined, 1000])
  })

  test('whose answer was cut by what was left of maxTokens says so', async () => {
    const { model, url } = await openAgents()
    model.script({ ...says('The begin'), finish: 'length', usage: { input: 10, output: 90 } })
    const { view } = await runAgent(url, { input: { prompt: 'Go.', maxTokens: 100 } })
    expect(model.requests[0]?.body.max_tokens).toBe(100)
    expect(view.failure).toMatchObject({
      code: 'TETHER_MAX_TOKENS',
      message: expect.stringContaining('within 100 tokens (maxTokens)'),
    })
  })

  test.each([
    ['no usage', null],
    ['a usage of zeros', { input: 0, output: 0 }],
  ])('whose server says %s is still held to maxTokens, by what was sent and said', async (_name, usage) => {
    const { model, url } = await openAgents()
    model.answers(() => ({ parts: [{ text: 'x'.repeat(4000) }, { call: 'no_such_tool', input: {} }], usage }))
    const { view } = await runAgent(url, { input: { prompt: 'Go.', maxTokens: 6000 } })
    expect(view.failure?.code).toBe('TETHER_MAX_TOKENS')
    expect(model.requests.length).toBeLessThan(6)
  })

  test('whose server counts nonsense counts nothing of it', async () => {
    const { model, url } = await openAgents()
    model.script({ ...says('Done.'), usage: { input: -5, output: 1e308 } })
    const { view } = await runAgent(url)
    expect(view).toMatchObject({ status: 'succeeded' })
    expect(Object(view.result).usage).toEqual({})
  })

  test('whose conversation has grown past 32 MiB fails, and does not send it', async () => {
    const talks = defineTool({
      name: 'talk',
      description: 'Talks.',
      input: Type.Object({}),
      run: async () => '\0'.repeat(100_000),
    })
    const { model, url } = await openAgents({ tasks: [worksWith([talks])] })
    model.answers(() => calls(...Array.from({ length: 10 }, () => ['talk', {}] as const)))
    const { view } = await runAgent(url, { task: 'works', input: null })
    expect(view).toMatchObject({
      status: 'failed',
      failure: {
        code: 'TETHER_CONVERSATION_TOO_LARGE',
        message: expect.stringMatching(/^the conversation with the model may have 33554432 bytes, and has 360\d{5}$/),
      },
    })
    // Six MB of JSON each: the answers to the sixth are too much.
    expect(model.requests).toHaveLength(6)
    model.seal()
  })

  test('with two tools of one name, or one that is none, is a defect of its author', async () => {
    const { url } = await openAgents({
      tasks: [
        { ...worksWith([adds, adds]), name: 'twice' },
        { ...worksWith([{ ...adds, name: '1 bad' }]), name: 'bad' },
      ],
    })
    expect((await runAgent(url, { task: 'twice', input: null })).view.failure?.message).toContain('two tools add')
    expect((await runAgent(url, { task: 'bad', input: null })).view.failure?.message).toContain('1 bad')
  })

  test('that is given no prompt, or a wrong limit, is refused', async () => {
    const { url } = await openAgents()
    for (const input of [
      {},
      { prompt: '' },
      { prompt: 'x', maxSteps: 0 },
      { prompt: 'x', more: 1 },
      { prompt: 'x', model: 'a b' },
    ]) {
      await expect(startAgent(url, { input })).rejects.toThrow('400')
    }
  })

  test('whose answer has no end is ended, and its connection closed', async () => {
    const { model, url } = await openAgents()
    model.script({ parts: [{ forever: 'x'.repeat(256 * 1024) }] })
    const id = await startAgent(url)
    expect((await ended(url, id)).failure).toMatchObject({
      code: 'TETHER_MODEL_FAILED',
      message: expect.stringContaining('an answer of a model may have 16777216 characters'),
      retryable: false,
    })
    expect(await model.untilClosed()).not.toContain('server')
  })
})

test('a tool whose output nobody can take ends the agent: the model is not asked about it', async () => {
  const floods = defineTool({
    name: 'flood',
    description: 'Floods.',
    input: Type.Object({}),
    async run(ctx: TaskContext) {
      for (;;) void ctx.output('x'.repeat(1024 * 1024))
    },
  })
  const { model, url } = await openAgents({ tasks: [worksWith([floods])] })
  model.script(calls(['flood', {}]))
  expect((await runAgent(url, { task: 'works', input: null })).view.failure?.code).toBe('TETHER_OUTPUT_OVERRUN')
  model.seal()
})
