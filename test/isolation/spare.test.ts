import { readdirSync, readlinkSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { childrenOf } from '../../src/resources/processes/procfs.ts'
import { eventually, openWorld } from '../world.ts'
import { levels, openIsolated, runJob, startUntilOutput, untilWarm } from './world.ts'

/** The processes and the files that this process has, without numbers that change. */
function held(): string {
  const files = readdirSync('/proc/self/fd')
    .map(targetOf)
    .filter((target) => target !== undefined)
  return JSON.stringify({
    files: files.map((target) => target.replace(/\d+/g, 'N')).toSorted(),
    children: childrenOf(process.pid).length,
  })
}

function targetOf(fd: string): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    // The one by which the folder was listed.
    return undefined
  }
}

describe('the spare', () => {
  test('is not there before a task is isolated', async () => {
    const tether = await openWorld()
    expect(await tether.spare.warmPid()).toBeUndefined()
    await tether.stop()
  })

  test('is what the next isolated job runs in, once, and is then replaced', async () => {
    const tether = await openIsolated('group')
    const first = await untilWarm(tether)
    expect((await runJob(tether, 'echo')).view.result).toMatchObject({ pid: first })
    const second = await untilWarm(tether)
    expect(second).not.toBe(first)
    expect((await runJob(tether, 'echo')).view.result).toMatchObject({ pid: second })
  })

  test('is no limit: more jobs at once get processes of their own', async () => {
    const tether = await openIsolated('group')
    const ended = await Promise.all(Array.from({ length: 6 }, () => runJob(tether, 'echo')))
    const pids = ended.map(({ view }) => String(Object(view.result).pid))
    expect(new Set(pids).size).toBe(6)
    expect(ended.map(({ view }) => view.status)).toEqual(Array.from({ length: 6 }, () => 'succeeded'))
  })

  test('that died while it waited is replaced for the next job', async () => {
    const tether = await openIsolated('group')
    const pid = await untilWarm(tether)
    process.kill(pid, 'SIGKILL')
    await eventually('it is known to be dead', async () => (await tether.spare.warmPid()) === undefined)
    expect((await runJob(tether, 'echo')).view.status).toBe('succeeded')
    expect(await untilWarm(tether)).not.toBe(pid)
  })
})

describe.each(levels)('a server that is stopped at the level %s', (level) => {
  test('leaves no process and no file of an isolated task', async () => {
    // What is loaded and opened once stays.
    await (await openIsolated(level)).stop()
    const before = held()
    const tether = await openIsolated(level)
    await untilWarm(tether)
    await Promise.all([runJob(tether, 'echo'), runJob(tether, 'exits', 1), runJob(tether, 'execs')])
    await startUntilOutput(tether, 'spins', null, { settleMs: 300 })
    await startUntilOutput(tether, 'sleeps')
    await tether.stop()
    await eventually('all is given back', () => held() === before).catch(() => undefined)
    expect(held()).toBe(before)
  })

  test('while its spare is being started leaves none', async () => {
    await (await openIsolated(level)).stop()
    const before = held()
    await (await openIsolated(level)).stop()
    await eventually('all is given back', () => held() === before).catch(() => undefined)
    expect(held()).toBe(before)
  })
})
