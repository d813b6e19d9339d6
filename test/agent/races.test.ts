import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { defineTool, Type } from '../../src/execution/task.ts'
import { type JobRef, keyOf } from '../../src/job/key.ts'
import type { StoreChange } from '../../src/store/JobStore.ts'
import { isMoveTo, openHeldWorld } from '../eventlog/heldWorld.ts'
import { end, eventsOf, eventually, Gate, type HeldStore, startOf, taskOf } from '../world.ts'
import { settingsFor, stepsOf, textOf } from './agentWorld.ts'
import { calls, FakeModelServer, type Reply, says } from './FakeModelServer.ts'

/** An agent with a tool that ends when a test lets it. */
const works = (toolEnds: () => Promise<unknown>) =>
  taskOf('works', async (ctx, input) => {
    const prompt = typeof input === 'string' ? input : ''
    const waits = defineTool({
      name: 'wait',
      description: 'Waits.',
      input: Type.Object({}),
      async run() {
        await toolEnds()
        return 'waited'
      },
    })
    const below = defineTool({
      name: 'below',
      description: 'Has a child.',
      input: Type.Object({}),
      run: async (inner) => JSON.stringify(await inner.run('works', `child of ${prompt}`)),
    })
    return (await ctx.agent({ prompt, tools: [waits, below] })).text
  })

async function open(toolEnds: () => Promise<unknown> = () => Promise.resolve()) {
  const model = await FakeModelServer.start()
  const held = await openHeldWorld({ settings: settingsFor(model), tasks: [works(toolEnds)] })
  return { model, ...held }
}

/** Holds the first commit that is such a one until the gate opens; settles `isHeld` when it is asked for. */
function hold(store: HeldStore, isSuch: (changes: readonly StoreChange[]) => boolean): { held: Gate; go: Gate } {
  const held = new Gate()
  const go = new Gate()
  store.holdCommits(async (changes) => {
    if (!isSuch(changes)) return
    held.open()
    await go.opened
  })
  return { held, go }
}

describe('a cancel and the last answer', () => {
  test('where the cancel is decided first, the answer that comes before its commit changes nothing', async () => {
    const { model, tether, store } = await open()
    const answer = new Gate()
    model.script({ parts: [{ text: 'Half ' }, { wait: answer.opened }, { text: 'and half.' }] })
    const { ref } = await tether.jobs.start(startOf('works', 'x'))
    await model.request(1)
    const { held, go } = hold(store, isMoveTo('cancelling'))
    const asked = end(tether, ref, 'cancel', { waitMs: 20_000 })
    await held.opened
    answer.open()
    // The function has its result, and the job its cancel.
    await eventually('the answer is over', () => tether.orchestrator.getActiveExecutionCount() === 0)
    go.open()
    await asked
    expect(await tether.jobs.job(ref)).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
    expect((await tether.jobs.job(ref)).result).toBeUndefined()
    expect(stepsOf(await eventsOf(tether, ref)).slice(-2)).toEqual(['job.cancelling', 'job.cancelled'])
    model.seal()
  })

  test('where the answer is first, the cancel that comes before its commit is refused', async () => {
    const { model, tether, store } = await open()
    const answer = new Gate()
    model.script({ parts: [{ wait: answer.opened }, { text: 'Whole.' }] })
    const { ref } = await tether.jobs.start(startOf('works', 'x'))
    await model.request(1)
    const { held, go } = hold(store, isMoveTo('succeeded'))
    answer.open()
    await held.opened
    const asked = end(tether, ref, 'cancel', { waitMs: 20_000 })
    go.open()
    await expect(asked).rejects.toMatchObject({ code: 'TETHER_JOB_FINISHED' })
    expect(await tether.jobs.job(ref)).toMatchObject({ status: 'succeeded', result: 'Whole.' })
    model.seal()
  })
})

describe.each(['cancel', 'stop'] as const)('a %s and an answer that calls a tool', (kind) => {
  const status = kind === 'cancel' ? 'cancelled' : 'stopped'

  test('where it is in the store first, the tool is not begun', async () => {
    let runs = 0
    const { model, tether } = await open(async () => (runs += 1))
    const answer = new Gate()
    model.script({ parts: [{ wait: answer.opened }, { call: 'wait', input: {} }] })
    const { ref } = await tether.jobs.start(startOf('works', 'x'))
    await model.request(1)
    await end(tether, ref, kind)
    answer.open()
    await tether.jobs.outcome(ref)
    expect(await tether.jobs.job(ref)).toMatchObject({ status, receipt: { confirmed: true } })
    expect(runs).toBe(0)
    model.seal()
  })

  test('where the answer is first, the tool ends as that says, and no call follows', async () => {
    const begun = new Gate()
    const goOn = new Gate()
    const { model, tether } = await open(async () => {
      begun.open()
      await goOn.opened
    })
    model.script(calls(['wait', {}], ['wait', {}]))
    const { ref } = await tether.jobs.start(startOf('works', 'x'))
    await begun.opened
    await end(tether, ref, kind)
    goOn.open()
    await tether.jobs.outcome(ref)
    expect(await tether.jobs.job(ref)).toMatchObject({ status, receipt: { confirmed: true } })
    const steps = stepsOf(await eventsOf(tether, ref))
    expect(steps.filter((type) => type === 'tool.started')).toHaveLength(1)
    model.seal()
  })
})

