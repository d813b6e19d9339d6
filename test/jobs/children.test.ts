import { describe, expect, test } from 'vitest'
import { parseJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT, type JobRef } from '../../src/job/key.ts'
import type { JobView } from '../../src/job/view.ts'
import type { Tether } from '../../src/tether.ts'
import { isCreate, openHeldWorld } from '../eventlog/heldWorld.ts'
import { end, eventsOf, eventually, Gate, openWorld, startOf, taskOf, typesOf, untilRunning } from '../world.ts'

const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))

/** Runs the child that its input names, with what is left of the input as the child's. */
const parent = taskOf('parent', async (ctx, input) => {
  const [task, ...rest] = Array.isArray(input) ? input : [input]
  return ctx.run(String(task), rest.length === 0 ? null : rest)
})

async function childrenOf(tether: Tether, ref: JobRef): Promise<readonly JobView[]> {
  const { jobs } = await tether.jobs.list({ tenant: DEFAULT_TENANT, parentId: ref.id, limit: 100 })
  return jobs
}

function refOf(view: JobView): JobRef {
  return { tenant: DEFAULT_TENANT, id: parseJobId(view.id) }
}

async function onlyChildOf(tether: Tether, ref: JobRef): Promise<JobView> {
  return eventually('the child is recorded', async () => (await childrenOf(tether, ref))[0])
}

/** The family line below `ref`, once it has `generations` members. */
async function lineOf(tether: Tether, ref: JobRef, generations: number): Promise<readonly JobView[]> {
  const line: JobView[] = []
  for (let above = ref; line.length < generations; ) {
    const child = await onlyChildOf(tether, above)
    line.push(child)
    above = refOf(child)
  }
  return line
}

describe('a child job', () => {
  test('gives its result to its parent, and runs in its slot', async () => {
    const doubles = taskOf('doubles', async (_ctx, input) => (Array.isArray(input) ? Number(input[0]) * 2 : null))
    const tether = await openWorld({ settings: { CONCURRENCY: '1' }, tasks: [parent, doubles] })
    const { ref } = await tether.jobs.start(startOf('parent', ['doubles', 21]))
    expect(await tether.jobs.outcome(ref)).toMatchObject({ status: 'succeeded', result: 42 })
    const child = await onlyChildOf(tether, ref)
    expect(child).toMatchObject({ status: 'succeeded', parentId: ref.id, task: 'doubles' })
    expect(tether.jobs.activeCount).toBe(0)
  })

  test('has a log of its own, and its parent tells of its start and its end', async () => {
    const speaks = taskOf('speaks', async (ctx) => ctx.output('from the child'))
    const tether = await openWorld({ tasks: [parent, speaks] })
    const { ref } = await tether.jobs.start(startOf('parent', ['speaks']))
    await tether.jobs.outcome(ref)
    const child = await onlyChildOf(tether, ref)
    const events = await eventsOf(tether, ref)
    expect(typesOf(events)).toEqual(['job.queued', 'job.started', 'child.started', 'child.finished', 'job.succeeded'])
    expect(events[2]).toMatchObject({ childId: child.id, task: 'speaks' })
    expect(events[3]).toMatchObject({ childId: child.id, task: 'speaks', status: 'succeeded' })
    const own = await eventsOf(tether, refOf(child))
    expect(typesOf(own)).toEqual(['job.queued', 'job.started', 'output', 'job.succeeded'])
    expect(own[0]).toMatchObject({ position: 0 })
  })

  test('that fails rejects the call and no more: the parent may go on', async () => {
    const fails = taskOf('fails', async () => {
      throw new Error('the child broke')
    })
    const copes = taskOf('copes', async (ctx) => ctx.run('fails', null).catch((error: unknown) => String(error)))
    const tether = await openWorld({ tasks: [parent, fails, copes] })
    const first = await tether.jobs.start(startOf('parent', ['fails']))
    expect(await tether.jobs.outcome(first.ref)).toMatchObject({
      status: 'failed',
      failure: { code: 'TETHER_CHILD_FAILED', message: expect.stringContaining('the child broke') },
    })
    const second = await tether.jobs.start(startOf('copes', null))
    expect(await tether.jobs.outcome(second.ref)).toMatchObject({
      status: 'succeeded',
      result: expect.stringContaining('the child broke'),
    })
  })

  test('of a task that nobody knows, or with an input that is wrong, is refused with the code for it', async () => {
    const tether = await openWorld({ tasks: [parent] })
    const unknown = await tether.jobs.start(startOf('parent', ['nobody']))
    expect((await tether.jobs.outcome(unknown.ref)).failure?.code).toBe('TETHER_TASK_NOT_FOUND')
    const wrong = await tether.jobs.start(startOf('parent', ['ticks', 'no ticks']))
    expect((await tether.jobs.outcome(wrong.ref)).failure?.code).toBe('TETHER_INVALID_REQUEST')
    expect(await childrenOf(tether, wrong.ref)).toEqual([])
  })

  test('that outlives its timeoutMs ends timed_out and rejects the call', async () => {
    const hurries = taskOf('hurries', async (ctx) => ctx.run('waits', null, { timeoutMs: 20 }))
    const tether = await openWorld({ tasks: [hurries, waits] })
    const { ref } = await tether.jobs.start(startOf('hurries', null))
    expect(await tether.jobs.outcome(ref)).toMatchObject({ status: 'failed', failure: { code: 'TETHER_CHILD_FAILED' } })
    expect(await onlyChildOf(tether, ref)).toMatchObject({ status: 'timed_out', cancellation: { cause: 'timed_out' } })
  })

  test('may be cancelled by itself, which rejects the call and leaves the parent alive', async () => {
    const copes = taskOf('copes', async (ctx) => ctx.run('waits', null).catch(() => 'went on'))
    const tether = await openWorld({ tasks: [copes, waits] })
    const { ref } = await tether.jobs.start(startOf('copes', null))
    const child = await onlyChildOf(tether, ref)
    await end(tether, refOf(child), 'cancel')
    expect(await tether.jobs.outcome(ref)).toMatchObject({ status: 'succeeded', result: 'went on' })
  })
})

