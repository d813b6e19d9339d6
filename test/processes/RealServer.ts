import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { ContainmentLevel } from '../../src/job/receipt.ts'
import type { JobView } from '../../src/job/view.ts'
import { allPids, isAlive, readStat } from '../../src/resources/processes/procfs.ts'
import { programEnvironment } from '../programEnvironment.ts'
import { until } from './world.ts'

const MAIN = join(import.meta.dirname, '../../src/main.ts')
const NOBODY = 65534

export interface ServerOptions {
  readonly level: ContainmentLevel
  readonly dataDir: string
  readonly settings?: Readonly<Record<string, string>>
  /** Runs it as an ordinary user, to whom the folder must belong. */
  readonly asNobody?: boolean
}

/** The program itself in a process of its own, to be killed. */
export class RealServer {
  readonly url: string
  readonly #child: ChildProcess
  readonly #output: () => string

  private constructor(child: ChildProcess, url: string, output: () => string) {
    this.#child = child
    this.url = url
    this.#output = output
  }

  /** Settles when it listens; it ends with the test. Undefined where this machine does not give the level to that user. */
  static async start({ level, dataDir, settings, asNobody = false }: ServerOptions): Promise<RealServer | undefined> {
    const user = ['setpriv', '--reuid', `${NOBODY}`, '--regid', `${NOBODY}`, '--clear-groups', '--'] as const
    const [program, ...args] = asNobody ? [...user, process.execPath, MAIN] : [process.execPath, MAIN]
    const child = spawn(program, args, {
      cwd: '/',
      env: { ...programEnvironment, PORT: '0', DATA_DIR: dataDir, CONTAINMENT: level, DRAIN_MS: '0', ...settings },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    let output = ''
    for (const pipe of [child.stdout, child.stderr]) {
      pipe.setEncoding('utf8').on('data', (text: string) => {
        output += text
      })
    }
    onTestFinished(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGKILL')
      await once(child, 'exit')
    })
    const urlOf = () => /listens on (http:\S+)/.exec(output)?.[1]
    await until('the server listens', () => urlOf() !== undefined || child.exitCode !== null, 20_000)
    const url = urlOf()
    if (url !== undefined) return new RealServer(child, url, () => output)
    if (output.includes(`CONTAINMENT=${level} is not to be had`)) return undefined
    throw new Error(`the server did not start: ${output}`)
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get output(): string {
    return this.#output()
  }

  /** Its guardian's pid; undefined while there is none. */
  guardianPid(): number | undefined {
    return allPids().find((pid) => commandLine(pid).includes(`tether-guardian\0${this.pid}-`) && isAlive(readStat(pid)))
  }

  async kill(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.kill(signal)
    await once(this.#child, 'exit')
  }

  /** Starts a job in the background that runs a shell line. */
  async startCommand(command: string, more: Readonly<Record<string, unknown>> = {}): Promise<JobView> {
    return this.post('/jobs', { task: 'command', input: { command }, ...more })
  }

  async post(path: string, body: unknown): Promise<JobView> {
    const answer = await this.fetch(path, body)
    const view: JobView = JSON.parse(await answer.text())
    return view
  }

  fetch(path: string, body: unknown, signal?: AbortSignal): Promise<Response> {
    const headers = { 'content-type': 'application/json' }
    return fetch(this.url + path, {
      method: 'POST',
      headers,
      body: JSON.stringify(body),
      ...(signal === undefined ? {} : { signal }),
    })
  }

  async job(id: string): Promise<JobView> {
    const view: JobView = JSON.parse(await (await fetch(`${this.url}/jobs/${id}`)).text())
    return view
  }
}

/** A folder for a server, which is removed after the test. */
export function dataFolder(asNobody = false): string {
  const folder = mkdtempSync(join(tmpdir(), 'tether-real-'))
  if (asNobody) chownSync(folder, NOBODY, NOBODY)
  onTestFinished(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }))
  return folder
}

/** Living processes that have `token` in their command line. */
export function bearing(token: string): readonly number[] {
  return allPids().filter((pid) => pid !== process.pid && commandLine(pid).includes(token) && isAlive(readStat(pid)))
}

/** Waits until none bears the token. Returns after how many milliseconds; `undefined` where some still do at the deadline. */
export async function goneAfterMs(token: string, deadlineMs: number): Promise<number | undefined> {
  const askedMs = performance.now()
  try {
    await until('they are gone', () => bearing(token).length === 0, deadlineMs)
    return performance.now() - askedMs
  } catch {
    return undefined
  }
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    // It ended between the listing and the look.
    return ''
  }
}
