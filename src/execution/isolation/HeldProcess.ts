import { readdir, rm } from 'node:fs/promises'
import type { HeldKind, ReleaseOptions, ReleaseReport } from '../../cancellation/Held.ts'
import type { JobScope } from '../../cancellation/JobScope.ts'
import type { Clock } from '../../clock.ts'
import type { Outcome } from './fromChild.ts'
import { killAfterMs } from './killTimes.ts'
import type { TaskProcess } from './TaskProcess.ts'

export interface HeldProcessOptions {
  readonly scope: JobScope
  readonly clock: Clock
  /** The job's. */
  readonly settleMs: number
  readonly tmpRoot: string
}

/** Ending a process gets this long however little is left. */
const MIN_END_MS = 50

/** A task's process and its temporary folders, as the job's scope holds them. */
export class HeldProcess {
  /** In which the function's temporary folders are. It goes with the job, also where the function could not clean up. */
  readonly tmpRoot: string
  readonly #scope: JobScope
  readonly #clock: Clock
  readonly #settleMs: number
  readonly #settled = Promise.withResolvers<void>()
  readonly #gone = Promise.withResolvers<void>()
  #outcome: Outcome | undefined

  constructor({ scope, clock, settleMs, tmpRoot }: HeldProcessOptions) {
    this.#scope = scope
    this.#clock = clock
    this.#settleMs = settleMs
    this.tmpRoot = tmpRoot
  }

  /** From before it exists: whatever ends the job ends the process, also while it is being started. */
  hold(taking: Promise<TaskProcess>): void {
    this.#scope.hold({ kind: 'files', isPrompt: false, release: () => this.#removeFolders() })
    this.#scope.hold({ kind: 'processes', isPrompt: true, release: (options) => this.#end(taking, options) })
  }

  /** The function has, or cannot any more: what is left of the process can be ended at once. */
  functionSettled(): void {
    this.#settled.resolve()
  }

  /** What was given back in the process counts in the job's receipt, kind by kind. */
  count(outcome: Outcome): void {
    this.#outcome = outcome
    // Processes and files are counted together with those that are given back here.
    const kinds = ['requests', 'children', 'other'] as const satisfies readonly HeldKind[]
    for (const kind of kinds) {
      const count = outcome.released[kind]
      if (count > 0) this.#scope.hold({ kind, isPrompt: false, release: async () => ({ count }) })
    }
    if (!outcome.isIncomplete) return
    const failure = new Error("the task's process could not give back all that it held")
    this.#scope.hold({ kind: 'other', isPrompt: false, release: () => Promise.reject(failure) })
  }

  async #end(taking: Promise<TaskProcess>, options: ReleaseOptions): Promise<ReleaseReport> {
    try {
      return await this.#endProcess(taking, options)
    } finally {
      this.#gone.resolve()
    }
  }

  async #endProcess(taking: Promise<TaskProcess>, options: ReleaseOptions): Promise<ReleaseReport> {
    const { hard, graceMs, deadlineMs } = options
    const startedMs = this.#clock.monotonicMs()
    const isLate = hard && (await this.#isLate())
    // Where it could not be started, the body says so; here there is nothing to end.
    const process = await taking.catch(() => undefined)
    if (process === undefined) return { count: 0 }
    const leftMs = Math.max(MIN_END_MS, graceMs + deadlineMs - (this.#clock.monotonicMs() - startedMs))
    const termMs = isLate ? 0 : Math.min(graceMs, leftMs / 2)
    const report = await process.contained.end({ graceMs: termMs, deadlineMs: leftMs - termMs })
    const { processes, survivors, killedAtMs, verifiedAtMs } = report
    return { count: processes + (this.#outcome?.released.processes ?? 0), survivors, killedAtMs, verifiedAtMs }
  }

  /** Settles when the function has settled; true where it has not in its time. */
  async #isLate(): Promise<boolean> {
    const late = Promise.withResolvers<true>()
    const cancelTimer = this.#clock.schedule(killAfterMs(this.#settleMs), () => late.resolve(true))
    const isLate = await Promise.race([late.promise, this.#settled.promise.then(() => false)])
    cancelTimer()
    return isLate
  }

  /** Not before nobody is left who could write there. */
  async #removeFolders(): Promise<ReleaseReport> {
    await this.#gone.promise
    return { count: (this.#outcome?.released.files ?? 0) + (await removeFolder(this.tmpRoot)) }
  }
}

/** How many entries were in it. */
async function removeFolder(folder: string): Promise<number> {
  try {
    const entries = await readdir(folder, { recursive: true })
    await rm(folder, { recursive: true, force: true })
    return entries.length
  } catch (error) {
    // No temporary folder was asked for.
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return 0
    throw error
  }
}