describe('a parent that is asked to end', () => {
  test.each([
    ['cancel', 'cancelled', 'parent_cancelled'],
    ['stop', 'stopped', 'parent_stopped'],
  ] as const)('by a %s takes its grandchildren with it', async (kind, status, cause) => {
    const tether = await openWorld({ tasks: [parent, waits] })
    const { ref } = await tether.jobs.start(startOf('parent', ['parent', 'parent', 'waits']))
    const line = await lineOf(tether, ref, 3)
    await eventually('the last one runs', () => tether.orchestrator.getActiveExecutionCount() === 4)
    await end(tether, ref, kind, { waitMs: 5000 })
    expect(await tether.jobs.job(ref)).toMatchObject({ status })
    for (const view of line) {
      expect(await tether.jobs.job(refOf(view))).toMatchObject({
        status,
        [kind === 'cancel' ? 'cancellation' : 'stop']: { cause },
      })
    }
    expect(tether.orchestrator.getActiveExecutionCount()).toBe(0)
    expect(tether.jobs.activeCount).toBe(0)
  })

  test('counts the children that it gave back, and names the phase child', async () => {
    const tether = await openWorld({ tasks: [parent, waits] })
    const { ref } = await tether.jobs.start(startOf('parent', ['waits']))
    await eventually('the child runs', () => tether.orchestrator.getActiveExecutionCount() === 2)
    await end(tether, ref, 'cancel', { waitMs: 5000 })
    expect(await tether.jobs.job(ref)).toMatchObject({
      cancellation: { phase: 'child' },
      receipt: { confirmed: true, released: { children: 1 } },
    })
  })

  test('while its child is being recorded never lets the child run', async () => {
    let calls = 0
    const counts = taskOf('counts', async () => {
      calls += 1
    })
    const { tether, store } = await openHeldWorld({ tasks: [parent, counts] })
    const recorded = new Gate()
    const { ref } = await tether.jobs.start(startOf('parent', ['counts']))
    let isHeld = false
    store.holdCommits(async (changes) => {
      if (!isCreate(changes)) return
      isHeld = true
      await recorded.opened
    })
    await eventually('the child is being recorded', () => isHeld)
    const answered = end(tether, ref, 'cancel', { waitMs: 5000 })
    recorded.open()
    expect(await answered).toMatchObject({ view: { status: 'cancelled' } })
    expect(calls).toBe(0)
    expect(await onlyChildOf(tether, ref)).toMatchObject({ cancellation: { cause: 'parent_cancelled' } })
  })
})

