import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { JobStopped, type TaskContext } from '../../src/execution/task.ts'
import type { Json } from '../../src/job/json.ts'
import type { JobView } from '../../src/job/view.ts'
import { end, eventsOf, Gate, openWorld, startOf, taskOf } from '../world.ts'

type Run = (ctx: TaskContext, input: Json) => Promise<Json | undefined | void>

/** Runs one function as a job. */
async function run(body: Run): Promise<JobView> {
  const tether = await openWorld({ tasks: [taskOf('body', body)] })
  const { ref } = await tether.jobs.start(startOf('body', null))
  return tether.jobs.outcome(ref)
}

/** Runs one function as a job and ends it once it says that it is ready. */
async function runAndEnd(
  kind: 'cancel' | 'stop',
  body: (ctx: TaskContext, ready: () => void) => Promise<Json | void>,
  settleMs = 2000,
) {
  const ready = new Gate()
  const tether = await openWorld({ tasks: [taskOf('body', (ctx) => body(ctx, () => ready.open()))] })
  const { ref } = await tether.jobs.start(startOf('body', null, { policy: { settleMs } }))
  await ready.opened
  await end(tether, ref, kind, { reason: 'enough', waitMs: 5000 })
  return { tether, view: await tether.jobs.outcome(ref), events: await eventsOf(tether, ref) }
}

describe('ctx.sleep', () => {
  test.each(['cancel', 'stop'] as const)('wakes at once on a %s, and says why', async (kind) => {
    let caught: unknown
    const { view } = await runAndEnd(kind, async (ctx, ready) => {
      const slept = ctx.sleep(60_000)
      ready()
      await slept.catch((error: unknown) => {
        caught = error
        throw error
      })
    })
    expect(view.status).toBe(kind === 'cancel' ? 'cancelled' : 'stopped')
    expect(caught).toBeInstanceOf(JobStopped)
    expect(caught).toMatchObject({ why: `${kind}_requested`, reason: 'enough', by: 'test', name: 'AbortError' })
  })

  test('raises again where the first was caught: a boundary is level-triggered', async () => {
    let raised = 0
    const { view } = await runAndEnd('stop', async (ctx, ready) => {
      ready()
      for (let n = 0; n < 3; n += 1) {
        await ctx.sleep(60_000).catch(() => {
          raised += 1
        })
      }
      return 'went on'
    })
    expect(raised).toBe(3)
    expect(view.status).toBe('stopped')
  })

  test.each([-1, Number.NaN, 2_147_483_648, Number.POSITIVE_INFINITY])('of %d ms is refused', async (ms) => {
    const view = await run(async (ctx) => ctx.sleep(ms).catch((error: unknown) => String(error)))
    expect(view.result).toContain('sleep takes 0 to 2147483647 ms')
  })

  test('of 0 lets the others run', async () => {
    const order: string[] = []
    await run(async (ctx) => {
      setImmediate(() => order.push('another'))
      await ctx.sleep(0)
      order.push('slept')
    })
    expect(order).toEqual(['another', 'slept'])
  })
})

describe('ctx.defer and ctx.use', () => {
  test('run at the end, last come first served, after what the function did', async () => {
    const order: string[] = []
    const view = await run(async (ctx) => {
      ctx.defer(() => void order.push('first'))
      const sync = ctx.use({ [Symbol.dispose]: () => void order.push('sync') })
      const async = ctx.use({
        async [Symbol.asyncDispose]() {
          await Promise.resolve()
          order.push('async')
        },
      })
      ctx.defer(async () => {
        await ctx.sleep(1)
        order.push('last')
        ctx.defer(() => void order.push('taken on in a disposer'))
      })
      order.push('function')
      return sync !== undefined && async !== undefined
    })
    expect(view.status).toBe('succeeded')
    expect(order).toEqual(['function', 'last', 'async', 'sync', 'first', 'taken on in a disposer'])
  })

  test('run after a failure and after a cancel too, where boundaries are silent', async () => {
    const order: string[] = []
    const failed = await run(async (ctx) => {
      ctx.defer(() => void order.push('failed'))
      throw new Error('on purpose')
    })
    expect(failed.failure?.message).toContain('on purpose')
    const { view } = await runAndEnd('cancel', async (ctx, ready) => {
      ctx.defer(async () => {
        ctx.checkpoint()
        await ctx.sleep(1)
        const { stdout } = await ctx.exec('echo cleaned', { output: 'collect' })
        order.push(stdout.trim())
      })
      ready()
      await ctx.sleep(60_000)
    })
    expect(order).toEqual(['failed', 'cleaned'])
    expect(view).toMatchObject({ status: 'cancelled', receipt: { confirmed: true, released: { other: 1 } } })
  })

  test('that hang have a deadline: the job ends, and its receipt is not confirmed', async () => {
    const order: string[] = []
    const { view } = await runAndEnd(
      'cancel',
      async (ctx, ready) => {
        ctx.defer(() => void order.push('before it'))
        ctx.defer(() => new Promise(() => undefined))
        ready()
        await ctx.sleep(60_000)
      },
      400,
    )
    expect(view).toMatchObject({ status: 'cancelled', receipt: { confirmed: false } })
    expect(order).toEqual(['before it'])
  })

  test('that throw do not keep the others from running; a cancelled job is then not confirmed', async () => {
    const order: string[] = []
    const { view } = await runAndEnd('cancel', async (ctx, ready) => {
      ctx.defer(() => void order.push('before it'))
      ctx.defer(() => {
        throw new Error('a broken disposer')
      })
      ready()
      await ctx.sleep(60_000)
    })
    expect(view.receipt?.confirmed).toBe(false)
    expect(order).toEqual(['before it'])
  })
})

