import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, vi } from 'vitest'
import { programEnvironment } from '../programEnvironment.ts'

export const CLIENT = fileURLToPath(new URL('../../api-client.ts', import.meta.url))

export interface SpawnedClient {
  readonly child: ChildProcess
  readonly out: () => string
  readonly err: () => string
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>
}

interface Options {
  readonly server?: string
  readonly env?: Readonly<Record<string, string>>
  readonly stdin?: string
  /** `false`: nobody reads stdout until the test does. */
  readonly readStdout?: boolean
}

/** api-client.ts as a process of its own, under the Node that runs the tests. Killed when the test ends. */
export function spawnClient(args: readonly string[], options: Options = {}): SpawnedClient {
  return spawnProgram(process.execPath, [CLIENT, ...args], options)
}

export function spawnProgram(
  program: string,
  args: readonly string[],
  options: Options & { cwd?: string } = {},
): SpawnedClient {
  const { server, env, stdin = '', readStdout = true, cwd } = options
  const child = spawn(program, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: {
      ...programEnvironment,
      HOME: process.env['HOME'],
      ...(server === undefined ? {} : { TETHER_URL: server }),
      ...env,
    },
    cwd,
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  child.stdin.on('error', () => {})
  child.stdin.end(stdin)
  let out = ''
  let err = ''
  if (readStdout) child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text))
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve, reject) => {
    child.on('error', reject)
    child.on(readStdout ? 'close' : 'exit', (code: number | null, signal: NodeJS.Signals | null) =>
      resolve({ code, signal }),
    )
  })
  return { child, out: () => out, err: () => err, exited }
}

/** Polls until the assertion holds; a busy machine may take its time to start a process. */
export async function eventually(assertion: () => void | Promise<void>): Promise<void> {
  await vi.waitFor(assertion, { timeout: 10_000, interval: 10 })
}

export async function expectExit(client: SpawnedClient, code: number): Promise<void> {
  const ended = await client.exited
  expect({ ...ended, stderr: client.err() }).toEqual({ code, signal: null, stderr: client.err() })
}