test('a cancel that is decided before a tool’s end, and in the store after it, lets nothing of what follows live', async () => {
  const begun = new Gate()
  const goOn = new Gate()
  const { model, tether, store } = await open(async () => {
    begun.open()
    await goOn.opened
  })
  model.answers(({ answers }) => (answers === 0 ? calls(['wait', {}]) : { parts: [{ forever: 'on and on ' }] }))
  const { ref } = await tether.jobs.start(startOf('works', 'x'))
  await begun.opened
  const { held, go } = hold(store, isMoveTo('cancelling'))
  const asked = end(tether, ref, 'cancel', { waitMs: 20_000 })
  await held.opened
  // The next call may go out, since the abort waits for the commit; it is closed with the abort, and the log knows nothing of it.
  goOn.open()
  await new Promise((resolve) => setImmediate(resolve))
  go.open()
  await asked
  expect(await tether.jobs.job(ref)).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
  const steps = stepsOf(await eventsOf(tether, ref))
  expect(steps.slice(-3)).toEqual(['tool.started', 'job.cancelling', 'job.cancelled'])
  expect(await model.untilClosed()).not.toContain('server')
  expect(model.requests.length).toBeLessThanOrEqual(2)
  model.seal()
})

describe.each(['cancel', 'stop'] as const)('a %s and the end of a child', (kind) => {
  const status = kind === 'cancel' ? 'cancelled' : 'stopped'

  /** A parent whose child's last word comes when the gate opens. */
  async function withChild() {
    const world = await open()
    const answer = new Gate()
    world.model.answers(({ prompt }) =>
      prompt === 'top' ? calls(['below', {}], ['below', {}]) : { parts: [{ wait: answer.opened }, { text: 'Done.' }] },
    )
    const { ref } = await world.tether.jobs.start(startOf('works', 'top'))
    await world.model.request(2)
    return { ...world, answer, ref }
  }

  test('where the child’s end is first, its parent ends as it is asked to, and nothing follows', async () => {
    const { model, tether, store, answer, ref } = await withChild()
    const { held, go } = hold(store, isMoveTo('succeeded'))
    answer.open()
    await held.opened
    const asked = end(tether, ref, kind, { waitMs: 20_000 })
    go.open()
    await asked
    expect(await tether.jobs.job(ref)).toMatchObject({ status, receipt: { confirmed: true } })
    // A stop counts from when it is in the store: until then the parent goes on, with its second child at the most.
    expect(model.requests.length).toBeLessThanOrEqual(kind === 'cancel' ? 2 : 3)
    model.seal()
    expect(tether.jobs.activeCount).toBe(0)
  })

  test('where it is decided first, the child’s end before its commit changes nothing', async () => {
    const { model, tether, store, answer, ref } = await withChild()
    const { held, go } = hold(store, isMoveTo(kind === 'cancel' ? 'cancelling' : 'stopping'))
    const asked = end(tether, ref, kind, { waitMs: 20_000 })
    await held.opened
    answer.open()
    await eventually('the child has said all', () => model.requests[1]?.connection.isOpen === false)
    go.open()
    await asked
    expect(await tether.jobs.job(ref)).toMatchObject({ status, receipt: { confirmed: true } })
    model.seal()
    expect(tether.jobs.activeCount).toBe(0)
  })
})

describe('a stop that comes while the log has no room', () => {
  test.each(['model', 'tool'] as const)('is met before the %s is begun', async (what) => {
    let runs = 0
    const { model, tether, store } = await openHeld()
    async function openHeld() {
      const fake = await FakeModelServer.start()
      const fills = taskOf('fills', async (ctx) => {
        const fakeModel = await ctx.model()
        // More than may wait to be written: whoever emits then waits for room.
        void ctx.output('x'.repeat(400_000))
        if (what === 'model') await fakeModel.doStream({ prompt: [] })
        else await ctx.tool('mine', null, async () => String((runs += 1)))
      })
      const held = await openHeldWorld({ settings: settingsFor(fake), tasks: [fills] })
      return { model: fake, ...held }
    }
    const { held, go } = hold(store, (changes) => changes.some((change) => change.kind === 'append'))
    const { ref } = await tether.jobs.start(startOf('fills', null))
    await held.opened
    // It takes effect before it is in the store: a slow store holds up no end for longer than 50 ms.
    const asked = end(tether, ref, 'stop', { waitMs: 20_000 })
    const phase = what === 'model' ? 'model' : 'tool:mine'
    await eventually('it waits for room', () => tether.orchestrator.phaseOf(keyOf(ref)) === phase)
    await new Promise((resolve) => setTimeout(resolve, 100))
    go.open()
    await asked
    expect(await tether.jobs.job(ref)).toMatchObject({ status: 'stopped', receipt: { confirmed: true } })
    expect(model.requests).toEqual([])
    expect(runs).toBe(0)
    model.seal()
  })
})

