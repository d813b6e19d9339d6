import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { startServer } from './world.ts'

test('a process that has closed all that it had in Redis ends by itself', async () => {
  const server = await startServer()
  const program = join(import.meta.dirname, 'fixtures', 'openAndClose.ts')
  const child = spawn(process.execPath, [program, server.url], { stdio: ['pipe', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  const [said] = await once(child.stdout.setEncoding('utf8'), 'data')
  expect(said).toBe('rejected\n')
  const beganMs = performance.now()
  child.stdin.end()
  expect(await once(child, 'exit')).toEqual([0, null])
  expect(performance.now() - beganMs).toBeLessThan(1500)
})
