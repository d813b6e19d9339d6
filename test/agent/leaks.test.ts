import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { temporaryFolder } from '../world.ts'

const PROGRAM = join(import.meta.dirname, 'fixtures', 'abortProgram.ts')

/** What the heap may grow by in one half: 200 bytes a call. */
const MAX_GROWTH_BYTES = 1_000_000

test('10,000 calls of models that are aborted, of many jobs and within few, leave nothing behind', {
  timeout: 180_000,
}, async () => {
  const dataDir = await temporaryFolder()
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', PROGRAM, dataDir, '5000', '5000'])
  const { before, middle, after } = JSON.parse(stdout)
  expect(middle.held).toMatchObject({ 'active jobs': 0, executions: 0 })
  expect(after.held).toEqual(middle.held)
  for (const snapshot of [before, middle, after]) expect(snapshot).toMatchObject({ connections: 0, warnings: [] })
  const firstHalf = middle.heapBytes - before.heapBytes
  const secondHalf = after.heapBytes - middle.heapBytes
  // Caches fill up in the first half; what still grows in the second one, and as fast, is a leak.
  expect(secondHalf, `the first half grew by ${firstHalf} bytes`).toBeLessThan(
    Math.max(MAX_GROWTH_BYTES, firstHalf / 2),
  )
})
