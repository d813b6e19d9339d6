import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { describe, expect, test } from 'vitest'
import type { TaskContext } from '../../src/execution/task.ts'
import type { Json } from '../../src/job/json.ts'
import { running, uniqueSleep } from '../processes/world.ts'
import { ask } from '../server/requests.ts'
import { eventually, Gate, openWorld, taskOf } from '../world.ts'
import { ended, runAgent, startAgent } from './agentWorld.ts'

type Body = (ctx: TaskContext) => Promise<Json | undefined | void>

async function run(body: Body): Promise<Json | undefined> {
  const { url } = await openWorld({ tasks: [taskOf('body', body)] })
  const { view } = await runAgent(url, { task: 'body', input: null })
  expect(view.failure).toBeUndefined()
  return view.result
}

/** Runs a function until it says that it is ready, then ends its job. */
async function runAndEnd(kind: 'cancel' | 'stop', body: (ctx: TaskContext, ready: () => void) => Promise<Json | void>) {
  const ready = new Gate()
  const { url } = await openWorld({ tasks: [taskOf('body', (ctx) => body(ctx, () => ready.open()))] })
  const id = await startAgent(url, { task: 'body', input: null })
  await ready.opened
  await ask(url, `/jobs/${id}/${kind}?wait=20`, { method: 'POST' })
  return ended(url, id)
}

