import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { HeldKind, ReleaseOptions, ReleaseReport } from '../../cancellation/Held.ts'
import type { CancellationRequest } from '../../job/cancellation.ts'
import type { TaskEvent } from '../../job/event.ts'
import { failureOf, TaskFailure } from '../../job/failure.ts'
import type { Json } from '../../job/json.ts'
import { unreachable } from '../../job/unreachable.ts'
import type { Execution } from '../Execution.ts'
import type { ExecutionOrder } from '../ExecutionOrder.ts'
import type { ContextResources } from '../JobContext.ts'
import { stream } from '../runCommand.ts'
import { diedFailure } from './diedFailure.ts'
import { type ChildJob, type FromChild, type Outcome, parseFromChild } from './fromChild.ts'
import { killAfterMs } from './killTimes.ts'
import type { TaskProcess } from './TaskProcess.ts'
import type { ChildJobEnd } from './toChild.ts'
import type { WarmSpare } from './WarmSpare.ts'

export interface IsolatedRunOptions {
  readonly order: ExecutionOrder
  /** The URL of the module that exports the task. */
  readonly module: string
  readonly execution: Execution
  readonly resources: Omit<ContextResources, 'containment'>
  readonly spare: WarmSpare
}

/** The kernel may tell of the end of the channel before it tells of the process's: so long it has for the second (ms). */
const EXIT_PATIENCE_MS = 1000

/** The next spare is not started together with the function that somebody waits for: they would share the processors (ms). */
const PREPARE_AFTER_MS = 50

/**
 * One run of a task's function in a process of its own, as the server sees it: a body for the job's execution, which hands the
 * requests to end the job on, takes what the process sends, and settles with what the function came to over there. The process
 * is held by the job's scope: a cancel leaves the function nearly all of `settleMs` and then kills it.
 */
export class IsolatedRun {
  readonly #order: ExecutionOrder
  readonly #module: string
  readonly #execution: Execution
  readonly #resources: Omit<ContextResources, 'containment'>
  readonly #spare: WarmSpare
  /** Settles when the function has, or its process is gone: the rest of the process can then be ended without asking. */
  readonly #settled = Promise.withResolvers<void>()
  #outcome: Outcome | undefined

  constructor({ order, module, execution, resources, spare }: IsolatedRunOptions) {
    this.#order = order
    this.#module = module
    this.#execution = execution
    this.#resources = resources
    this.#spare = spare
  }

  /** @throws whatever the function threw, as the `TaskFailure` that it is; `TETHER_PROCESS_DIED`, `TETHER_SPAWN_FAILED` */
  async run(): Promise<Json> {
    const { scope } = this.#execution
    const taking = this.#spare.take()
    this.#hold(taking)
    const cancelPrepare = this.#resources.clock.schedule(PREPARE_AFTER_MS, () => this.#spare.prepare())
    let unlisten: (() => void) | undefined
    try {
      const process = await taking
      // What was asked while it was being started was heard by nobody; from here on everything is handed on.
      scope.checkpoint()
      unlisten = scope.onRequest((_, request) => process.send({ type: 'request', request: relayed(request) }))
      return await this.#follow(process)
    } finally {
      unlisten?.()
      this.#settled.resolve()
      cancelPrepare()
      this.#spare.prepare()
    }
  }

  async #follow(process: TaskProcess): Promise<Json> {
    const { contained } = process
    const { killGraceMs, settleMs } = this.#order.limits
    const outputs = [
      stream(contained.stdout, 'stdout', (event) => this.#emit(event)),
      stream(contained.stderr, 'stderr', (event) => this.#emit(event)),
    ]
    // They may fail long before they are awaited.
    for (const output of outputs) output.catch(() => undefined)
    this.#sendRun(process)
    const reading = this.#read(process)
    const isSound = await this.#untilOver(process, reading)
    this.#settled.resolve()
    await contained.end({ graceMs: isSound ? killGraceMs : 0, deadlineMs: settleMs - killGraceMs })
    await reading
    await Promise.all(outputs)
    return this.#conclude(this.#outcome, process)
  }

  #sendRun(process: TaskProcess): void {
    const { key, ref, task, input, attempt, metadata, limits } = this.#order
    const { commandEnv, defaultCwd, workspaceRoot } = this.#resources
    // What is still going when its time is over is killed from here; in there, nothing is to last longer than that.
    const settleMs = killAfterMs(limits.settleMs)
    process.send({
      type: 'run',
      module: this.#module,
      task: task.name,
      input,
      key,
      ref,
      attempt,
      metadata,
      limits: { settleMs, killGraceMs: Math.min(limits.killGraceMs, settleMs / 2) },
      folders: { commandEnv, defaultCwd, workspaceRoot, tmpRoot: this.#tmpRoot },
    })
  }

  /** Settles when the function's outcome has come or can come no more; `false` where the process is not to be trusted. */
  async #untilOver(process: TaskProcess, reading: Promise<void>): Promise<boolean> {
    const exited = process.contained.exited.then(() => 'exited' as const)
    const heard = reading.then(
      () => 'heard' as const,
      () => 'broken' as const,
    )
    const first = await Promise.race([exited, heard])
    if (first === 'broken') return false
    if (first === 'exited' || this.#outcome !== undefined) return true
    const patience = Promise.withResolvers<'closed'>()
    const cancelTimer = this.#resources.clock.schedule(EXIT_PATIENCE_MS, () => patience.resolve('closed'))
    const second = await Promise.race([exited, patience.promise])
    cancelTimer()
    if (second === 'exited') return true
    throw new TaskFailure(
      'TETHER_TASK_FAILED',
      "the task closed its process's channel to the server (file descriptor 3)",
    )
  }

  /** Settles with the outcome in its place, or without where the channel ended before. Rejects at what is no message. */
  async #read(process: TaskProcess): Promise<void> {
    for await (const line of process.messages) {
      const message = parseFromChild(line)
      if (message.type === 'outcome') {
        this.#outcome = message
        return
      }
      await this.#receive(message, process)
    }
  }

