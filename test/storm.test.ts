import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { programEnvironment } from './programEnvironment.ts'

const STORM = join(import.meta.dirname, '../scripts/storm.ts')

async function runStorm(args: readonly string[]): Promise<{ code: unknown; out: string }> {
  const child = spawn(process.execPath, [STORM, ...args], {
    env: { ...programEnvironment, HOME: process.env['HOME'] },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  onTestFinished(() => void child.kill('SIGTERM'))
  let out = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (out += text))
  const [code]: unknown[] = await once(child, 'close')
  return { code, out }
}

test('after a storm of streams that end in every way nothing is left of them', { timeout: 120_000 }, async () => {
  const { code, out } = await runStorm(['--streams', '60'])
  // The whole output: it has the seed that makes the same storm again.
  expect(code, out).toBe(0)
  expect(out).toContain('0 things left over')
})

test.each([[[]], [['--kill']]])(
  'after a storm over servers that are one nothing is left of it: %s',
  { timeout: 180_000 },
  async (more) => {
    const { code, out } = await runStorm(['--streams', '60', '--replicas', '3', ...more])
    expect(code, out).toBe(0)
    expect(out).toContain('0 things left over')
  },
)

test.each([
  ['--streams', 'many'],
  ['--url', 'http://192.0.2.1:3000'],
  ['--seed'],
  ['--kill'],
  ['--replicas', '1', '--kill'],
])('a storm refuses wrong usage: %s %s', async (...args) => {
  const { code, out } = await runStorm(args)
  expect(code, out).toBe(2)
})