/** What a job is in the middle of when it is asked to end. */
const DOINGS = ['its last answer', 'an answer with a tool', 'a tool', 'a child'] as const

test('whatever comes first of a request, its commit, an answer, a tool’s and a child’s end: one end, and nothing after it', async () => {
  let scheduler: fc.Scheduler | undefined
  const turn = (label: string): Promise<unknown> => scheduler?.schedule(Promise.resolve(), label) ?? Promise.resolve()
  const { model, tether, store } = await open(() => turn('the tool ends'))
  store.holdCommits(async (changes) => {
    if (isMoveTo('cancelling', 'stopping', 'succeeded', 'cancelled', 'stopped')(changes)) await turn('a commit')
  })
  const late: string[] = []
  const over = new Set<string>()
  model.answers(({ prompt, answers }): Reply => {
    if (over.has(prompt.replace(/^(child of )+/, ''))) late.push(prompt)
    const [, doing = ''] = prompt.split(': ')
    const isChild = prompt.startsWith('child of ')
    const wait = { wait: turn('the answer goes on') }
    if (answers === 0 && !isChild && doing === 'a child') return { parts: [wait, { call: 'below', input: {} }] }
    if (answers === 0 && !isChild && doing !== 'its last answer') return { parts: [wait, { call: 'wait', input: {} }] }
    return { parts: [{ text: 'Half ' }, wait, { text: 'and half.' }] }
  })
  let runs = 0
  const property = fc.asyncProperty(
    fc.scheduler(),
    fc.constantFrom(...DOINGS),
    fc.constantFrom('cancel' as const, 'stop' as const),
    async (s, doing, kind) => {
      scheduler = s
      runs += 1
      const prompt = `${runs}: ${doing}`
      const { ref } = await tether.jobs.start(startOf('works', prompt))
      const asked = turn('the request').then(() => end(tether, ref, kind).catch((error: unknown) => error))
      const view = await s.waitFor(tether.jobs.outcome(ref))
      await s.waitFor(asked)
      over.add(prompt)
      expect([kind === 'cancel' ? 'cancelled' : 'stopped', 'succeeded']).toContain(view.status)
      if (view.status === 'succeeded') expect(view.result).toBe('Half and half.')
      else expect(view.receipt).toMatchObject({ confirmed: true, survivors: [] })
      await assertLog(ref)
    },
  )

  /** One terminal event, the last; after `job.cancelling` nothing but that. */
  async function assertLog(ref: JobRef): Promise<void> {
    const events = await eventsOf(tether, ref)
    const steps = stepsOf(events)
    const isTerminal = (type: string): boolean => /^job\.(succeeded|cancelled|stopped)$/.test(type)
    expect(steps.filter(isTerminal)).toEqual(steps.slice(-1))
    if (steps.includes('job.cancelling')) expect(steps.slice(-2)).toEqual(['job.cancelling', 'job.cancelled'])
    if (steps.at(-1) === 'job.succeeded') expect(textOf(events, 'text')).toMatch(/Half and half\.$/)
  }

  await fc.assert(property, { numRuns: 60 })
  scheduler = undefined
  expect(late).toEqual([])
  await eventually('nothing is active', () => tether.jobs.activeCount === 0)
  expect(await model.untilClosed()).not.toContain('server')
  model.seal()
})

test('a cancel at any moment of a whole run leaves one end, and nothing after it', async () => {
  const { model, tether } = await open(() => new Promise((resolve) => setTimeout(resolve, 1)))
  model.answers(({ prompt, answers }) => {
    if (prompt.startsWith('child of ')) return says('Below.')
    return answers === 0 ? calls(['wait', {}], ['below', {}]) : answers === 1 ? calls(['wait', {}]) : says('Done.')
  })
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 60 }),
      fc.constantFrom('cancel' as const, 'stop' as const),
      async (turns, kind) => {
        const { ref } = await tether.jobs.start(startOf('works', 'x'))
        for (let n = 0; n < turns; n += 1) await new Promise((resolve) => setImmediate(resolve))
        await end(tether, ref, kind).catch(() => undefined)
        const view = await tether.jobs.outcome(ref)
        const asked = model.requests.length
        expect([kind === 'cancel' ? 'cancelled' : 'stopped', 'succeeded']).toContain(view.status)
        if (view.status !== 'succeeded') expect(view.receipt).toMatchObject({ confirmed: true })
        await eventually('its sockets are closed', () => model.openConnections === 0)
        expect(model.requests).toHaveLength(asked)
      },
    ),
    { numRuns: 80 },
  )
  await eventually('nothing is active', () => tether.jobs.activeCount === 0)
})
