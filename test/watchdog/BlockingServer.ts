import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { onTestFinished } from 'vitest'

export const FIXTURE = join(import.meta.dirname, 'fixtures', 'blockingServer.ts')

/** A line of the server's log, as far as these tests look at it. */
export interface Line {
  readonly level?: number
  readonly time?: number
  readonly msg?: string
  readonly url?: string
  readonly replica?: string
  readonly jobIds?: readonly string[]
  readonly jobId?: string
  readonly task?: string
  readonly file?: string
  readonly line?: number
  readonly function?: string
  readonly stack?: readonly string[]
  readonly isApproximate?: true
  readonly noPlace?: string
  readonly ms?: number
}

export const BLOCKED = 'the event loop is blocked'
const OVER = 'the event loop turns again'

/** A real server in a process of its own, of which the standard output is read as it comes. It ends with the test. */
export class BlockingServer {
  readonly process: ChildProcessByStdio<null, Readable, null>
  readonly lines: Line[] = []
  readonly #folder: string
  #files = 0
  #wake = Promise.withResolvers<void>()

  static async start(): Promise<BlockingServer> {
    const folder = mkdtempSync(join(tmpdir(), 'tether-watchdog-'))
    const child = spawn(process.execPath, [FIXTURE, folder], { stdio: ['ignore', 'pipe', 'inherit'] })
    const server = new BlockingServer(child, folder)
    onTestFinished(async () => {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL')
        await once(child, 'exit')
      }
      rmSync(folder, { recursive: true, force: true })
    })
    server.#read()
    await server.until((line) => line.url !== undefined)
    return server
  }

  private constructor(child: ChildProcessByStdio<null, Readable, null>, folder: string) {
    this.process = child
    this.#folder = folder
  }

  /** Starts a job in the background. Returns its id. */
  async run(task: string, input: object): Promise<string> {
    const { url } = await this.until((line) => line.url !== undefined)
    const jobId = `watched_${crypto.randomUUID()}`
    const body = JSON.stringify({ task, input, jobId })
    const headers = { 'content-type': 'application/json' }
    // A function that blocks may hold the answer up.
    void fetch(`${url}/jobs`, { method: 'POST', headers, body }).catch(() => undefined)
    return jobId
  }

  /** The path of a file that is not there yet. */
  file(): string {
    this.#files += 1
    return join(this.#folder, `file-${this.#files}`)
  }

  release(file: string): void {
    writeFileSync(file, '')
  }

  /** The first line that `fits`, of those that have come or come later. */
  async until(fits: (line: Line) => boolean): Promise<Line> {
    for (;;) {
      const found = this.lines.find((line) => fits(line))
      if (found !== undefined) return found
      await this.#wake.promise
    }
  }

  /** The first report of a block that names its place. */
  placed(jobId: string): Promise<Line> {
    return this.until((line) => line.msg === BLOCKED && line.jobId === jobId && line.file !== undefined)
  }

  /** What was said of a block's end. */
  over(jobId: string): Promise<Line> {
    return this.until((line) => line.msg === OVER && line.jobId === jobId)
  }

  /** What the watchdog has said, without what it said before it had the place, which a busy machine makes it say of any block. */
  get told(): readonly Line[] {
    return this.lines.filter(({ msg, file }) => (msg === BLOCKED && file !== undefined) || msg === OVER)
  }

  #read(): void {
    createInterface({ input: this.process.stdout }).on('line', (text) => {
      const line: Line = JSON.parse(text)
      this.lines.push(line)
      this.#wake.resolve()
      this.#wake = Promise.withResolvers<void>()
    })
  }
}

/** The line of the fixture that a comment marks. */
export function lineMarked(comment: string): number {
  return (
    1 +
    readFileSync(FIXTURE, 'utf8')
      .split('\n')
      .findIndex((line) => line.endsWith(`// ${comment}`))
  )
}
