import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { isAlive, readStat } from '../../src/resources/processes/procfs.ts'
import { eventually, temporaryFolder } from '../world.ts'
import { levels } from './world.ts'

const SERVER = join(import.meta.dirname, 'fixtures', 'serverToKill.ts')

/** The living processes that run in `folder`, as all of an isolated task do. */
function runningIn(folder: string): readonly number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && cwdOf(pid) === folder && isAlive(readStat(pid)))
}

function cwdOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`)
  } catch {
    // It ended between the listing and the look.
    return undefined
  }
}

test.each([...levels, 'none'])('a server that is killed takes its isolated tasks with it (%s)', async (level) => {
  const folder = await temporaryFolder()
  const server = spawn(process.execPath, [SERVER, level, folder], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [said] = await Promise.race([once(server.stdout, 'data'), once(server, 'exit')])
  expect(String(said)).toBe('ready\n')
  expect(runningIn(folder).length).toBeGreaterThanOrEqual(level === 'none' ? 1 : 2)
  server.kill('SIGKILL')
  await eventually('all are gone', () => runningIn(folder).length === 0)
})
