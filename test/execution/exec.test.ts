import Type from 'typebox'
import { describe, expect, test } from 'vitest'
import type { ExecOptions, ExecResult } from '../../src/execution/task.ts'
import { defineTask } from '../../src/execution/task.ts'
import type { JobRef } from '../../src/job/key.ts'
import type { Tether } from '../../src/tether.ts'
import { CollectingSink } from '../eventlog/CollectingSink.ts'
import { openHeldWorld } from '../eventlog/heldWorld.ts'
import { running, uniqueSleep } from '../processes/world.ts'
import { end, eventsOf, eventually, Gate, openWorld, startOf, taskOf, untilRunning } from '../world.ts'

/** Runs the command that its input is, and gives back what `exec` said. */
function runs(options: ExecOptions = {}) {
  return defineTask({
    name: 'runs',
    input: Type.Unsafe<string | [string, ...string[]]>({}),
    async run(ctx, input) {
      const { exitCode, signal, stdout, stderr, truncated } = await ctx.exec(input, options)
      return { exitCode, signal, stdout, stderr, truncated }
    },
  })
}

async function exec(command: string | [string, ...string[]], options: ExecOptions = {}): Promise<ExecResult> {
  const tether = await openWorld({ tasks: [runs(options)] })
  const { ref } = await tether.jobs.start(startOf('runs', command))
  const view = await tether.jobs.outcome(ref)
  expect(view.failure).toBeUndefined()
  return Object(view.result)
}

const collected = { output: 'collect' } as const

async function outputOf(tether: Tether, ref: JobRef, channel: string): Promise<string> {
  const events = await eventsOf(tether, ref)
  return events.map((event) => (event.type === 'output' && event.channel === channel ? event.text : '')).join('')
}

describe('ctx.exec', () => {
  test('gives the exit code, or the signal, and both outputs', async () => {
    expect(await exec('echo out; echo err >&2; exit 3', collected)).toEqual({
      exitCode: 3,
      signal: null,
      stdout: 'out\n',
      stderr: 'err\n',
      truncated: false,
    })
    expect(await exec('kill -9 $$', collected)).toMatchObject({ exitCode: null, signal: 'SIGKILL' })
  })

  test('runs a program with its arguments as they are, without a shell', async () => {
    expect((await exec(['printf', '%s|', 'a b', '$HOME', '*'], collected)).stdout).toBe('a b|$HOME|*|')
  })

  test('writes stdin and closes it; without one the command reads its end at once', async () => {
    const stdin = 'ünïcode\n'.repeat(50_000)
    const { stdout } = await exec('wc -c', { ...collected, stdin })
    expect(Number(stdout)).toBe(Buffer.byteLength(stdin))
    expect((await exec('cat; echo done', collected)).stdout).toBe('done\n')
  })

  test('survives a command that does not read its stdin', async () => {
    expect((await exec('exec <&-; echo gone', { ...collected, stdin: 'x'.repeat(1_000_000) })).stdout).toBe('gone\n')
  })

  test('hands on nothing of the server but the harmless part of its environment', async () => {
    process.env['OPENAI_API_KEY'] = 'a-secret-of-the-server'
    try {
      const { stdout } = await exec('env; cat /proc/self/environ', { ...collected, env: { MINE: 'given' } })
      expect(stdout).not.toContain('a-secret-of-the-server')
      expect(stdout).not.toContain('VITEST')
      expect(stdout).toContain('MINE=given')
      expect(stdout).toContain('PATH=')
    } finally {
      delete process.env['OPENAI_API_KEY']
    }
  })

  test('keeps characters whole that the pipe parts, on both channels', async () => {
    const line = `printf '\\360\\235'; sleep 0.05; printf '\\204\\236 \\350'; sleep 0.05; printf '\\252\\236'`
    const tether = await openWorld({ tasks: [runs()] })
    const { ref } = await tether.jobs.start(startOf('runs', `(${line}); (${line}) >&2`))
    await tether.jobs.outcome(ref)
    expect(await outputOf(tether, ref, 'stdout')).toBe('𝄞 語')
    expect(await outputOf(tether, ref, 'stderr')).toBe('𝄞 語')
  })

  test('writes bytes that are no UTF-8 as replacement characters, also at the very end', async () => {
    const tether = await openWorld({ tasks: [runs()] })
    const { ref } = await tether.jobs.start(startOf('runs', `printf 'a\\377b\\360\\235'`))
    await tether.jobs.outcome(ref)
    expect(await outputOf(tether, ref, 'stdout')).toBe('a\ufffdb\ufffd')
  })

  test('collects up to its limit, says that it dropped the rest, and parts no character', async () => {
    const result = await exec('printf "語語語語"', { ...collected, maxCollectBytes: 7 })
    expect(result).toMatchObject({ stdout: '語語', truncated: true })
    expect(await exec('printf 語語', { ...collected, maxCollectBytes: 6 })).toMatchObject({
      stdout: '語語',
      truncated: false,
    })
  })

  test('collects 1 MiB where no limit is given', async () => {
    const measures = taskOf('measures', async (ctx) => {
      const { stdout, truncated } = await ctx.exec('head -c 3000000 /dev/zero', collected)
      return { length: stdout.length, truncated }
    })
    const tether = await openWorld({ tasks: [measures] })
    const { ref } = await tether.jobs.start(startOf('measures', null))
    expect((await tether.jobs.outcome(ref)).result).toEqual({ length: 1024 * 1024, truncated: true })
  })

  test('loses and mixes nothing of a large output, though the log is slow', async () => {
    const { tether, store } = await openHeldWorld({ tasks: [runs()] })
    // Each commit takes some turns of the loop longer than it would.
    store.holdCommits(async () => {
      for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    })
    const { ref } = await tether.jobs.start(startOf('runs', 'seq 1 200000'))
    expect((await tether.jobs.outcome(ref)).status).toBe('succeeded')
    const expected = `${Array.from({ length: 200_000 }, (_, n) => n + 1).join('\n')}\n`
    expect((await outputOf(tether, ref, 'stdout')) === expected).toBe(true)
  })

  test('pauses a command whose output is not taken, and loses nothing when it is', async () => {
    const logged = new Gate()
    const { tether, store } = await openHeldWorld({ tasks: [runs()] })
    const { ref } = await tether.jobs.start(
      startOf('runs', 'sleep 0.1; head -c 2000000 /dev/zero | tr "\\0" x; echo end >&2'),
    )
    await untilRunning(tether, ref)
    store.holdCommits(() => logged.opened)
    const asked = store.asked.length
    await eventually('something waits to be written', () => store.asked.length > asked)
    logged.open()
    expect((await tether.jobs.outcome(ref)).status).toBe('succeeded')
    expect(await outputOf(tether, ref, 'stdout')).toHaveLength(2_000_000)
    expect(await outputOf(tether, ref, 'stderr')).toBe('end\n')
  })

  test('fails with TETHER_SPAWN_FAILED where there is no such program or folder', async () => {
    for (const options of [{}, { cwd: '/nowhere/at/all' }]) {
      const tether = await openWorld({ tasks: [runs(options)] })
      const { ref } = await tether.jobs.start(startOf('runs', ['no-such-program-anywhere']))
      expect((await tether.jobs.outcome(ref)).failure?.code).toBe('TETHER_SPAWN_FAILED')
    }
  })
})

