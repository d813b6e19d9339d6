import { readdirSync, readlinkSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { childrenOf } from '../../src/resources/processes/procfs.ts'
import { availableLevels, request, run, uniqueSleep, until } from './world.ts'

const levels = await availableLevels()

/** What the process holds: files, children (dead ones that nobody collected too), timers and handles, listeners on itself. */
function held(): string {
  const files = readdirSync('/proc/self/fd')
    .map(targetOf)
    .filter((target) => target !== undefined)
  const kinds = files.map((target) => target.replace(/\d+/g, 'N')).sort()
  const listeners = process.eventNames().map((name) => `${String(name)}:${process.listenerCount(name)}`)
  const resources = process.getActiveResourcesInfo().filter((name) => name !== 'Timeout' && name !== 'Immediate')
  return JSON.stringify({ kinds, listeners, resources, children: childrenOf(process.pid).length })
}

function targetOf(fd: string): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    // The one by which the folder was listed.
    return undefined
  }
}

/** What is held once nothing of an earlier test is still closing: the same for 20 looks. */
async function heldAtRest(): Promise<string> {
  let last = held()
  let same = 0
  await until('nothing changes any more', () => {
    const now = held()
    same = now === last ? same + 1 : 0
    last = now
    return same === 20
  })
  return last
}

function timers(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length
}

describe.each(levels)('after fifty trees at the level $level', (containment) => {
  test('nothing has grown', { timeout: 60_000 }, async () => {
    const round = async (index: number) => {
      const stays = index % 2 === 0
      const { process } = await run(containment, stays ? `${uniqueSleep()} & exec ${uniqueSleep()}` : 'echo x; exit 0')
      if (!stays) await process.exited
      await process.end({ graceMs: index % 4 === 0 ? 1000 : 0, deadlineMs: 5000 })
    }
    await round(0)
    await round(1)
    const before = await heldAtRest()
    const timersBefore = timers()
    for (let index = 0; index < 50; index += 5) {
      await Promise.all(Array.from({ length: 5 }, (_, offset) => round(index + offset)))
    }
    await until('everything is given back', () => held() === before).catch(() => {})
    expect(held()).toBe(before)
    expect(timers()).toBeLessThanOrEqual(timersBefore + 1)
  })

  test('nothing is held by refusals', async () => {
    const before = await heldAtRest()
    for (let index = 0; index < 10; index += 1) {
      await expect(containment.spawn(request(['echo', 'x'.repeat(3_000_000)]))).rejects.toThrow('must fit')
    }
    await until('everything is given back', () => held() === before)
  })

  test('a pipe that nobody reads is closed by the end', async () => {
    const before = await heldAtRest()
    const process = await containment.spawn(request(['seq', '1', '100000']))
    await process.end({ graceMs: 20, deadlineMs: 5000 })
    await until('everything is given back', () => held() === before)
  })
})
