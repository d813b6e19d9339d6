import { describe, expect, test } from 'vitest'
import { availableLevels, request, run, running, uniqueSleep, until } from './world.ts'

const levels = await availableLevels()
const KILL = { graceMs: 0, deadlineMs: 5000 }
const GRACE = { graceMs: 5000, deadlineMs: 5000 }

describe.each(levels)('ending a tree at the level $level', (containment) => {
  test('one sleeping process that honours TERM is gone well before its grace', async () => {
    const sleep = uniqueSleep()
    const { process } = await run(containment, `exec ${sleep}`)
    await until('it runs', () => running(sleep).length === 1)
    const askedMs = performance.now()
    const report = await process.end(GRACE)
    expect(report).toMatchObject({ processes: 1, survivors: [], killedAtMs: null })
    expect(report.verifiedAtMs - askedMs).toBeLessThan(1000)
    expect(running(sleep)).toEqual([])
    expect(await process.exited).toEqual(
      containment.level === 'pidns' ? { exitCode: 143, signal: null } : { exitCode: null, signal: 'SIGTERM' },
    )
  })

  test('TERM alone ends a shell that traps nothing, fast', async () => {
    const { process, stdout } = await run(containment, 'echo ready; while :; do sleep 0.01; done')
    await until('it runs', () => stdout.soFar() !== '')
    const askedMs = performance.now()
    process.terminate()
    await process.exited
    expect(performance.now() - askedMs).toBeLessThan(50)
    await process.end(KILL)
  })

  test('what a process says on TERM still comes out', async () => {
    const { process, stdout } = await run(
      containment,
      'trap "echo bye; exit 3" TERM; echo ready; while :; do sleep 0.01; done',
    )
    await until('it is ready', () => stdout.soFar() !== '')
    const report = await process.end(GRACE)
    expect(report.survivors).toEqual([])
    expect(await stdout.whole).toBe('ready\nbye\n')
    expect(await process.exited).toEqual({ exitCode: 3, signal: null })
  })

  test('TERM reaches each process once', async () => {
    const child = 'trap "echo term" TERM; echo ready; while :; do read x </dev/zero || :; sleep 0.01; done'
    const { process, stdout } = await run(
      containment,
      `setsid sh -c '${child.replace('read x </dev/zero || :; ', '')}' & wait; wait; wait`,
    )
    await until('it is ready', () => stdout.soFar() !== '')
    process.terminate()
    await until('it heard', () => stdout.soFar().includes('term'))
    await process.end(KILL)
    expect(stdout.soFar().match(/term/g)).toHaveLength(1)
  })

  test('one that ignores TERM is killed after the grace', async () => {
    const { process, stdout } = await run(containment, 'trap "" TERM; echo ready; while :; do sleep 0.01; done')
    await until('it is ready', () => stdout.soFar() !== '')
    const askedMs = performance.now()
    const report = await process.end({ graceMs: 100, deadlineMs: 5000 })
    expect(report.survivors).toEqual([])
    expect((report.killedAtMs ?? 0) - askedMs).toBeGreaterThanOrEqual(99)
    expect((report.killedAtMs ?? Infinity) - askedMs).toBeLessThan(400)
    expect((await process.exited).signal).toBe('SIGKILL')
  })

  test('the grace is for the whole tree: a child may finish what it does on TERM after its leader is gone', async () => {
    const child = 'trap "sleep 0.1; echo finished; exit" TERM; echo ready; while :; do sleep 0.01; done'
    const { process, stdout } = await run(containment, `sh -c '${child}'; :`)
    await until('it is ready', () => stdout.soFar() !== '')
    const report = await process.end(GRACE)
    expect(report).toMatchObject({ survivors: [], killedAtMs: null })
    expect(await stdout.whole).toBe('ready\nfinished\n')
  })

  test('a stopped process hears TERM', async () => {
    const { process, stdout } = await run(
      containment,
      'trap "echo bye; exit" TERM; echo ready; kill -STOP $$; sleep 1000',
    )
    await until('it is ready', () => stdout.soFar() !== '')
    await process.end(GRACE)
    expect(await stdout.whole).toBe('ready\nbye\n')
  })

  test('a stopped process is killed', async () => {
    const { process, stdout } = await run(containment, 'trap "" TERM CONT; echo ready; kill -STOP $$; sleep 1000')
    await until('it is ready', () => stdout.soFar() !== '')
    expect((await process.end(KILL)).survivors).toEqual([])
  })

  test('a nested tree of 13 is counted and gone', async () => {
    const sleep = uniqueSleep()
    const branch = `(${sleep} & ${sleep} & wait) &`
    const { process } = await run(containment, `${branch} ${branch} ${branch} ${branch} wait`)
    await until('all run', () => running(sleep).length === 8)
    const report = await process.end(KILL)
    expect(report).toMatchObject({ processes: 13, survivors: [] })
    expect(running(sleep)).toEqual([])
  })

  const escapes: readonly [string, (sleep: string) => string][] = [
    ['with `setsid`, its leader alive', (sleep) => `setsid ${sleep} & wait`],
    ['with `setsid`, its leader gone', (sleep) => `setsid sh -c '${sleep} &' & wait; exec sleep 1000`],
    ['by a double fork', (sleep) => `(setsid sh -c '(${sleep} &) &' &); exec sleep 1000`],
  ]
  test.each(escapes)('a process that left the group %s is gone', async (_, line) => {
    const sleep = uniqueSleep()
    const { process } = await run(containment, line(sleep))
    await until('it runs', () => running(sleep).length === 1)
    expect((await process.end(KILL)).survivors).toEqual([])
    expect(running(sleep)).toEqual([])
  })

  test.each(escapes)('a process that left the group %s hears TERM', async (_, line) => {
    const sleep = uniqueSleep()
    const { process } = await run(containment, line(sleep))
    await until('it runs', () => running(sleep).length === 1)
    process.terminate()
    await until('it is gone', () => running(sleep).length === 0)
    await process.end(KILL)
  })

  test('a daemon with an empty environment is gone, except from a group', async () => {
    const sleep = uniqueSleep()
    const { process } = await run(containment, `(env -i setsid sh -c '(${sleep} &) &' &); exec sleep 1000`)
    await until('it runs', () => running(sleep).length === 1)
    await process.end(KILL)
    if (containment.complete) {
      expect(running(sleep)).toEqual([])
    } else {
      // The known limit of the level, which is why it does not call itself complete.
      expect(running(sleep)).toHaveLength(1)
      for (const pid of running(sleep)) globalThis.process.kill(pid, 'SIGKILL')
    }
  })

  test('the end is not held up by a pipe that an escaped process holds', async () => {
    const sleep = uniqueSleep()
    const { process } = await run(containment, `(env -i setsid ${sleep} &); exit 0`)
    await until('it runs', () => running(sleep).length === 1)
    await process.exited
    const askedMs = performance.now()
    await process.end(KILL)
    expect(performance.now() - askedMs).toBeLessThan(500)
    expect(process.stdout.destroyed).toBe(true)
    for (const pid of running(sleep)) globalThis.process.kill(pid, 'SIGKILL')
  })

  test('a burst of forks is gone', async () => {
    const sleep = uniqueSleep()
    const { process } = await run(containment, `i=0; while [ $i -lt 200 ]; do ${sleep} & i=$((i+1)); done; wait`)
    await until('it is at it', () => running(sleep).length > 20)
    expect((await process.end(KILL)).survivors).toEqual([])
    expect(running(sleep)).toEqual([])
  })

  test('processes that start each other anew are gone', async () => {
    const sleep = uniqueSleep()
    const line = `f() { while :; do setsid sh -c '${sleep.replace('sleep ', 'sleep 0.01; : ')}' & setsid ${sleep} & sleep 0.02; done; }; f & f & wait`
    const { process } = await run(containment, line)
    await until('it is at it', () => running(sleep).length > 5)
    expect((await process.end(KILL)).survivors).toEqual([])
    expect(running(sleep)).toEqual([])
  })

  test('a leader that exits leaves its children to the end', async () => {
    const sleep = uniqueSleep()
    const { process } = await run(containment, `${sleep} & ${sleep} & exit 4`)
    expect(await process.exited).toEqual({ exitCode: 4, signal: null })
    await until('both run', () => running(sleep).length === 2)
    const report = await process.end(KILL)
    expect(report).toMatchObject({ processes: 3, survivors: [] })
    expect(report.killedAtMs).not.toBeNull()
    expect(running(sleep)).toEqual([])
  })

  test('two ends at once are one', async () => {
    const { process } = await run(containment, 'exec sleep 1000')
    const first = process.end(GRACE)
    expect(process.end(KILL)).toBe(first)
    expect((await first).survivors).toEqual([])
    expect(await process.end(GRACE)).toEqual(await first)
  })

  test('a later end with a shorter grace shortens the wait', async () => {
    const { process, stdout } = await run(containment, 'trap "" TERM; echo ready; while :; do sleep 0.01; done')
    await until('it is ready', () => stdout.soFar() !== '')
    const askedMs = performance.now()
    const ended = process.end({ graceMs: 60_000, deadlineMs: 5000 })
    await new Promise(setImmediate)
    void process.end({ graceMs: 20, deadlineMs: 5000 })
    const report = await ended
    expect((report.killedAtMs ?? Infinity) - askedMs).toBeLessThan(1000)
  })

  test('an end right after the start takes it', async () => {
    for (let round = 0; round < 10; round += 1) {
      const sleep = uniqueSleep()
      const process = await containment.spawn(request(['sh', '-c', `${sleep} & ${sleep}`]))
      const report = await process.end(round % 2 === 0 ? KILL : GRACE)
      expect(report.survivors).toEqual([])
      expect(running(sleep)).toEqual([])
    }
  })

  test('terminate after the end is harmless', async () => {
    const { process } = await run(containment, 'exit 0')
    await process.exited
    await process.end(KILL)
    process.terminate()
    expect((await process.end(KILL)).survivors).toEqual([])
  })

  test('a reader that paused for good does not hold the end up', async () => {
    const process = await containment.spawn(
      request(['sh', '-c', 'trap "exit 0" TERM; echo ready; yes | head -c 100000; while :; do sleep 0.01; done']),
    )
    process.stderr.resume()
    process.stdout.pause()
    await until('something came', () => process.stdout.readableLength > 0)
    const askedMs = performance.now()
    await process.end(GRACE)
    expect(performance.now() - askedMs).toBeLessThan(1000)
    process.stdout.destroy()
  })
})
