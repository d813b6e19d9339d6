import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Redis } from 'ioredis'

export interface RedisServerOptions {
  /** Whether what was answered survives the death of the server. */
  readonly isDurable?: boolean
  /** More of what `redis-server` takes. */
  readonly args?: readonly string[]
  /** Whether Ctrl+C in a terminal passes it by, and its end is left to who started it. */
  readonly isDetached?: boolean
}

type Launch = Required<Pick<RedisServerOptions, 'args' | 'isDetached'>>

const TRIES = 5

/** A real Redis of a test's own: on the loopback, on a port that nobody has, with its files in a folder that goes with it. */
export class RedisServer implements AsyncDisposable {
  readonly port: number
  readonly #folder: string
  readonly #launch: Launch
  #process: ChildProcess

  private constructor(port: number, folder: string, how: Launch, process: ChildProcess) {
    this.port = port
    this.#folder = folder
    this.#launch = how
    this.#process = process
  }

  static async start(options: RedisServerOptions = {}): Promise<RedisServer> {
    const { isDurable = false, isDetached = false, args: more = [] } = options
    const folder = await mkdtemp(join(tmpdir(), 'tether-redis-'))
    const persistence = isDurable ? ['--appendonly', 'yes', '--appendfsync', 'always'] : ['--appendonly', 'no']
    const args = ['--bind', '127.0.0.1', '--dir', folder, '--save', '', ...persistence, ...more]
    const how = { args, isDetached }
    for (let tries = 1; ; tries += 1) {
      const port = await freePort()
      try {
        return new RedisServer(port, folder, how, await launch(port, how))
      } catch (error) {
        // Somebody else took the port meanwhile.
        if (tries === TRIES) throw error
      }
    }
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`
  }

  /** With SIGKILL. */
  async kill(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const exited = once(this.#process, 'exit')
    this.#process.kill('SIGKILL')
    await exited
  }

  /** On the same port, with what is on its disk. */
  async restart(): Promise<void> {
    await this.kill()
    this.#process = await launch(this.port, this.#launch)
  }

  pause(): void {
    this.#process.kill('SIGSTOP')
  }

  resume(): void {
    this.#process.kill('SIGCONT')
  }

  /** Runs one command, as somebody from outside. */
  async run(name: string, ...args: readonly string[]): Promise<unknown> {
    const redis = new Redis(this.url, { retryStrategy: () => null })
    try {
      return await redis.call(name, [...args])
    } finally {
      redis.disconnect()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
    await rm(this.#folder, { recursive: true, force: true })
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('a server on a port must have one')
  return address.port
}

/** Settles when it takes connections. */
async function launch(port: number, { args, isDetached }: Launch): Promise<ChildProcess> {
  const process = spawn('redis-server', ['--port', String(port), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: isDetached,
  })
  const lines: string[] = []
  for await (const line of createInterface({ input: process.stdout })) {
    lines.push(line)
    if (line.includes('Ready to accept connections')) break
  }
  if (process.exitCode === null && lines.at(-1)?.includes('Ready')) {
    // What is not read would hold it up in the end.
    process.stdout.resume()
    return process
  }
  throw new Error(`redis-server must start, got:\n${lines.join('\n')}`)
}
