import { PassThrough } from 'node:stream'
import { describe, expect, test } from 'vitest'
import type { ExitStatus } from '../../src/resources/processes/Containment.ts'
import type { ProcessTree } from '../../src/resources/processes/ProcessTree.ts'
import type { ProcessStat } from '../../src/resources/processes/procfs.ts'
import { TreeProcess } from '../../src/resources/processes/TreeProcess.ts'

/** A process in an uninterruptible sleep cannot be made at will, so the tree is one that says it has some. */
function unkillable(members: () => Promise<readonly ProcessStat[]>, strike: () => Promise<boolean>) {
  const told: string[] = []
  const tree: ProcessTree = {
    members,
    isEmpty: async () => false,
    strike,
    giveUp: () => told.push('gave up'),
    release: async () => {
      told.push('released')
    },
  }
  const exited = new Promise<ExitStatus>(() => {})
  const child = {
    pid: NOBODY,
    stdin: null,
    stdout: new PassThrough(),
    stderr: new PassThrough(),
    channel: null,
    exited,
  }
  return { told, contained: TreeProcess.follow(['make', 'test'], child, child, tree) }
}

/** No process has this pid: it is above what Linux gives out. */
const NOBODY = 2 ** 22 + 1
const self: ProcessStat = { pid: process.pid, state: 'D', groupId: NOBODY, startTicks: 0 }

describe('a tree that cannot be killed', () => {
  test('is not waited for past the deadline, and those left are named', async () => {
    const { told, contained } = unkillable(
      async () => [self],
      async () => false,
    )
    const askedMs = performance.now()
    const report = await contained.end({ graceMs: 0, deadlineMs: 50 })
    expect(performance.now() - askedMs).toBeLessThan(500)
    expect(report.survivors).toEqual([{ pid: process.pid, command: expect.stringContaining('node') }])
    // The leader was seen and is not among those left.
    expect(report.processes).toBe(1)
    expect(told).toEqual(['gave up', 'released'])
    expect(contained.stdout.destroyed).toBe(true)
  })

  test('is never called gone where looking fails', async () => {
    const failing = async () => {
      throw new Error('EMFILE')
    }
    const { contained } = unkillable(failing, failing)
    const report = await contained.end({ graceMs: 10, deadlineMs: 30 })
    expect(report).toMatchObject({ processes: 0, survivors: [{ pid: NOBODY, command: 'make test' }] })
  })

  test('a later end with a shorter deadline shortens the wait', async () => {
    const { contained } = unkillable(
      async () => [self],
      async () => false,
    )
    const ended = contained.end({ graceMs: 0, deadlineMs: 60_000 })
    const askedMs = performance.now()
    void contained.end({ graceMs: 0, deadlineMs: 20 })
    await ended
    expect(performance.now() - askedMs).toBeLessThan(1000)
  })
})
