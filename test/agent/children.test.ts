import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ask, jobOf } from '../server/requests.ts'
import { eventually, Gate, taskOf, temporaryFolder } from '../world.ts'
import { ended, openAgents, runAgent, startAgent, stepsOf } from './agentWorld.ts'
import { calls, type ModelRequest, says } from './FakeModelServer.ts'
import { childrenOf, lineOf, playDown } from './family.ts'

function toldIn({ messages }: ModelRequest): readonly string[] {
  return messages
    .filter(({ role }) => role === 'tool')
    .map(({ content }) => (typeof content === 'string' ? content : ''))
}

describe('sub-agents', () => {
  test('that are called in one answer work at the same time, and are told of in the order of the calls', async () => {
    const go = new Gate()
    const { model, url } = await openAgents()
    model.answers(({ prompt, answers }) => {
      if (prompt !== 'all') return { parts: [{ wait: go.opened }, { text: `${prompt} is done.` }] }
      if (answers > 0) return says('All done.')
      return calls(...Array.from({ length: 5 }, (_, n) => ['sub_agent', { prompt: `part ${n}` }] as const))
    })
    const id = await startAgent(url, { prompt: 'all' })
    // All of them are asked before any has answered.
    await eventually('all are asked', () => model.requests.length === 6)
    go.open()
    expect(await ended(url, id)).toMatchObject({ status: 'succeeded', result: { text: 'All done.', steps: 2 } })
    const last = model.requests.at(-1)
    expect(last?.prompt).toBe('all')
    expect(last && toldIn(last.body)).toEqual(Array.from({ length: 5 }, (_, n) => `part ${n} is done.`))
    const children = await childrenOf(url, id)
    expect(children).toHaveLength(5)
    for (const child of children) expect(child).toMatchObject({ task: 'agent', status: 'succeeded', parentId: id })
  })

  test('see nothing of the conversation that called them, and use its model', async () => {
    const { model, url } = await openAgents()
    model.answers(({ prompt, answers }) =>
      prompt === 'top' && answers === 0 ? calls(['sub_agent', { prompt: 'below' }]) : says('Done.'),
    )
    await runAgent(url, { input: { prompt: 'top', model: 'openai:another' } })
    const below = model.requests.find(({ prompt }) => prompt === 'below')
    expect(below?.body.messages).toHaveLength(2)
    expect(model.requests.map(({ body }) => body.model)).toEqual(['another', 'another', 'another'])
  })

  test('that say nothing are told of as that', async () => {
    const { model, url } = await openAgents()
    model.answers(({ prompt, answers }) =>
      prompt === 'below' ? { parts: [] } : answers === 0 ? calls(['sub_agent', { prompt: 'below' }]) : says('Done.'),
    )
    await runAgent(url, { prompt: 'top' })
    const last = model.requests.at(-1)
    expect(last && toldIn(last.body)).toEqual(['The sub-agent ended without a word.'])
  })

  test('that fail are told of with their failure, and the parent goes on', async () => {
    const { model, url } = await openAgents()
    model.answers(({ prompt, answers }) => {
      if (prompt === 'below') return { status: 400, body: '{"error":{"message":"too long"}}' }
      return answers === 0 ? calls(['sub_agent', { prompt: 'below' }]) : says('Then without it.')
    })
    const { view } = await runAgent(url, { prompt: 'top' })
    expect(view).toMatchObject({ status: 'succeeded', result: { text: 'Then without it.' } })
    const last = model.requests.at(-1)
    expect(last && toldIn(last.body)[0]).toMatch(/^child job_\w+ \(agent\) ended failed: .*\(400\): too long$/)
  })

  test('that are cancelled by themselves are told of, and the parent goes on', async () => {
    const { model, url } = await openAgents()
    model.answers(({ prompt, answers }) => {
      if (prompt === 'below') return { parts: [{ stall: true }] }
      return answers === 0 ? calls(['sub_agent', { prompt: 'below' }]) : says('Then without it.')
    })
    const id = await startAgent(url, { prompt: 'top' })
    const [, child] = await lineOf(url, id, 2)
    await eventually('it is asked', () => model.requests.length === 2)
    await ask(url, `/jobs/${child?.id}/cancel?wait=20`, { method: 'POST' })
    expect(await ended(url, id)).toMatchObject({ status: 'succeeded', result: { text: 'Then without it.' } })
    const last = model.requests.at(-1)
    expect(last && toldIn(last.body)[0]).toMatch(/ended cancelled$/)
  })

  test('are eight deep at the most: the ninth is told of as one too many', async () => {
    const { model, url } = await openAgents()
    model.answers(({ prompt, answers }) => {
      const depth = Number(prompt)
      return answers === 0 ? calls(['sub_agent', { prompt: String(depth + 1) }]) : says(`Back at ${depth}.`)
    })
    const { view } = await runAgent(url, { prompt: '0' })
    expect(view).toMatchObject({ status: 'succeeded', result: { text: 'Back at 0.' } })
    expect(model.requests.map(({ prompt }) => Number(prompt))).toEqual([...range(0, 8), ...range(0, 8).toReversed()])
    const deepest = model.requests.find(({ prompt, answers }) => prompt === '8' && answers === 1)
    expect(deepest && toldIn(deepest.body)).toEqual(['a job may be 8 deep'])
  })

  test('work sixty-four at a time: one more has its turn when one is done', async () => {
    const go = new Gate()
    const { model, url } = await openAgents()
    model.answers(({ prompt, answers }) => {
      if (prompt !== 'all') return { parts: [{ wait: go.opened }, { text: `${prompt} is done.` }] }
      if (answers > 0) return says('All done.')
      return calls(...range(1, 65).map((n) => ['sub_agent', { prompt: `part ${n}` }] as const))
    })
    const id = await startAgent(url, { prompt: 'all' })
    await eventually('sixty-four are asked', () => model.requests.length === 65)
    expect(await childrenOf(url, id)).toHaveLength(64)
    go.open()
    expect(await ended(url, id)).toMatchObject({ status: 'succeeded', result: { text: 'All done.' } })
    const last = model.requests.at(-1)
    expect(last && toldIn(last.body)).toEqual(range(1, 65).map((n) => `part ${n} is done.`))
  })

  test('may make as many model calls as their parent may, each of them, at any depth', async () => {
    const { model, url } = await openAgents()
    model.answers(({ prompt, answers }) => {
      if (prompt === 'deepest') return calls(['no_such_tool', {}])
      return answers === 0 ? calls(['sub_agent', { prompt: prompt === 'top' ? 'middle' : 'deepest' }]) : says('Done.')
    })
    const { view } = await runAgent(url, { input: { prompt: 'top', maxSteps: 3 } })
    expect(view).toMatchObject({ status: 'succeeded', result: { steps: 2 } })
    const [, , deepest] = await lineOf(url, view.id, 3)
    expect(deepest?.failure).toMatchObject({ code: 'TETHER_MAX_STEPS', message: expect.stringContaining('after 3 ') })
    expect(model.requests.filter(({ prompt }) => prompt === 'deepest')).toHaveLength(3)
  })

  test('of a task that sets no end to its steps may make as many as any agent', async () => {
    const endless = taskOf('endless', async (ctx) => (await ctx.agent({ prompt: 'top', maxSteps: Infinity })).text)
    const { model, url } = await openAgents({ tasks: [endless] })
    model.script(calls(['sub_agent', { prompt: 'below' }]), says('Below.'), says('Done.'))
    const { view } = await runAgent(url, { task: 'endless', input: null })
    const [, child] = await lineOf(url, view.id, 2)
    expect(child).toMatchObject({ status: 'succeeded' })
    expect(Object((await jobOf(url, child?.id ?? '')).input).maxSteps).toBe(10_000)
  })

  test('show the workspace that they share, after a restart too, and it goes with the job whose own it is', async () => {
    const dataDir = await temporaryFolder()
    const before = await openAgents({ dataDir })
    before.model.answers(({ prompt, answers }) => {
      if (prompt === 'deepest' && answers === 0) return calls(['write_file', { path: 'sub/a b.txt', text: 'deep' }])
      return answers === 0 ? calls(['sub_agent', { prompt: prompt === 'top' ? 'middle' : 'deepest' }]) : says('Done.')
    })
    const { view } = await runAgent(before.url, { prompt: 'top' })
    const ids = (await lineOf(before.url, view.id, 3)).map(({ id }) => id)
    const seenBy = async (url: string, id: string | undefined) => {
      const { json } = await ask(url, `/jobs/${id}/files`)
      const file = await ask(url, `/jobs/${id}/files/sub/a%20b.txt`)
      return {
        paths: Object(json['files']).map(({ path }: { path: string }) => path),
        status: file.status,
        text: file.text,
      }
    }
    const all = { paths: ['sub/a b.txt'], status: 200, text: 'deep' }
    for (const id of ids) expect(await seenBy(before.url, id)).toEqual(all)
    await before.tether.stop()
    const { url } = await openAgents({ dataDir })
    const [top, middle, deepest] = ids
    expect((await ask(url, `/jobs/${middle}`, { method: 'DELETE' })).status).toBe(204)
    for (const id of [top, deepest]) expect(await seenBy(url, id)).toEqual(all)
    expect((await ask(url, `/jobs/${top}`, { method: 'DELETE' })).status).toBe(204)
    expect(await seenBy(url, deepest)).toMatchObject({ paths: [], status: 404 })
    expect(await readdir(join(dataDir, 'workspaces'))).toEqual([])
  })

  test('show nothing of a workspace that they do not share', async () => {
    const apart = taskOf('apart', async (ctx) => {
      await writeFile(join(await ctx.workspace(), 'mine'), '')
      await ctx.run('agent', { prompt: 'below' })
    })
    const { url } = await openAgents({ tasks: [apart] })
    const { view } = await runAgent(url, { task: 'apart', input: null })
    const [child] = await childrenOf(url, view.id)
    expect((await ask(url, `/jobs/${child?.id}/files`)).json).toEqual({ files: [] })
    expect((await ask(url, `/jobs/${view.id}/files`)).json).toMatchObject({ files: [{ path: 'mine' }] })
  })

  test('that fail count with all the tokens that they were given', async () => {
    const { model, url } = await openAgents()
    model.answers(({ prompt, answers }) =>
      prompt === 'top' ? calls(['sub_agent', { prompt: `part ${answers}` }]) : calls(['no_such_tool', {}]),
    )
    const { view } = await runAgent(url, { input: { prompt: 'top', maxTokens: 1000 } })
    expect(view.failure?.code).toBe('TETHER_MAX_TOKENS')
    expect(await childrenOf(url, view.id)).toHaveLength(1)
  })

  test('have no more tokens than are left, and what they use counts', async () => {
    const { model, url } = await openAgents()
    model.answers(({ prompt, answers }) => ({
      ...(prompt === 'top' ? calls(['sub_agent', { prompt: `sub ${answers}` }]) : says('Done.')),
      usage: { input: 300, output: 100 },
    }))
    const { view } = await runAgent(url, { input: { prompt: 'top', maxTokens: 1500 } })
    // 400 each: the parent, its child, the parent, its child.
    expect(view.failure).toMatchObject({ code: 'TETHER_MAX_TOKENS', message: expect.stringContaining('has used 1600') })
    const children = await Promise.all((await childrenOf(url, view.id)).map(({ id }) => jobOf(url, id)))
    expect(children.map(({ input }) => Object(input).maxTokens).toSorted((a, b) => a - b)).toEqual([300, 1100])
  })

  test('are what a call of them says, or are told what is wrong with it', async () => {
    const { model, url } = await openAgents()
    model.script(
      calls(['sub_agent', {}], ['sub_agent', { prompt: '' }], ['sub_agent', { prompt: 'x', more: 1 }]),
      says('I see.'),
    )
    await runAgent(url)
    const last = model.requests.at(-1)
    expect(last && toldIn(last.body)).toEqual([
      'input.prompt is missing',
      'input.prompt must not have fewer than 1 characters, got ""',
      'input.more is not a known field',
    ])
  })
})

