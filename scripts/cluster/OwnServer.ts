import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

const MAIN = join(import.meta.dirname, '../../src/main.ts')
const START_DEADLINE_MS = 20_000
const STOP_DEADLINE_MS = 20_000

/** From pino: `error` and worse. */
const ERROR_LEVEL = 50

export interface OwnServerOptions {
  /** Its environment, besides `DATA_DIR`. `PORT` is a free one where it is not said. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** Default: its own folder. */
  readonly cwd?: string
  /** Told what it writes, line by line, but for the one that says where it listens. */
  readonly onLine?: (line: string) => void
}

/** A server with a folder of its own; both are gone when it is removed. */
export class OwnServer {
  readonly url: URL
  readonly #child: ChildProcess
  readonly #folder: string
  readonly #complaints: string[]
  readonly #exited: Promise<string>

  private constructor(child: ChildProcess, folder: string, url: URL, complaints: string[]) {
    this.#child = child
    this.#folder = folder
    this.url = url
    this.#complaints = complaints
    this.#exited = once(child, 'exit').then(([code, signal]) => String(code ?? signal))
  }

  /** Settles when it listens. */
  static async start({ env, cwd, onLine = () => undefined }: OwnServerOptions): Promise<OwnServer> {
    const folder = await mkdtemp(join(tmpdir(), 'tether-own-'))
    const complaints: string[] = []
    const child = spawn(process.execPath, [MAIN], {
      cwd: cwd ?? folder,
      env: { PORT: '0', ...env, DATA_DIR: join(folder, 'data') },
      stdio: ['ignore', 'pipe', 'pipe'],
      // Ctrl+C in a terminal is for the program that starts it, which then ends its server: not for both at once.
      detached: true,
    })
    const listening = Promise.withResolvers<URL>()
    const timer = setTimeout(() => listening.reject(new Error('the server did not start in time')), START_DEADLINE_MS)
    child.once('error', listening.reject)
    child.once('exit', (code) =>
      listening.reject(new Error(`the server exited with ${code}: ${complaints.join('\n')}`)),
    )
    createInterface({ input: child.stderr }).on('line', (line) => {
      complaints.push(line)
      onLine(line)
    })
    createInterface({ input: child.stdout }).on('line', (line) => {
      const url = /listens on (http:\S+)/.exec(line)?.[1]
      if (url !== undefined) return listening.resolve(new URL(url))
      if (isError(line)) complaints.push(line)
      onLine(line)
    })
    try {
      return new OwnServer(child, folder, await listening.promise, complaints)
    } catch (error) {
      child.kill('SIGKILL')
      await rm(folder, { recursive: true, force: true })
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** Settles when it has exited, of its own accord or not, with its code or the signal that ended it. */
  get exited(): Promise<string> {
    return this.#exited
  }

  /** What it wrote that a server in order does not write. */
  get complaints(): readonly string[] {
    return this.#complaints
  }

  /** Temporary files of jobs; there are none once all jobs have ended. */
  async temporaryFiles(): Promise<readonly string[]> {
    try {
      return await readdir(join(this.#folder, 'data/tmp'), { recursive: true })
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return []
      throw error
    }
  }

  /** Ends it as an operator would. Settles with how it exited: `0` is in order. */
  async stop(): Promise<string> {
    this.#child.kill('SIGTERM')
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_DEADLINE_MS)
    const exit = await this.#exited
    clearTimeout(timer)
    return exit
  }

  /** With SIGKILL. Its folder stays. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#exited
  }

  /** For every way out: nothing of it is left when this settles. */
  async remove(): Promise<void> {
    await this.kill()
    await rm(this.#folder, { recursive: true, force: true })
  }
}

function isError(line: string): boolean {
  try {
    const entry: unknown = JSON.parse(line)
    if (typeof entry !== 'object' || entry === null || !('level' in entry)) return true
    return Number(entry.level) >= ERROR_LEVEL
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    return true
  }
}
