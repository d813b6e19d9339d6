import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { programEnvironment } from '../programEnvironment.ts'
import { eventually } from '../world.ts'

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'main.ts')

export interface ServerProcess {
  readonly child: ChildProcess
  /** What it has written to stdout and stderr so far. */
  out(): string
  err(): string
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>
  /** Where it listens, once its start line says so. */
  url(): Promise<string>
}

/** `src/main.ts` as a process of its own, run with plain node. Killed when the test ends. */
export function spawnServer(settings: Readonly<Record<string, string>>): ServerProcess {
  const child = spawn(process.execPath, [MAIN], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...programEnvironment, HOME: process.env['HOME'], PORT: '0', CONTAINMENT: 'group', ...settings },
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  let out = ''
  let err = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text))
  const exited = once(child, 'close').then(([code, signal]) => ({ code, signal }))
  const url = (): Promise<string> =>
    eventually(
      'the server says where it listens',
      () => {
        if (child.exitCode !== null) throw new Error(`the server ended with ${child.exitCode}: ${err}`)
        return /listens on (http:\S+)/.exec(out)?.[1]
        // A busy machine needs seconds for the start of a program.
      },
      30_000,
    )
  return { child, out: () => out, err: () => err, exited, url }
}

/** Starts a job in the background. Gives its id. */
export async function startJob(url: string, body: object): Promise<string> {
  const answer = await fetch(`${url}/jobs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  const { id } = Object(await answer.json())
  if (answer.status !== 202) throw new Error(`a start must be answered with 202, got ${answer.status}`)
  return String(id)
}

export async function statusOf(url: string, id: string): Promise<string> {
  const answer = await fetch(`${url}/jobs/${id}`)
  return String(Object(await answer.json()).status)
}