describe('ctx.shield', () => {
  test('lets its work finish though the job was cancelled, and the next boundary outside raises', async () => {
    const steps: string[] = []
    const { view } = await runAndEnd('cancel', async (ctx, ready) => {
      await ctx.shield(async () => {
        ready()
        await ctx.sleep(50)
        ctx.checkpoint()
        steps.push(ctx.signal.aborted ? 'finished after the cancel' : 'finished')
      })
      steps.push('outside')
      ctx.checkpoint()
      steps.push('never')
    })
    expect(steps).toEqual(['finished after the cancel', 'outside'])
    expect(view.status).toBe('cancelled')
  })
})

test('the signals tell what happened and keep no listener of ours', async () => {
  const told: string[] = []
  await runAndEnd('stop', async (ctx, ready) => {
    ctx.stopSignal.addEventListener('abort', () => told.push(`stop ${ctx.stopSignal.reason.why}`), { once: true })
    ctx.signal.addEventListener('abort', () => told.push('abort'), { once: true })
    ready()
    await ctx.sleep(60_000).catch(() => undefined)
  })
  expect(told).toEqual(['stop stop_requested'])
})

describe('ctx.tmp', () => {
  test('gives new empty folders that are gone at the end, whatever is in them', async () => {
    const seen: string[] = []
    const { view, tether } = await runAndEnd('cancel', async (ctx, ready) => {
      for (let n = 0; n < 2; n += 1) {
        const folder = await ctx.tmp()
        expect(await readdir(folder)).toEqual([])
        seen.push(folder)
        await mkdir(join(folder, 'deep'))
        await writeFile(join(folder, 'deep', 'file'), 'x')
      }
      ready()
      await ctx.sleep(60_000)
    })
    expect(new Set(seen).size).toBe(2)
    for (const folder of seen) expect(existsSync(folder)).toBe(false)
    expect(view.receipt).toMatchObject({ confirmed: true, released: { files: 4 } })
    expect(tether.jobs.activeCount).toBe(0)
  })

  test('that the task has removed itself is given back as well', async () => {
    const { view } = await runAndEnd('cancel', async (ctx, ready) => {
      await rm(await ctx.tmp(), { recursive: true })
      ready()
      await ctx.sleep(60_000)
    })
    expect(view.receipt).toMatchObject({ confirmed: true })
  })
})