  async #receive(message: Exclude<FromChild, Outcome>, process: TaskProcess): Promise<void> {
    switch (message.type) {
      case 'events': {
        let room: Promise<void> | undefined
        for (const event of message.events) room = this.#emit(event)
        if (!message.asksRoom) return
        await room
        process.send({ type: 'room' })
        return
      }
      case 'childJob':
        void this.#runChildJob(message, process)
        return
      case 'notReleased':
        this.#order.observer.onReleaseFailed(message.kind, new Error(message.message))
        return
      case 'ready':
        return
      default:
        return unreachable(message)
    }
  }

  /** Never rejects. */
  async #runChildJob({ id, task, input, timeoutMs, isShielded }: ChildJob, process: TaskProcess): Promise<void> {
    const { scope } = this.#execution
    const leave = scope.enter('child')
    const options = timeoutMs === undefined ? {} : { timeoutMs }
    const work = (): Promise<Json> => this.#order.children.run(scope, task, input, options)
    let end: ChildJobEnd
    try {
      end = { kind: 'returned', result: await (isShielded ? scope.shield(work) : work()) }
    } catch (error) {
      end = scope.isOwnStop(error) ? { kind: 'raised' } : { kind: 'threw', failure: failureOf(error) }
    } finally {
      leave()
    }
    process.send({ type: 'childJobEnded', id, end })
  }

  #emit(event: TaskEvent): Promise<void> {
    this.#order.observer.onEvent()
    return this.#order.log.emit(event)
  }

  async #conclude(outcome: Outcome | undefined, { contained }: TaskProcess): Promise<Json> {
    const { scope } = this.#execution
    if (outcome === undefined) {
      if (scope.isCancelled) scope.checkpoint()
      throw diedFailure(await contained.exited)
    }
    this.#holdReported(outcome)
    switch (outcome.end.kind) {
      case 'returned':
        return outcome.end.result
      case 'threw': {
        const { code, message, ...rest } = outcome.end.failure
        throw new TaskFailure(code, message, rest)
      }
      case 'raised':
      case 'abandoned':
        scope.checkpoint()
        throw new TaskFailure('TETHER_TASK_FAILED', 'the task ended as asked to end, which it was not')
      default:
        return unreachable(outcome.end)
    }
  }

  get #tmpRoot(): string {
    return join(this.#resources.tmpRoot, `isolated-${this.#order.key}`)
  }

  #hold(taking: Promise<TaskProcess>): void {
    const gone = Promise.withResolvers<void>()
    this.#execution.scope.hold({
      kind: 'files',
      isPrompt: false,
      // Not before nobody is left who could write there.
      release: async () => {
        await gone.promise
        return { count: (this.#outcome?.released.files ?? 0) + (await removeFolder(this.#tmpRoot)) }
      },
    })
    this.#execution.scope.hold({
      kind: 'processes',
      isPrompt: true,
      release: async (options) => {
        try {
          return await this.#endProcess(taking, options)
        } finally {
          gone.resolve()
        }
      },
    })
  }

  async #endProcess(
    taking: Promise<TaskProcess>,
    { hard, graceMs, deadlineMs }: ReleaseOptions,
  ): Promise<ReleaseReport> {
    const { clock } = this.#resources
    const startedMs = clock.monotonicMs()
    const isLate = hard && (await this.#isLate())
    // Where it could not be started, the body says so; here there is nothing to end.
    const process = await taking.catch(() => undefined)
    if (process === undefined) return { count: 0 }
    const leftMs = Math.max(MIN_END_MS, graceMs + deadlineMs - (clock.monotonicMs() - startedMs))
    const termMs = isLate ? 0 : Math.min(graceMs, leftMs / 2)
    const report = await process.contained.end({ graceMs: termMs, deadlineMs: leftMs - termMs })
    return {
      count: report.processes + (this.#outcome?.released.processes ?? 0),
      survivors: report.survivors,
      killedAtMs: report.killedAtMs,
      verifiedAtMs: report.verifiedAtMs,
    }
  }

  /** Settles when the function has settled; true where it has not in its time. */
  async #isLate(): Promise<boolean> {
    const late = Promise.withResolvers<true>()
    const cancelTimer = this.#resources.clock.schedule(killAfterMs(this.#order.limits.settleMs), () =>
      late.resolve(true),
    )
    const isLate = await Promise.race([late.promise, this.#settled.promise.then(() => false)])
    cancelTimer()
    return isLate
  }

  /** What was given back over there counts in the job's receipt, kind by kind; processes and files are counted with ours. */
  #holdReported({ released, isIncomplete }: Outcome): void {
    const kinds = ['requests', 'children', 'other'] as const satisfies readonly HeldKind[]
    for (const kind of kinds) {
      const count = released[kind]
      if (count === 0) continue
      this.#execution.scope.hold({ kind, isPrompt: false, release: async () => ({ count }) })
    }
    if (!isIncomplete) return
    this.#execution.scope.hold({
      kind: 'other',
      isPrompt: false,
      release: () => Promise.reject(new Error("the task's process could not give back all that it held")),
    })
  }
}

/** Ending a process gets this long however little is left. */
const MIN_END_MS = 50

function relayed({ requestedAtMs: _, ...request }: CancellationRequest): Omit<CancellationRequest, 'requestedAtMs'> {
  return request
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
