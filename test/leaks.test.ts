import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { temporaryFolder } from './world.ts'

const PROGRAM = join(import.meta.dirname, 'leaksProgram.ts')

/** What the heap may grow by in one half: less than 200 bytes a job. */
const MAX_GROWTH_BYTES = 1_000_000

test('10,000 jobs that are dropped at random moments leave nothing behind', { timeout: 120_000 }, async () => {
  const dataDir = await temporaryFolder()
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', PROGRAM, dataDir, '10000', '50'])
  const { before, middle, after, last } = JSON.parse(stdout)
  // Compared with the middle: some things are opened once, when there is much to do for the first time.
  expect(middle.held).toMatchObject({
    'active jobs': 0,
    'pending requests': 0,
    executions: 0,
    'abandoned executions': 0,
  })
  for (const snapshot of [after, last]) expect(snapshot.held).toEqual(middle.held)
  const firstHalf = middle.heapBytes - before.heapBytes
  const secondHalf = after.heapBytes - middle.heapBytes
  // Caches fill up in the first half; what still grows in the second one, and as fast, is a leak.
  expect(secondHalf, `the first half grew by ${firstHalf} bytes`).toBeLessThan(
    Math.max(MAX_GROWTH_BYTES, firstHalf / 2),
  )
})