describe('processes that outlive the leader', () => {
  test('are ended with it, also where they hold the pipe open', async () => {
    const sleep = uniqueSleep()
    expect((await exec(`${sleep} & echo started`, collected)).stdout).toBe('started\n')
    expect(running(sleep)).toEqual([])
  })

  test('are kept until the job ends where that is asked for, and their output comes', async () => {
    const sleep = uniqueSleep()
    const go = new Gate()
    const keeps = taskOf('keeps', async (ctx) => {
      await ctx.exec(`(sleep 0.1; echo late; ${sleep}) & echo early`, { background: 'keep' })
      await go.opened
    })
    const tether = await openWorld({ tasks: [keeps] })
    const { ref } = await tether.jobs.start(startOf('keeps', null))
    await eventually('it runs', () => running(sleep).length === 1)
    const sink = new CollectingSink()
    ;(await tether.jobs.attach(ref, { after: 0, named: true, sink })).reader.start()
    await eventually('all was logged', () => sink.frames.includes('late'))
    go.open()
    expect((await tether.jobs.outcome(ref)).status).toBe('succeeded')
    expect(running(sleep)).toEqual([])
    expect(await outputOf(tether, ref, 'stdout')).toBe('early\nlate\n')
  })
})

describe('a cancel', () => {
  test('kills the tree and counts it in the receipt', async () => {
    const [a, b] = [uniqueSleep(), uniqueSleep()]
    const tether = await openWorld({ tasks: [runs()] })
    const { ref } = await tether.jobs.start(startOf('runs', `trap '' TERM; (setsid ${a}) & ${b} & wait`))
    await eventually('all run', () => running(a).length === 1 && running(b).length === 1)
    await end(tether, ref, 'cancel', { waitMs: 10_000 })
    const { receipt, status } = await tether.jobs.job(ref)
    expect(status).toBe('cancelled')
    expect(receipt).toMatchObject({ confirmed: true, survivors: [] })
    // Those that were seen: on a machine that is busy a look is cut short, so that it does not hold up the kill.
    expect(receipt?.released.processes).toBeGreaterThanOrEqual(1)
    expect([...running(a), ...running(b)]).toEqual([])
  })

  test('while the command is being started leaves nothing alive, whenever it comes', async () => {
    const sleep = uniqueSleep()
    const tether = await openWorld({ tasks: [runs()] })
    for (let turns = 0; turns < 6; turns += 1) {
      const { ref } = await tether.jobs.start(startOf('runs', sleep))
      for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve))
      await end(tether, ref, 'cancel', { waitMs: 10_000 })
      expect(await tether.jobs.job(ref)).toMatchObject({ status: 'cancelled' })
    }
    expect(running(sleep)).toEqual([])
    expect(tether.orchestrator.getActiveExecutionCount()).toBe(0)
  })
})

describe('a stop', () => {
  test('lets a command finish by default', async () => {
    const tether = await openWorld({ tasks: [runs(collected)] })
    const { ref } = await tether.jobs.start(startOf('runs', 'sleep 0.1; echo finished'))
    await untilRunning(tether, ref)
    await end(tether, ref, 'stop')
    expect(await tether.jobs.outcome(ref)).toMatchObject({ status: 'succeeded', result: { stdout: 'finished\n' } })
  })

  test('sends TERM where that is asked for, also to one that is only being started', async () => {
    const tether = await openWorld({ tasks: [runs({ ...collected, onStop: 'terminate' })] })
    for (const turns of [1, 3, 50]) {
      const { ref } = await tether.jobs.start(startOf('runs', 'sleep 60'))
      for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve))
      await end(tether, ref, 'stop')
      const { status } = await tether.jobs.outcome(ref)
      expect(['stopped', 'succeeded']).toContain(status)
    }
  })
})