describe('ctx.spawn', () => {
  test('gives pipes to write to and to read from, and how it ended', async () => {
    expect(
      await run(async (ctx) => {
        const process = await ctx.spawn('while read line; do echo "got $line"; done; echo bye >&2; exit 3', {
          stdin: true,
        })
        process.stdin?.write('one\n')
        process.stdin?.end('two\n')
        const [stdout, stderr, status] = await Promise.all([text(process.stdout), text(process.stderr), process.exited])
        return { stdout, stderr, ...status }
      }),
    ).toEqual({ stdout: 'got one\ngot two\n', stderr: 'bye\n', exitCode: 3, signal: null })
  })

  test('reads its end at once where it was given no input', async () => {
    expect(
      await run(async (ctx) => {
        const process = await ctx.spawn(['cat'])
        process.stderr.resume()
        return [process.stdin === null, await text(process.stdout), (await process.exited).exitCode]
      }),
    ).toEqual([true, '', 0])
  })

  test('has the folder and the environment that it was given, and nothing of the server’s', async () => {
    expect(
      await run(async (ctx) => {
        const process = await ctx.spawn('pwd; echo "$MINE"; env', { cwd: '/', env: { MINE: 'given' } })
        process.stderr.resume()
        const lines = (await text(process.stdout)).split('\n')
        return [lines[0] ?? '', lines[1] ?? '', lines.some((line) => line.startsWith('VITEST'))]
      }),
    ).toEqual(['/', 'given', false])
  })

  test('is not waited for, lives beside its function, and is ended with all that it started when the job ends', async () => {
    const sleep = uniqueSleep()
    expect(
      await run(async (ctx) => {
        const process = await ctx.spawn(`(setsid ${sleep}) & ${sleep}`)
        process.stdout.resume()
        await eventually('both run', () => running(sleep).length === 2)
        return running(sleep).length
      }),
    ).toBe(2)
    expect(running(sleep)).toEqual([])
  })

  test('ends by end, once or twice, also where it hears no TERM', async () => {
    const sleep = uniqueSleep()
    const result = await run(async (ctx) => {
      const process = await ctx.spawn(`trap '' TERM; echo up; while :; do ${sleep}; done`)
      await once(process.stdout, 'data')
      const [first, second] = await Promise.all([process.end(), process.end()])
      return [running(sleep).length, first.survivors.length, first === second || first.processes === second.processes]
    })
    expect(result).toEqual([0, 0, true])
  })

  test('tells of a program that there is not', async () => {
    expect(
      await run((ctx) =>
        ctx.spawn(['/no/such/program']).then(
          () => 'started',
          (error: unknown) => Object(error).code,
        ),
      ),
    ).toBe('TETHER_SPAWN_FAILED')
  })

  test('that exits while nobody reads is no trouble, nor is one that does not read what it is sent', async () => {
    expect(
      await run(async (ctx) => {
        const process = await ctx.spawn('exec <&-; echo closed; sleep 0.1', { stdin: true })
        await once(process.stdout, 'data')
        process.stdin?.write('x'.repeat(1_000_000))
        process.stdin?.end()
        await process.exited
        return (await process.end()).survivors.length
      }),
    ).toBe(0)
  })

  test('is ended by a cancel, whatever its function does, and counted', async () => {
    const sleep = uniqueSleep()
    const view = await runAndEnd('cancel', async (ctx, ready) => {
      const process = await ctx.spawn(`${sleep} & ${sleep}`)
      process.stdout.resume()
      await eventually('both run', () => running(sleep).length === 2)
      ready()
      await process.exited
    })
    expect(view).toMatchObject({ status: 'cancelled', receipt: { confirmed: true, survivors: [] } })
    expect(view.receipt?.released.processes).toBeGreaterThanOrEqual(1)
    expect(running(sleep)).toEqual([])
  })

  test('while it is being started is ended by a cancel, whenever that comes', async () => {
    const sleep = uniqueSleep()
    const { url } = await openWorld({ tasks: [taskOf('body', async (ctx) => void (await ctx.spawn(sleep)).exited)] })
    for (let turns = 0; turns < 6; turns += 1) {
      const id = await startAgent(url, { task: 'body', input: null })
      for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve))
      await ask(url, `/jobs/${id}/cancel?wait=20`, { method: 'POST' })
      expect((await ended(url, id)).terminal).toBe(true)
    }
    expect(running(sleep)).toEqual([])
  })

  test.each([
    ['keep', false],
    ['end', true],
  ] as const)('with onStop %j is ended by a stop: %s', async (onStop, isEnded) => {
    const sleep = uniqueSleep()
    let atTheStop: boolean | undefined
    const view = await runAndEnd('stop', async (ctx, ready) => {
      const process = await ctx.spawn(sleep, { onStop })
      process.stdout.resume()
      await eventually('it runs', () => running(sleep).length === 1)
      const stopped = new Promise((resolve) => ctx.stopSignal.addEventListener('abort', resolve, { once: true }))
      ready()
      await stopped
      // The leader has ended; what it had started ends with it, or a moment later.
      if (isEnded) await process.exited.then(() => eventually('all have ended', () => running(sleep).length === 0))
      atTheStop = running(sleep).length === 0
      ctx.checkpoint()
    })
    expect(atTheStop).toBe(isEnded)
    expect(view).toMatchObject({ status: 'stopped', receipt: { confirmed: true } })
    expect(running(sleep)).toEqual([])
  })

  test('with onStop "end" that is only being started when the stop comes is ended too', async () => {
    const sleep = uniqueSleep()
    const { url } = await openWorld({
      tasks: [
        taskOf('body', async (ctx) => {
          const process = await ctx.spawn(sleep, { onStop: 'end' })
          process.stdout.resume()
          await process.exited
        }),
      ],
    })
    for (let turns = 0; turns < 6; turns += 1) {
      const id = await startAgent(url, { task: 'body', input: null })
      for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve))
      await ask(url, `/jobs/${id}/stop?wait=20`, { method: 'POST' })
      expect(['stopped', 'succeeded']).toContain((await ended(url, id)).status)
    }
    expect(running(sleep)).toEqual([])
  })
})

