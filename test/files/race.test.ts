import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { describe, expect, onTestFinished, test } from 'vitest'
import { ToolError } from '../../src/resources/files/ToolError.ts'
import { expectUntouched, NEVER, openDescriptors, openWorld, SECRET } from './world.ts'

const SWAPPER = join(import.meta.dirname, 'fixtures', 'swapper.ts')

const MIN_SWAPS = 2000
/** So many calls shall have succeeded, and so many failed: else the two sides have hardly met. */
const MIN_OUTCOMES = 10
const LEAST_MS = 3000
const DEADLINE_MS = 40_000

/** Starts a process that swaps `victim` for a link to `target` and back. Returns how to stop it; settles with how often it did. */
async function startSwapping(victim: string, target: string): Promise<() => Promise<number>> {
  const swapper = spawn(process.execPath, [SWAPPER, victim, target], { stdio: ['pipe', 'pipe', 'inherit'] })
  onTestFinished(() => void swapper.kill('SIGKILL'))
  await once(swapper.stdout, 'readable')
  return async () => {
    swapper.stdin.end()
    return Number((await text(swapper.stdout)).split('\n').at(-2))
  }
}

describe.runIf(process.platform === 'linux')('while another process swaps', () => {
  test.each([
    ['the folder', 'a/b', ''],
    ['the file itself', 'a/b/canary.txt', 'canary.txt'],
    ['a folder further up', 'a', ''],
    ['the workspace', '', ''],
  ])(
    '%s for a link, nothing outside is read, written or listed',
    async (_, victim, target) => {
      const { files, root, outside } = openWorld({ limits: { maxSearchMs: 1000 } })
      mkdirSync(join(root, 'a/b'), { recursive: true })
      writeFileSync(join(root, 'a/b/canary.txt'), 'inside')
      const calls = [
        () => files.read('a/b/canary.txt', {}, NEVER),
        () => files.write('a/b/canary.txt', 'inside', NEVER),
        () => files.edit('a/b/canary.txt', { oldText: 'inside', newText: 'Inside' }, NEVER),
        () => files.edit('a/b/canary.txt', { oldText: 'Inside', newText: 'inside' }, NEVER),
        () => files.list({ path: 'a/b' }, NEVER),
        () => files.search('canary', { path: 'a' }, NEVER),
        () => files.write('a/b/c/d.txt', 'inside', NEVER),
      ]
      const stop = await startSwapping(join(root, victim), join(outside.folder, target))
      const before = openDescriptors()
      const seen = { done: 0, refused: 0 }
      const startedMs = performance.now()
      const hasEnough = (): boolean => Math.min(seen.done, seen.refused) >= MIN_OUTCOMES
      for (let ms = 0; ms < (hasEnough() ? LEAST_MS : DEADLINE_MS); ms = performance.now() - startedMs) {
        for (const outcome of await Promise.all(calls.map((call) => call().catch((error: unknown) => error)))) {
          if (outcome instanceof Error && !(outcome instanceof ToolError)) throw outcome
          seen[outcome instanceof Error ? 'refused' : 'done'] += 1
          const said = outcome instanceof Error ? outcome.message : JSON.stringify(outcome)
          expect(said).not.toContain(SECRET)
          expect(said).not.toContain(`${SECRET.length} bytes`)
        }
      }
      const after = openDescriptors()
      const swaps = await stop()
      expectUntouched(outside)
      expect(after).toBe(before)
      expect(swaps).toBeGreaterThan(MIN_SWAPS)
      expect(seen.done).toBeGreaterThanOrEqual(MIN_OUTCOMES)
      expect(seen.refused).toBeGreaterThanOrEqual(MIN_OUTCOMES)
    },
    90_000,
  )
})
