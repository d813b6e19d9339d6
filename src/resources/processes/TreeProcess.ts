import type { Duplex, Readable, Writable } from 'node:stream'
import type { Survivor } from '../../job/receipt.ts'
import { Alarm } from './Alarm.ts'
import type { ContainedProcess, EndReport, ExitStatus } from './Containment.ts'
import type { Launched } from './launch.ts'
import { liveTrees } from './liveTrees.ts'
import type { ProcessTree } from './ProcessTree.ts'
import { letEnd } from './pipes.ts'
import { commandOf, MAX_COMMAND_LENGTH, type ProcessStat } from './procfs.ts'
import { terminateAll } from './signalProcess.ts'

/** A look at a huge tree may take this long before TERM is sent to what was found. */
const TERM_BUDGET_MS = 100
/** A kill does not wait longer than this for the count of those it is about to kill. */
const COUNT_BUDGET_MS = 20
const SURVIVORS_BUDGET_MS = 100

/** The next look after `elapsedMs` of looking: soon at first, then ever rarer, so that it costs little and is late by a quarter. */
function paceMs(elapsedMs: number): number {
  return Math.min(20, Math.max(1, elapsedMs / 4))
}

/** Who leads the tree: what was asked for, not what stands around it. */
export interface Leader {
  readonly pid: number
  readonly exited: Promise<ExitStatus>
}

/** The order of ending, the same at every level; what differs is in the `ProcessTree`. */
export class TreeProcess implements ContainedProcess {
  readonly pid: number
  readonly stdin: Writable | null
  readonly stdout: Readable
  readonly stderr: Readable
  readonly channel: Duplex | null
  readonly exited: Promise<ExitStatus>
  readonly #argv: readonly string[]
  readonly #child: Launched
  readonly #tree: ProcessTree
  readonly #alarm = new Alarm()
  readonly #seen: Set<number>
  readonly #forget: () => void
  #hasExited = false
  #graceEndsMs = Number.POSITIVE_INFINITY
  #deadlineMs = Number.POSITIVE_INFINITY
  #ended: Promise<EndReport> | undefined

  private constructor(argv: readonly string[], leader: Leader, child: Launched, tree: ProcessTree, forget: () => void) {
    this.pid = leader.pid
    this.exited = leader.exited
    this.stdin = child.stdin
    this.stdout = child.stdout
    this.stderr = child.stderr
    this.channel = child.channel
    this.#argv = argv
    this.#child = child
    this.#tree = tree
    this.#seen = new Set([leader.pid])
    this.#forget = forget
  }

  static follow(argv: readonly string[], leader: Leader, child: Launched, tree: ProcessTree): TreeProcess {
    const process = new TreeProcess(argv, leader, child, tree, liveTrees.add(child.pid))
    void process.#noteExit()
    return process
  }

  terminate(): void {
    void this.#terminate()
  }

  end({ graceMs, deadlineMs }: { readonly graceMs: number; readonly deadlineMs: number }): Promise<EndReport> {
    this.#graceEndsMs = Math.min(this.#graceEndsMs, performance.now() + graceMs)
    this.#deadlineMs = Math.min(this.#deadlineMs, deadlineMs)
    this.#ended ??= this.#end()
    this.#alarm.ring()
    return this.#ended
  }