describe('a task that ends while its agent works', () => {
  test.each([1, 3])('ends the agent, its calls and its own sub-agents, at depth %i', async (depth) => {
    const there = new Gate()
    const hasty = taskOf('hasty', async (ctx, input) => {
      ctx.run('agent', input).catch(() => undefined)
      await there.opened
      return 'had enough'
    })
    const world = await openAgents({ tasks: [hasty] })
    const { model, url } = world
    playDown(model, () => ({ parts: [{ text: 'Once ' }, { reached: () => there.open() }, { stall: true }] }))
    const id = await startAgent(url, { task: 'hasty', input: { prompt: String(depth) } })
    expect(await ended(url, id)).toMatchObject({ status: 'succeeded', result: 'had enough' })
    const line = await lineOf(url, id, depth + 1)
    for (const [index, { id: child }] of line.slice(1).entries()) {
      expect(await jobOf(url, child)).toMatchObject({
        status: 'cancelled',
        cancellation: { cause: index === 0 ? 'parent_ended' : 'parent_cancelled' },
        receipt: { confirmed: true, released: index === depth - 1 ? { requests: 1 } : { children: 1 } },
      })
    }
    expect(await model.untilClosed()).not.toContain('server')
    model.seal()
    expect(world.tether.jobs.activeCount).toBe(0)
  })

  test('in an agent of its own leaves no call behind that it did not await', async () => {
    const there = new Gate()
    const hasty = taskOf('hasty', async (ctx) => {
      ctx.agent({ prompt: 'Work.' }).catch(() => undefined)
      await there.opened
    })
    const { model, url } = await openAgents({ tasks: [hasty] })
    model.script({ parts: [{ reached: () => there.open() }, { stall: true }] })
    const { view, events } = await runAgent(url, { task: 'hasty', input: null })
    expect(view.status).toBe('succeeded')
    expect(await model.untilClosed()).not.toContain('server')
    expect(stepsOf(events)).toEqual(['job.queued', 'job.started', 'model.started', 'model.finished', 'job.succeeded'])
    model.seal()
  })
})

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, n) => first + n)
}