describe('a parent that ends with children alive', () => {
  test('cancels them with the cause parent_ended before its own end is told', async () => {
    const started = new Gate()
    const forgetful = taskOf('forgetful', async (ctx) => {
      ctx.run('waits', null).catch(() => undefined)
      await started.opened
      return 'done'
    })
    const tether = await openWorld({ tasks: [forgetful, waits] })
    const { ref } = await tether.jobs.start(startOf('forgetful', null))
    const child = await onlyChildOf(tether, ref)
    await untilRunning(tether, refOf(child))
    started.open()
    expect(await tether.jobs.outcome(ref)).toMatchObject({ status: 'succeeded', result: 'done' })
    expect(await tether.jobs.job(refOf(child))).toMatchObject({
      status: 'cancelled',
      cancellation: { cause: 'parent_ended' },
    })
    expect(tether.jobs.activeCount).toBe(0)
  })

  test('cancels also the one that was only being recorded', async () => {
    const hasty = taskOf('hasty', async (ctx) => {
      ctx.run('waits', null).catch(() => undefined)
    })
    const tether = await openWorld({ tasks: [hasty, waits] })
    const { ref } = await tether.jobs.start(startOf('hasty', null))
    expect(await tether.jobs.outcome(ref)).toMatchObject({ status: 'succeeded' })
    expect(await onlyChildOf(tether, ref)).toMatchObject({
      status: 'cancelled',
      cancellation: { cause: 'parent_ended' },
    })
    expect(tether.jobs.activeCount).toBe(0)
  })

  test('and starts another one after its end, which never runs', async () => {
    let calls = 0
    const counts = taskOf('counts', async () => {
      calls += 1
    })
    const later = new Gate()
    const over = new Gate()
    const lingers = taskOf('lingers', async (ctx) => {
      void later.opened
        .then(() => ctx.run('counts', null))
        .catch(() => undefined)
        .then(() => over.open())
    })
    const tether = await openWorld({ tasks: [lingers, counts] })
    const { ref } = await tether.jobs.start(startOf('lingers', null))
    await tether.jobs.outcome(ref)
    later.open()
    await over.opened
    expect(calls).toBe(0)
    await eventually('nothing is left', () => tether.jobs.activeCount === 0)
  })
})

describe('the limits of a family', () => {
  test('a job nine deep is refused', async () => {
    const digs = taskOf('digs', async (ctx, input) => {
      const depth = Number(input)
      return depth === 0 ? 0 : ctx.run('digs', depth - 1)
    })
    const tether = await openWorld({ tasks: [digs] })
    const eight = await tether.jobs.start(startOf('digs', 8))
    expect(await tether.jobs.outcome(eight.ref)).toMatchObject({ status: 'succeeded' })
    const nine = await tether.jobs.start(startOf('digs', 9))
    expect(await tether.jobs.outcome(nine.ref)).toMatchObject({
      status: 'failed',
      failure: { message: expect.stringContaining('8 deep') },
    })
  })

  test('is one of 256 jobs at the most', async () => {
    const go = new Gate()
    const refused: string[] = []
    const leaf = taskOf('leaf', () => go.opened)
    const branch = taskOf('branch', async (ctx) => {
      const runs = Array.from({ length: 8 }, () => ctx.run('leaf', null))
      await Promise.all(runs.map((run) => run.catch((error: unknown) => refused.push(String(error)))))
    })
    const root = taskOf('root', async (ctx) => {
      await Promise.all(Array.from({ length: 40 }, () => ctx.run('branch', null)))
      // Those that have ended make room.
      await ctx.run('branch', null)
    })
    const tether = await openWorld({ tasks: [leaf, branch, root] })
    const { ref } = await tether.jobs.start(startOf('root', null))
    // There is room for the root, its 40 branches and 215 of their 320 leaves.
    await eventually('many are refused', () => refused.length > 50)
    go.open()
    expect(await tether.jobs.outcome(ref)).toMatchObject({ status: 'succeeded' })
    expect(new Set(refused)).toEqual(new Set(['TaskFailure: a tree of jobs may have 256 jobs alive']))
  })

  test('a 65th child alive is refused, and there is room again when one has ended', async () => {
    const go = new Gate()
    const gated = taskOf('gated', async () => go.opened)
    const many = taskOf('many', async (ctx) => {
      const alive = Array.from({ length: 64 }, () => ctx.run('gated', null))
      const refused = await ctx.run('gated', null).catch((error: unknown) => Object(error).code)
      go.open()
      await Promise.all(alive)
      await ctx.run('gated', null)
      return refused
    })
    const tether = await openWorld({ tasks: [many, gated] })
    const { ref } = await tether.jobs.start(startOf('many', null))
    expect(await tether.jobs.outcome(ref)).toMatchObject({ status: 'succeeded', result: 'TETHER_TOO_MANY_CHILDREN' })
    expect(await childrenOf(tether, ref)).toHaveLength(65)
  })
})
