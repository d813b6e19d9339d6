import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, rmdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { CgroupContainment } from '../../src/resources/processes/CgroupContainment.ts'
import { readStat, stillRuns } from '../../src/resources/processes/procfs.ts'
import { availableLevels, running, uniqueSleep, until } from './world.ts'

const levels = await availableLevels()
const SERVER = join(import.meta.dirname, 'serverToKill.ts')

describe.each(levels)('a server that is killed at the level $level', (containment) => {
  test(`takes ${containment.level === 'pidns' ? 'the whole tree' : 'the leader'} with it`, async () => {
    const sleep = uniqueSleep()
    const line = `setsid ${sleep} & trap "" TERM; while :; do sleep 0.05; done`
    const server = spawn(process.execPath, [SERVER, containment.level, line], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [said] = await Promise.race([once(server.stdout, 'data'), once(server, 'exit')])
    const leader = readStat(Number(String(said)))
    if (leader === undefined) throw new Error(`the server said ${said}, expected the pid of a process`)
    await until('the child runs', () => running(sleep).length === 1)
    const start = readStat(server.pid ?? 0)?.startTicks

    server.kill('SIGKILL')
    await until('the leader is gone', () => !stillRuns(leader))
    if (containment.level === 'pidns') {
      await until('all are gone', () => running(sleep).length === 0)
      return
    }
    // What these levels leave to a guardian.
    expect(running(sleep)).toHaveLength(1)
    for (const pid of running(sleep)) process.kill(pid, 'SIGKILL')
    if (containment instanceof CgroupContainment) await removeGroups(containment, `tether-${server.pid}-${start}`)
  })
})

async function removeGroups(containment: CgroupContainment, name: string): Promise<void> {
  const parent = join(dirname(containment.parentPath), name)
  writeFileSync(join(parent, 'cgroup.kill'), '1')
  await until('the groups can be removed', () => {
    try {
      for (const entry of readdirSync(parent, { withFileTypes: true })) {
        if (entry.isDirectory()) rmdirSync(join(parent, entry.name))
      }
      rmdirSync(parent)
      return true
    } catch {
      // Still being emptied.
      return false
    }
  })
}