describe('ctx.tool', () => {
  test('is a boundary with its phase, its events and its answer', async () => {
    const { url } = await openWorld({
      tasks: [
        taskOf('body', async (ctx) => {
          const { text: said, summary, ok } = await ctx.tool('mine', { a: 1 }, async () => 'one\ntwo')
          const bad = await ctx.tool('mine', null, async () => ({ text: 'no', ok: false }))
          return { said, summary: summary ?? '', ok: ok ?? false, bad: bad.ok ?? true }
        }),
      ],
    })
    const { view, events } = await runAgent(url, { task: 'body', input: null })
    expect(view.result).toEqual({ said: 'one\ntwo', summary: 'one', ok: true, bad: false })
    expect(events.filter(({ type }) => type.startsWith('tool.'))).toMatchObject([
      { type: 'tool.started', tool: 'mine', callId: 'call_1', input: { a: 1 } },
      { type: 'tool.finished', tool: 'mine', callId: 'call_1', ok: true, summary: 'one' },
      { type: 'tool.started', tool: 'mine', callId: 'call_2', input: null },
      { type: 'tool.finished', tool: 'mine', callId: 'call_2', ok: false, summary: 'no' },
    ])
  })

  test('throws what its work throws, also where that is no promise', async () => {
    expect(
      await run(async (ctx) => [
        await ctx.tool('mine', null, () => Promise.reject(new TypeError('later'))).then(String, String),
        await ctx
          .tool('mine', null, () => {
            throw new TypeError('at once')
          })
          .then(String, String),
      ]),
    ).toEqual(['TypeError: later', 'TypeError: at once'])
  })

  test('that does not hear a cancel is waited for by nobody but the receipt, which is confirmed once it has settled', async () => {
    const settled = new Gate()
    let toldMs = Number.NaN
    const view = await runAndEnd('cancel', async (ctx, ready) => {
      const work = async (): Promise<string> => {
        ready()
        await new Promise((resolve) =>
          ctx.signal.addEventListener('abort', () => setTimeout(resolve, 100), { once: true }),
        )
        settled.open()
        return 'at last'
      }
      const beganMs = performance.now()
      await ctx.tool('deaf', null, work).finally(() => {
        toldMs = performance.now() - beganMs
      })
    })
    await settled.opened
    expect(view).toMatchObject({
      status: 'cancelled',
      cancellation: { phase: 'tool:deaf' },
      receipt: { confirmed: true },
    })
    expect(toldMs).toBeGreaterThan(0)
    // The function had settled long before its tool: by the receipt, and not by a clock that the machine's load moves.
    expect(view.receipt?.abortedToSettledMs).toBeLessThan(100)
  })

  test('that never settles ends its job cancelled, not confirmed, and nothing of it comes any more', async () => {
    const ready = new Gate()
    const later = new Gate()
    const { url } = await openWorld({
      settings: { SETTLE_MS: '300' },
      tasks: [
        taskOf('body', async (ctx) => {
          await ctx.tool('deaf', null, async () => {
            ready.open()
            await later.opened
            await ctx.output('too late')
            return 'too late'
          })
        }),
      ],
    })
    const id = await startAgent(url, { task: 'body', input: null })
    await ready.opened
    await ask(url, `/jobs/${id}/cancel?wait=20`, { method: 'POST' })
    const view = await ended(url, id)
    expect(view).toMatchObject({ status: 'cancelled', receipt: { confirmed: false, survivors: [] } })
    later.open()
    await new Promise((resolve) => setImmediate(resolve))
    expect((await ended(url, id)).lastSeq).toBe(view.lastSeq)
  })

  test('within a tool names the inner one as what the job is doing', async () => {
    const view = await runAndEnd('cancel', async (ctx, ready) => {
      await ctx.tool('outer', null, async () => {
        const inner = await ctx.tool('inner', null, async () => {
          ready()
          await ctx.sleep(60_000)
          return 'never'
        })
        return inner.text
      })
    })
    expect(view).toMatchObject({
      status: 'cancelled',
      cancellation: { phase: 'tool:inner' },
      receipt: { confirmed: true },
    })
  })

  test('in shielded code runs after a cancel', async () => {
    const told: string[] = []
    const view = await runAndEnd('cancel', async (ctx, ready) => {
      ctx.defer(async () => {
        const { text: said } = await ctx.tool('cleanup', null, async () => {
          await ctx.sleep(5)
          return 'cleaned'
        })
        told.push(said)
      })
      ready()
      await ctx.sleep(60_000)
    })
    expect(told).toEqual(['cleaned'])
    expect(view).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
  })
})
