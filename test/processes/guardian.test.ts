import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { describe, expect, onTestFinished, test } from 'vitest'
import { GUARDIAN_SCRIPT } from '../../src/resources/processes/guardianScript.ts'
import { readStat, stillRuns } from '../../src/resources/processes/procfs.ts'
import { dataFolder, RealServer } from './RealServer.ts'
import { PATH, running, uniqueSleep, until } from './world.ts'

async function startGroupServer(): Promise<RealServer> {
  const server = await RealServer.start({ level: 'group', dataDir: dataFolder() })
  if (server === undefined) throw new Error('the level group is always there')
  return server
}

describe.runIf(process.platform === 'linux')('the guardian of a server', () => {
  test('leads a session of its own and holds nothing that the server has open', async () => {
    const server = await startGroupServer()
    const guardian = server.guardianPid() ?? 0
    const session = readFileSync(`/proc/${guardian}/stat`, 'utf8').split(') ')[1]?.split(' ')[3]
    expect(Number(session)).toBe(guardian)
    // What this test had itself inherited, and its children with it, is not the server's.
    const inherited = [...targetsOf(process.pid), '/dev/null']
    const held = targetsOf(guardian).filter((target) => !inherited.includes(target))
    expect(held).toEqual([expect.stringMatching(/^socket:/)])
    expect(targetsOf(server.pid)).not.toContain(held[0])
  })

  test('stays where TERM, INT and HUP reach it', async () => {
    const server = await startGroupServer()
    const guardian = server.guardianPid() ?? 0
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.kill(guardian, signal)
    const stat = readStat(guardian)
    const sleep = uniqueSleep()
    await server.startCommand(`setsid ${sleep} & wait`)
    await until('it runs', () => running(sleep).length === 1)
    expect(server.guardianPid()).toBe(guardian)
    expect(stat !== undefined && stillRuns(stat)).toBe(true)
  })

  test('is replaced when it dies, and the new one knows the trees that were there', async () => {
    const server = await startGroupServer()
    const sleep = uniqueSleep()
    // Only by its group can this one be found.
    await server.startCommand(`env -i ${sleep} & wait`)
    await until('it runs', () => running(sleep).length === 1)
    const first = server.guardianPid() ?? 0
    process.kill(first, 'SIGKILL')
    await until('another is there', () => ![undefined, first].includes(server.guardianPid()))
    await until('it is said', () => server.output.includes('the guardian died; another is started'))
    // It is told of trees in their order: once a later one runs, it has been told of this one.
    await server.startCommand(`${uniqueSleep()} & wait`)
    await server.kill('SIGKILL')
    await until('it is gone', () => running(sleep).length === 0)
  })

  test('leaves with a server that is shut down', async () => {
    const server = await startGroupServer()
    expect(server.guardianPid()).toBeDefined()
    await server.kill('SIGTERM')
    expect(server.guardianPid()).toBeUndefined()
  })
})

describe.runIf(process.platform === 'linux')('a guardian whose server is dead', () => {
  const INSTANCE = `${2 ** 22 + 2}-1-1`

  test('kills the groups it was told of, and none that it was told is over or that began at another time', async () => {
    const [known, reused, over] = [await leader(), await leader(), await leader()]
    const lines = [`+${known.pid} ${known.startTicks}`, `+${reused.pid} ${reused.startTicks - 1}`]
    lines.push(`+${over.pid} ${over.startTicks}`, `-${over.pid} ${over.startTicks}`)
    await guard(INSTANCE, `${lines.join('\n')}\n`)
    expect([known, reused, over].map(stillRuns)).toEqual([false, true, true])
  })

  test('kills who bears the marker of its instance, and nobody else', async () => {
    const own = await leader({ TETHER_JOB: `default:job/${INSTANCE}-7` })
    const inside = await leader({ TETHER_JOB: `default:job/${INSTANCE}-7/default:job/5-6-7-1` })
    const others = await leader({ TETHER_JOB: `default:job/1${INSTANCE}-7` })
    await guard(INSTANCE, '')
    expect([own, inside, others].map(stillRuns)).toEqual([false, false, true])
  })

  test('kills nobody where it was told to leave', async () => {
    const known = await leader({ TETHER_JOB: `default:job/${INSTANCE}-7` })
    await guard(INSTANCE, `+${known.pid} ${known.startTicks}\nquit\n`)
    expect(stillRuns(known)).toBe(true)
  })

  test('is not stopped by half a line', async () => {
    const known = await leader()
    await guard(INSTANCE, `+${known.pid} ${known.startTicks}\n+1`)
    expect(stillRuns(known)).toBe(false)
  })
})

/** A process that leads its own group, and ends with the test. */
async function leader(env: Readonly<Record<string, string>> = {}) {
  const child: ChildProcess = spawn('sleep', ['60'], { detached: true, stdio: 'ignore', env: { PATH, ...env } })
  onTestFinished(() => void child.kill('SIGKILL'))
  await once(child, 'spawn')
  const stat = readStat(child.pid ?? 0)
  if (stat === undefined) throw new Error('a process that was started has no pid')
  return stat
}

/** Tells a guardian so much, dies, and settles when it has done its work. */
async function guard(instance: string, told: string): Promise<void> {
  const child = spawn('sh', ['-c', 'eval "$TETHER_GUARDIAN"', 'tether-guardian', instance, ''], {
    env: { PATH, LC_ALL: 'C', TETHER_GUARDIAN: GUARDIAN_SCRIPT, TETHER_SHELL: '/bin/sh' },
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  child.stdin.end(told)
  expect(await once(child, 'exit')).toEqual([0, null])
}

function targetsOf(pid: number): readonly string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)]
    } catch {
      // The one by which the folder was listed.
      return []
    }
  })
}