  async #noteExit(): Promise<void> {
    await this.exited
    this.#hasExited = true
    this.#alarm.ring()
  }

  async #end(): Promise<EndReport> {
    if (performance.now() < this.#graceEndsMs && !(await this.#isEmpty())) {
      await this.#terminate()
      await this.#waitForGrace()
    }
    const leaderIsKilled = !this.#hasExited
    const isKilled = leaderIsKilled || !(await this.#isEmpty())
    if (isKilled) await this.#members(COUNT_BUDGET_MS)
    const startedMs = performance.now()
    const verified = await this.#strikeUntilGone(startedMs)
    const verifiedAtMs = performance.now()
    const survivors = verified ? [] : await this.#giveUp()
    await this.#before(startedMs, Promise.all([this.exited, this.#child.exited]))
    await this.#closePipes(leaderIsKilled, startedMs)
    // A folder that cannot be removed holds nobody: it is left behind.
    await this.#tree.release().catch(ignore)
    this.#forget()
    const processes = [...this.#seen].filter((pid) => survivors.every((survivor) => survivor.pid !== pid)).length
    return { processes, survivors, killedAtMs: isKilled ? startedMs : null, verifiedAtMs }
  }

  async #terminate(): Promise<void> {
    const members = await this.#members(TERM_BUDGET_MS)
    try {
      terminateAll(members, this.pid)
    } catch {
      // Who could not be looked at (no file descriptor left) is not signalled; a kill follows, which has a proof of its own.
    }
  }

  /** The leader's exit wakes us. The others of its tree do not, so from then on we look for them. */
  async #waitForGrace(): Promise<void> {
    let exitedAtMs: number | undefined
    while (!this.#hasExited || !(await this.#isEmpty())) {
      const nowMs = performance.now()
      const leftMs = this.#graceEndsMs - nowMs
      if (leftMs <= 0) return
      if (this.#hasExited) exitedAtMs ??= nowMs
      const stepMs = exitedAtMs === undefined ? leftMs : paceMs(nowMs - exitedAtMs)
      await this.#alarm.wait(Math.min(leftMs, stepMs))
    }
  }

  async #strikeUntilGone(startedMs: number): Promise<boolean> {
    for (;;) {
      // A look that fails (no file descriptor left) proves nothing: it is taken again until the deadline.
      if (await this.#tree.strike((pid) => this.#seen.add(pid)).catch(no)) return true
      const nowMs = performance.now()
      const leftMs = startedMs + this.#deadlineMs - nowMs
      if (leftMs <= 0) return false
      await this.#alarm.wait(Math.min(leftMs, paceMs(nowMs - startedMs)))
    }
  }

  async #giveUp(): Promise<readonly Survivor[]> {
    this.#tree.giveUp()
    if (await this.#tree.strike().catch(no)) return []
    const left = await this.#members(SURVIVORS_BUDGET_MS)
    // The check did not come out clean, so somebody has to be named, even where nobody could be seen.
    if (left.length === 0) return [{ pid: this.pid, command: this.#asked() }]
    return left.map(({ pid }) => ({ pid, command: this.#commandOf(pid) }))
  }

  #commandOf(pid: number): string {
    try {
      return commandOf(pid)
    } catch {
      // It cannot be looked at just now; what it descends from is known.
      return this.#asked()
    }
  }

  #asked(): string {
    return this.#argv.join(' ').slice(0, MAX_COMMAND_LENGTH)
  }

  /** Who reads our output after we killed it? Nobody who is still wanted; in all other cases its last words are kept. */
  async #closePipes(leaderIsKilled: boolean, startedMs: number): Promise<void> {
    this.stdin?.destroy()
    const pipes = [this.stdout, this.stderr, ...(this.channel === null ? [] : [this.channel])]
    if (leaderIsKilled) {
      for (const pipe of pipes) pipe.destroy()
      return
    }
    const latestMs = startedMs + this.#deadlineMs
    await Promise.all(pipes.map((pipe) => letEnd(pipe, latestMs)))
  }

  async #before(startedMs: number, settled: Promise<unknown>): Promise<void> {
    const timeout = Promise.withResolvers<void>()
    const timer = setTimeout(timeout.resolve, Math.max(0, startedMs + this.#deadlineMs - performance.now()))
    await Promise.race([settled, timeout.promise])
    clearTimeout(timer)
  }

  async #members(budgetMs: number): Promise<readonly ProcessStat[]> {
    const members = await this.#tree.members(budgetMs).catch(nobody)
    for (const { pid } of members) this.#seen.add(pid)
    return members
  }

  async #isEmpty(): Promise<boolean> {
    return this.#tree.isEmpty().catch(no)
  }
}

function no(): boolean {
  return false
}

function nobody(): readonly ProcessStat[] {
  return []
}

function ignore(): void {}
