import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { CgroupContainment } from '../../src/resources/processes/CgroupContainment.ts'
import { instanceNameOf, isDeadInstance } from '../../src/resources/processes/instance.ts'
import { readStat, stillRuns } from '../../src/resources/processes/procfs.ts'
import { sweepLeftovers } from '../../src/resources/processes/sweepLeftovers.ts'
import { availableLevels, run, running, uniqueSleep, until } from './world.ts'

const levels = await availableLevels()
/** It has no guardian: as if both had been killed. */
const SERVER = join(import.meta.dirname, 'serverToKill.ts')

describe.each(levels)('a server that is killed without a guardian at the level $level', (containment) => {
  test('takes its leader with it, and the next start takes the rest and nothing of a server that runs', async () => {
    const [left, spared] = [uniqueSleep(), uniqueSleep()]
    const own = await run(containment, `setsid ${spared} & exec ${spared}`)
    const line = `setsid ${left} & trap "" TERM; while :; do sleep 0.05; done`
    const server = spawn(process.execPath, [SERVER, containment.level, line], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [said]: unknown[] = await Promise.race([once(server.stdout, 'data'), once(server, 'exit')])
    const leader = readStat(Number(String(said)))
    if (leader === undefined) throw new Error(`the server said ${String(said)}, expected the pid of a process`)
    await until('the children run', () => running(left).length === 1 && running(spared).length === 2)
    const untouched = running(spared)
    const instance = instanceNameOf(server.pid ?? 0)

    server.kill('SIGKILL')
    await until('the leader is gone', () => !stillRuns(leader) && isDeadInstance(instance))
    // A server that another test starts may be faster than this sweep, so what counts is what is left.
    await sweepLeftovers()
    expect(running(left)).toEqual([])
    if (containment instanceof CgroupContainment) {
      expect(existsSync(join(dirname(containment.parentPath), `tether-${instance}`))).toBe(false)
    }
    expect(running(spared)).toEqual(untouched)
    await own.process.end({ graceMs: 0, deadlineMs: 5000 })
  })
})

describe('an instance', () => {
  test('is dead where its pid began at another time, and alive where it did not', () => {
    const [pid, startTicks, namespace] = instanceNameOf(process.pid).split('-').map(Number)
    expect(isDeadInstance(`${pid}-${startTicks}-${namespace}`)).toBe(false)
    expect(isDeadInstance(`${pid}-${(startTicks ?? 0) - 1}-${namespace}`)).toBe(true)
    expect(isDeadInstance(`${2 ** 22 + 1}-1-${namespace}`)).toBe(true)
  })

  test('of another pid namespace is never called dead, nor is a name that is none', () => {
    expect(isDeadInstance(`${2 ** 22 + 1}-1-1`)).toBe(false)
    expect(isDeadInstance('mine')).toBe(false)
    expect(isDeadInstance(`${2 ** 22 + 1}-1`)).toBe(false)
  })
})