describe('ctx.workspace and ctx.artifact', () => {
  test('keep files with the job and announce them with size and hash', async () => {
    const text = '# Report\n'
    const writes = taskOf('writes', async (ctx) => {
      const folder = await ctx.workspace()
      expect(await ctx.workspace()).toBe(folder)
      await mkdir(join(folder, 'out'))
      await writeFile(join(folder, 'out', 'report.md'), text)
      await ctx.artifact('out/report.md')
      await ctx.artifact(join(folder, 'out', 'report.md'), { name: 'Report', mediaType: 'text/x-report' })
    })
    const tether = await openWorld({ tasks: [writes] })
    const { ref } = await tether.jobs.start(startOf('writes', null))
    expect((await tether.jobs.outcome(ref)).status).toBe('succeeded')
    const artifacts = (await eventsOf(tether, ref)).filter((event) => event.type === 'artifact')
    const sha256 = createHash('sha256').update(text).digest('hex')
    const common = { path: 'out/report.md', bytes: text.length, sha256 }
    expect(artifacts).toMatchObject([
      { name: 'report.md', mediaType: 'text/markdown', ...common },
      { name: 'Report', mediaType: 'text/x-report', ...common },
    ])
    expect(await tether.jobs.files(ref)).toMatchObject([{ path: 'out/report.md', bytes: text.length }])
    await tether.jobs.forget(ref)
  })

  test.each([
    ['a file that is not there', 'nothing.txt'],
    ['a folder', 'folder'],
    ['a path out of the workspace', '../../tether.db'],
    ['an absolute path', '/etc/hostname'],
    ['a link out of the workspace', 'link'],
    ['the workspace itself', '.'],
    ['a path with a NUL', 'a\0b'],
  ])('refuse %s', async (_name, path) => {
    const view = await run(async (ctx) => {
      const folder = await ctx.workspace()
      await mkdir(join(folder, 'folder'))
      await symlink('/etc/hostname', join(folder, 'link'))
      await ctx.artifact(path)
    })
    expect(view.failure?.code).toBe('TETHER_INVALID_ARTIFACT')
  })
})

test('a job has its id, its attempt and its metadata; what it does to its input changes no record', async () => {
  const tells = taskOf('tells', async (ctx, input) => {
    if (typeof input === 'object' && input !== null) Reflect.set(input, 'a', 'changed')
    return { id: ctx.jobId, attempt: ctx.attempt, metadata: ctx.metadata }
  })
  const tether = await openWorld({ tasks: [tells] })
  const { ref } = await tether.jobs.start(startOf('tells', { a: 1 }, { metadata: { who: 'me' } }))
  const view = await tether.jobs.outcome(ref)
  expect(view.result).toEqual({ id: ref.id, attempt: 1, metadata: { who: 'me' } })
  expect(view.input).toEqual({ a: 1 })
})

describe('what is left behind by a function that did not await it', () => {
  test('a command is ended before the job is', async () => {
    const hasty = taskOf('hasty', async (ctx) => {
      void ctx.exec('sleep 60').catch(() => undefined)
    })
    const tether = await openWorld({ tasks: [hasty] })
    const { ref } = await tether.jobs.start(startOf('hasty', null))
    expect((await tether.jobs.outcome(ref)).status).toBe('succeeded')
    const left = await readdir('/proc').then((names) => names.filter((name) => isChildSleep(name)))
    expect(left).toEqual([])
  })

  test('nothing is begun after the end: boundaries raise, outputs are dropped', async () => {
    const later = new Gate()
    const results: Promise<unknown[]>[] = []
    const lingers = taskOf('lingers', async (ctx) => {
      results.push(
        later.opened.then(() =>
          Promise.all([
            ctx.sleep(1).catch(String),
            ctx.exec('true').catch(String),
            ctx.run('lingers', null).catch(String),
            ctx.output('too late'),
          ]),
        ),
      )
    })
    const tether = await openWorld({ tasks: [lingers] })
    const { ref } = await tether.jobs.start(startOf('lingers', null))
    const { lastSeq } = await tether.jobs.outcome(ref)
    later.open()
    const [slept, ran, child] = (await results[0]) ?? []
    for (const error of [slept, ran, child]) expect(error).toContain('the job has ended')
    expect((await tether.jobs.job(ref)).lastSeq).toBe(lastSeq)
  })
})

/** Whether the process is a `sleep 60` of this test's own. */
function isChildSleep(pid: string): boolean {
  if (!/^\d+$/.test(pid)) return false
  try {
    const read = (name: string): string => readProc(pid, name)
    return read('cmdline') === 'sleep\u000060\u0000' && read('status').includes(`PPid:\t${process.pid}\n`)
  } catch {
    // It ended between the listing and the look.
    return false
  }
}

function readProc(pid: string, name: string): string {
  return readFileSync(`/proc/${pid}/${name}`, 'utf8')
}

test('a job whose function throws at once, before any await, fails like any other', async () => {
  const throws = taskOf('throws', () => {
    throw new Error('at once')
  })
  const tether = await openWorld({ tasks: [throws] })
  const { ref } = await tether.jobs.start(startOf('throws', null))
  expect(await tether.jobs.outcome(ref)).toMatchObject({ status: 'failed', failure: { code: 'TETHER_TASK_FAILED' } })
})
