import { afterEach, describe, expect, test } from 'vitest'
import type { ContainmentLevel } from '../../src/job/receipt.ts'
import { HOSTILE_CHILDREN, type HostileChild, sleep } from './hostileChildren.ts'
import { bearing, dataFolder, RealServer } from './RealServer.ts'
import { availableLevels, run, running, until } from './world.ts'

const levels = await availableLevels()
const isRoot = process.geteuid?.() === 0
const GONE_IN_MS = 12_000
const TIMEOUT_MS = 6000

interface Released {
  readonly child: HostileChild
  readonly token: string
}

/** One token a child and test, which no other process of the machine has. */
function childrenFor(complete: boolean): readonly Released[] {
  rounds += 1
  return HOSTILE_CHILDREN.filter(({ needsComplete }) => complete || needsComplete !== true).map((child, index) => ({
    child,
    token: `${process.pid}7${rounds}7${index}`,
  }))
}
let rounds = 0

const tokens: string[] = []
/** Whatever a test let loose and did not end, the known survivors above all, is ended here. */
afterEach(() => {
  for (const pid of tokens.splice(0).flatMap(bearing)) kill(pid)
})

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
  }
}

async function atIt(released: readonly Released[]): Promise<void> {
  tokens.push(...released.map(({ token }) => token))
  for (const { child, token } of released) {
    await until(`${child.name} is at it`, () => running(sleep(token)).length >= child.sleeps, 20_000)
  }
}

/** What is left is what the level is known to leave. */
async function expectOnlyKnownSurvivors(level: ContainmentLevel, released: readonly Released[]): Promise<void> {
  const expected = released.map(({ child }) => [child.name, level === 'group' && child.escapesGroup === true ? 1 : 0])
  const left = () => released.map(({ child, token }) => [child.name, bearing(token).length])
  await until('they are gone', () => JSON.stringify(left()) === JSON.stringify(expected), GONE_IN_MS).catch(() => {})
  expect(left()).toEqual(expected)
}

interface Scene {
  readonly server: RealServer
  readonly lines: readonly string[]
  /** Settles when every child is at it. */
  readonly begun: () => Promise<void>
}

/** The ways in which a server's jobs end. Each settles when the end was asked for, or the server is gone. */
const ENDINGS: Readonly<Record<string, (scene: Scene) => Promise<void>>> = {
  'the disconnect of their client': async ({ server, lines, begun }) => {
    const client = new AbortController()
    const answers = lines.map(async (command) => {
      const answer = await server.fetch('/execute/stream', { task: 'command', input: { command } }, client.signal)
      await answer.text()
    })
    const settled = Promise.allSettled(answers)
    await begun()
    client.abort()
    await settled
  },
  'a cancel': async ({ server, lines, begun }) => {
    const jobs = await Promise.all(lines.map((line) => server.startCommand(line)))
    await begun()
    await Promise.all(jobs.map(({ id }) => server.post(`/jobs/${id}/cancel?wait=20`, {})))
  },
  'a timeout': async ({ server, lines, begun }) => {
    await Promise.all(lines.map((line) => server.startCommand(line, { timeoutMs: TIMEOUT_MS })))
    await begun()
  },
  'a shutdown': async ({ server, lines, begun }) => {
    await Promise.all(lines.map((line) => server.startCommand(line)))
    await begun()
    await server.kill('SIGTERM')
  },
  'SIGKILL of the server': async ({ server, lines, begun }) => {
    await Promise.all(lines.map((line) => server.startCommand(line)))
    await begun()
    await server.kill('SIGKILL')
  },
}

async function endOnServer(server: RealServer, complete: boolean, ending: string): Promise<readonly Released[]> {
  const released = childrenFor(complete)
  await ENDINGS[ending]?.({
    server,
    lines: released.map(({ child, token }) => child.line(token)),
    begun: () => atIt(released),
  })
  return released
}

describe.each(levels)('hostile children at the level $level', (containment) => {
  const { level, complete } = containment

  test('are gone after the end of their trees, but for those known to escape', async () => {
    const released = childrenFor(complete)
    const trees = await Promise.all(released.map(({ child, token }) => run(containment, child.line(token))))
    await atIt(released)
    await Promise.all(trees.map(({ process }) => process.end({ graceMs: 50, deadlineMs: 5000 })))
    await expectOnlyKnownSurvivors(level, released)
  })

  test.each(Object.keys(ENDINGS))('are gone after %s, but for those known to escape', async (ending) => {
    const server = await RealServer.start({ level, dataDir: dataFolder() })
    if (server === undefined) throw new Error(`the level ${level} was there a moment ago`)
    const released = await endOnServer(server, complete, ending)
    await expectOnlyKnownSurvivors(level, released)
    await until('the guardian is gone with its server', () => {
      const isDead = ending === 'a shutdown' || ending === 'SIGKILL of the server'
      return !isDead || server.guardianPid() === undefined
    })
  })
})

describe.runIf(isRoot && process.platform === 'linux')('hostile children of an ordinary user', () => {
  test.each(['pidns', 'group'] as const)('at the level %s are gone after SIGKILL of the server', async (level) => {
    const server = await RealServer.start({ level, dataDir: dataFolder(true), asNobody: true })
    // Some kernels let no user make a namespace: then it does not start at that level, and says so.
    if (server === undefined) return
    const released = await endOnServer(server, level === 'pidns', 'SIGKILL of the server')
    await expectOnlyKnownSurvivors(level, released)
  })
})
