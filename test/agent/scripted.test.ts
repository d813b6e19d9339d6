import { describe, expect, test } from 'vitest'
import { ask, jobOf } from '../server/requests.ts'
import { openWorld } from '../world.ts'
import { ended, logOf, openAgents, runAgent, startAgent, stepsOf, textOf, untilEvent, untilTool } from './agentWorld.ts'
import { childrenOf } from './family.ts'

/** The tools that an agent is given here. */
async function toolNames(): Promise<readonly string[]> {
  const { model, url } = await openAgents()
  await runAgent(url)
  return (model.requests[0]?.body.tools ?? []).map((tool) => String(Object(tool).function?.name))
}

describe('the scripted model', () => {
  test('is what a server without a model server and a key has, and goes through the whole loop', async () => {
    const { url } = await openWorld()
    const { view, events } = await runAgent(url, { prompt: 'Build me something.' })
    expect(view).toMatchObject({ status: 'succeeded', result: { steps: 5, text: expect.stringMatching(/^Done: /) } })
    expect(Object(view.result).usage.totalTokens).toBeGreaterThan(100)
    expect(textOf(events, 'text')).toMatch(/^This is the scripted model: it says and does the same for every prompt\./)
    const tools = events.flatMap((event) => (event.type === 'tool.started' ? [event.tool] : []))
    expect(tools).toEqual(['write_file', 'write_file', 'write_file', 'terminal', 'sub_agent', 'list_files'])
    expect(stepsOf(events).filter((type) => type === 'model.started')).toHaveLength(5)
    const children = await childrenOf(url, view.id)
    expect(children).toMatchObject([{ task: 'agent', status: 'succeeded' }])
    const child = await jobOf(url, children[0]?.id ?? '')
    expect(child).toMatchObject({ input: { prompt: expect.stringContaining('README') }, result: { steps: 3 } })
  })

  test('says the same every time', async () => {
    const { url } = await openWorld()
    const [first, second] = [await runAgent(url, { prompt: 'Again.' }), await runAgent(url, { prompt: 'Again.' })]
    expect(textOf(second.events, 'text')).toBe(textOf(first.events, 'text'))
    expect(stepsOf(second.events)).toEqual(stepsOf(first.events))
  })

  test('can be watched: its words come one after the other', async () => {
    const { url } = await openWorld()
    const { events } = await runAgent(url)
    const first = events.find(({ type }) => type === 'output')
    const over = events.find(({ type }) => type === 'model.finished')
    // Forty words and more, 12 ms apart: no machine is too slow for that.
    expect(Date.parse(over?.at ?? '') - Date.parse(first?.at ?? '')).toBeGreaterThan(300)
  })

  test('is ended in the middle of a word like any other', async () => {
    const { url } = await openWorld()
    const id = await startAgent(url)
    await untilEvent(url, id, (event) => event.type === 'output')
    await ask(url, `/jobs/${id}/cancel?wait=20`, { method: 'POST' })
    expect(await jobOf(url, id)).toMatchObject({
      status: 'cancelled',
      cancellation: { phase: 'model' },
      receipt: { confirmed: true },
    })
  })

  test('finishes what it says after a stop, and does nothing more', async () => {
    const { url } = await openWorld()
    const id = await startAgent(url)
    await untilEvent(url, id, (event) => event.type === 'output')
    await ask(url, `/jobs/${id}/stop?wait=20`, { method: 'POST' })
    const { view, events } = { view: await ended(url, id), events: await logOf(url, id) }
    expect(view).toMatchObject({ status: 'stopped', receipt: { confirmed: true } })
    expect(view.receipt?.usage?.totalTokens).toBeGreaterThan(0)
    expect(textOf(events, 'text')).toMatch(/let a sub-agent describe it\.\n$/)
    expect(stepsOf(events)).not.toContain('tool.started')
  })

  test('is ended in its sub-agent like any other', async () => {
    const { url, jobs } = await openWorld()
    const id = await startAgent(url)
    await untilTool(url, id, 'sub_agent')
    await ask(url, `/jobs/${id}/cancel?wait=20`, { method: 'POST' })
    expect(await jobOf(url, id)).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
    expect(jobs.activeCount).toBe(0)
  })

  test('leaves an app whose tests pass, and a README by its sub-agent', async ({ skip }) => {
    // Where the tools for files are not there, there are no files.
    if (!(await toolNames()).includes('write_file')) skip()
    const { url } = await openWorld()
    const { view, events } = await runAgent(url, { prompt: 'Count <things> & more.' })
    const { files } = (await ask(url, `/jobs/${view.id}/files`)).json as { files: { path: string }[] }
    expect(files.map(({ path }) => path).toSorted()).toEqual([
      'app/README.md',
      'app/counter.mjs',
      'app/counter.test.mjs',
      'app/index.html',
    ])
    const finished = events.flatMap((event) => (event.type === 'tool.finished' ? [event] : []))
    for (const event of finished) expect(event).toMatchObject({ ok: true })
    expect(textOf(events, 'stdout')).toMatch(/pass 2/)
    const page = await (await fetch(`${url}/jobs/${view.id}/files/app/index.html`)).text()
    expect(page).toContain('Asked for: Count &lt;things&gt; &amp; more.')
    expect(await (await fetch(`${url}/jobs/${view.id}/files/app/README.md`)).text()).toMatch(/^# Counter\n/)
  })
})
