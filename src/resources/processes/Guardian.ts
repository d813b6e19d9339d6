import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { messageOf } from '../../job/messageOf.ts'
import { GUARDIAN_SCRIPT } from './guardianScript.ts'
import { instanceName } from './instance.ts'
import { liveTrees, type TreeRoot } from './liveTrees.ts'
import { DEFAULT_PATH } from './resolveProgram.ts'
import { requireTool } from './tools.ts'

export interface GuardianOptions {
  /** The folder that has the control groups of this server, where it makes some. */
  readonly cgroupPath: string | undefined
  /** Told that it died or could not be started, and why; another takes its place soon. */
  readonly onDeath: (reason: string) => void
}

const STARTED_IN_MS = 5000
const LEFT_IN_MS = 2000
/** A guardian that dies at once, as it does where the machine is short of processes, is not started again all the time. */
const MIN_PAUSE_MS = 100
const MAX_PAUSE_MS = 10_000

/**
 * Takes the processes of this server's jobs when the server dies without a word (SIGKILL, out of memory): one small shell in a
 * session of its own, so that no signal meant for the server's group or terminal takes it first. It learns of the death by the
 * end of the pipe between them, which nothing that kills the server can prevent. It holds nothing else of the server's.
 *
 * It knows all trees of this process: where several servers share one, each has a guardian, and any of them suffices.
 */
export class Guardian {
  readonly #options: GuardianOptions
  #child: GuardianProcess | undefined
  #unsubscribe: (() => void) | undefined
  #restart: NodeJS.Timeout | undefined
  #pauseMs = 0
  #stopped: Promise<void> | undefined

  constructor(options: GuardianOptions) {
    this.#options = options
  }

  /** The shell's, for whoever wants to look at it; undefined while there is none. */
  get pid(): number | undefined {
    return this.#child?.pid
  }

  /** Settles when it watches. Where it could not be started, that is told as a death, and tried again later. */
  async start(): Promise<void> {
    this.#unsubscribe = liveTrees.subscribe({
      added: (root) => this.#tell(`+${lineOf(root)}`),
      removed: (root) => this.#forget(root),
    })
    await this.#launch()
  }

  /**
   * Sends it away without a kill, and settles when it is gone. Trees that have not been ended keep it: it leaves after the last
   * of them, or goes with the process and takes them. Twice is once.
   */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #stop(): Promise<void> {
    clearTimeout(this.#restart)
    if (liveTrees.size === 0) await this.#leave()
  }

  async #leave(): Promise<void> {
    this.#unsubscribe?.()
    const child = this.#child
    if (child === undefined) return
    this.#child = undefined
    const left = once(child, 'exit')
    child.ref()
    child.stdin.end('quit\n')
    const timer = setTimeout(() => child.kill('SIGKILL'), LEFT_IN_MS)
    await left
    clearTimeout(timer)
  }

  async #launch(): Promise<void> {
    const startedMs = performance.now()
    try {
      const child = await spawnGuardian(this.#options.cgroupPath ?? '')
      if (this.#stopped !== undefined && liveTrees.size === 0) {
        child.stdin.end('quit\n')
        return
      }
      this.#child = child
      for (const root of liveTrees) this.#tell(`+${lineOf(root)}`)
      child.once('exit', (code, signal) => {
        if (this.#child !== child) return
        this.#child = undefined
        this.#startAnew(`it ended with ${signal ?? `code ${code}`}`, performance.now() - startedMs)
      })
    } catch (error) {
      this.#startAnew(messageOf(error), performance.now() - startedMs)
    }
  }

  #startAnew(reason: string, livedMs: number): void {
    if (this.#stopped !== undefined) return
    this.#options.onDeath(reason)
    this.#pauseMs = livedMs > MAX_PAUSE_MS ? 0 : Math.min(MAX_PAUSE_MS, Math.max(MIN_PAUSE_MS, this.#pauseMs * 2))
    this.#restart = setTimeout(() => void this.#launch(), this.#pauseMs)
    this.#restart.unref()
  }

  #forget(root: TreeRoot): void {
    this.#tell(`-${lineOf(root)}`)
    if (this.#stopped !== undefined && liveTrees.size === 0) void this.#leave()
  }

  #tell(line: string): void {
    this.#child?.stdin.write(`${line}\n`)
  }
}

type GuardianProcess = ChildProcessByStdio<Writable, Readable, null>

async function spawnGuardian(cgroupPath: string): Promise<GuardianProcess> {
  const sh = await requireTool('sh')
  // The script is in its environment, so that a process list shows one short line. Nothing of the server's own is handed on.
  const child = spawn(sh, ['-c', 'eval "$TETHER_GUARDIAN"', 'tether-guardian', instanceName(), cgroupPath], {
    cwd: '/',
    env: { PATH: DEFAULT_PATH, LC_ALL: 'C', TETHER_GUARDIAN: GUARDIAN_SCRIPT, TETHER_SHELL: sh },
    detached: true,
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  // Where the shell is gone the pipe breaks; its exit says so too.
  child.stdin.on('error', () => {})
  const timer = setTimeout(() => child.kill('SIGKILL'), STARTED_IN_MS)
  try {
    const [answer]: unknown[] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])
    if (String(answer) !== 'ready\n') throw new Error(`it did not start, and ended with ${String(answer)}`)
  } finally {
    clearTimeout(timer)
    child.stdout.destroy()
  }
  // A server that has nothing else to do may end; the guardian sees to what it leaves.
  child.unref()
  if (child.stdin instanceof Socket) child.stdin.unref()
  return child
}

function lineOf({ groupId, startTicks }: TreeRoot): string {
  return `${groupId} ${startTicks}`
}
