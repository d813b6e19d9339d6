import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { promisify } from 'node:util'
import { isAlive, readStat } from '../../../src/resources/processes/procfs.ts'
import { programEnvironment } from '../../programEnvironment.ts'

/** The names bear the pid of their test, so that what a killed run left is known, and what a living one has is let alone. */
const PREFIX = 'tether-far-'
const NAME = new RegExp(`^${PREFIX}(\\d+)-`)

const run = promisify(execFile)

async function ip(...args: readonly string[]): Promise<string> {
  return (await run('ip', args)).stdout
}

/** Why this machine gives no networks to tests; undefined where it does. */
export function whyNoNamespaces(): string | undefined {
  const name = `${PREFIX}${process.pid}-probe`
  try {
    execFileSync('ip', ['netns', 'add', name], { stdio: 'pipe', encoding: 'utf8' })
    execFileSync('ip', ['netns', 'del', name], { stdio: 'pipe' })
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message.trim().replaceAll(/\s+/g, ' ') : String(error)
  }
}

/** A network of its own, as a machine has one, and the programs that run in it. Nothing of it is seen from outside. */
export class Namespace {
  readonly name: string
  readonly #children = new Set<ChildProcess>()

  private constructor(name: string) {
    this.name = name
  }

  static async open(role: string): Promise<Namespace> {
    const namespace = new Namespace(`${PREFIX}${process.pid}-${role}`)
    await ip('netns', 'add', namespace.name)
    await namespace.ip('link', 'set', 'lo', 'up')
    return namespace
  }

  /** Settles when what is in there has ended; its end of each cable goes with it, and so does the other. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#children].map(kill))
    await ip('netns', 'del', this.name)
  }

  ip(...args: readonly string[]): Promise<string> {
    return ip('-n', this.name, ...args)
  }

  /** Runs a program of Node. */
  spawn(args: readonly string[], settings: Readonly<Record<string, string>> = {}): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', this.name, process.execPath, ...args], {
      cwd: '/',
      env: { ...programEnvironment, ...settings },
    })
    this.#children.add(child)
    return child
  }
}

/** Removes what runs left that were killed, with the servers that still run in there. */
export async function removeLeftovers(): Promise<void> {
  const names = (await ip('netns', 'list')).split('\n').map((line) => line.split(' ', 1)[0] ?? '')
  for (const name of names) {
    const [, pid] = NAME.exec(name) ?? []
    if (pid === undefined || isAlive(readStat(Number(pid)))) continue
    for (const left of (await ip('netns', 'pids', name)).split('\n'))
      if (left !== '') process.kill(Number(left), 'SIGKILL')
    await ip('netns', 'del', name)
  }
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}
