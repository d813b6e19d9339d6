import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Held } from '../cancellation/Held.ts'
import type { JobScope } from '../cancellation/JobScope.ts'
import type { Clock } from '../clock.ts'
import { OUTPUT_CHANNELS, type OutputChannel, type TaskEvent } from '../job/event.ts'
import { TaskFailure } from '../job/failure.ts'
import type { Json } from '../job/json.ts'
import { MAX_DELAY_MS } from '../job/policy.ts'
import type { Containment } from '../resources/processes/Containment.ts'
import { describeArtifact } from './artifact.ts'
import type { Execution } from './Execution.ts'
import type { ContextOrder } from './ExecutionOrder.ts'
import { runCommand } from './runCommand.ts'
import type { SpawnGate } from './SpawnGate.ts'
import type { ExecOptions, ExecResult, TaskContext } from './task.ts'

/** What contexts work with, the same for all executions of a process. */
export interface ContextResources {
  readonly clock: Clock
  readonly containment: Containment
  /** The basic environment of commands: see `commandEnvironment`. */
  readonly commandEnv: Readonly<Record<string, string>>
  /** Where commands run that name no folder. */
  readonly defaultCwd: string
  readonly spawnGate: SpawnGate
  readonly tmpRoot: string
  readonly workspaceRoot: string
}

/** The context of one execution. See `TaskContext` for what each member promises. */
export class JobContext implements TaskContext {
  readonly #order: ContextOrder
  readonly #execution: Execution
  readonly #scope: JobScope
  readonly #resources: ContextResources

  constructor(order: ContextOrder, execution: Execution, resources: ContextResources) {
    this.#order = order
    this.#execution = execution
    this.#scope = execution.scope
    this.#resources = resources
  }

  get jobId(): string {
    return this.#order.ref.id
  }

  get attempt(): number {
    return this.#order.attempt
  }

  get metadata(): Readonly<Record<string, Json>> {
    return this.#order.metadata
  }

  get signal(): AbortSignal {
    return this.#scope.signal
  }

  get stopSignal(): AbortSignal {
    return this.#scope.stopSignal
  }

  output(text: string, channel: OutputChannel = 'text'): Promise<void> {
    if (typeof text !== 'string') throw new TypeError(`output takes a string, got ${typeof text}`)
    if (!OUTPUT_CHANNELS.includes(channel)) {
      throw new TypeError(`channel must be one of ${OUTPUT_CHANNELS.join(', ')}, got ${JSON.stringify(channel)}`)
    }
    return this.#emit({ type: 'output', channel, text: text.isWellFormed() ? text : text.toWellFormed() })
  }

  data(name: string, value: Json): Promise<void> {
    if (typeof name !== 'string') throw new TypeError(`the name of data must be a string, got ${typeof name}`)
    return this.#emit({ type: 'data', name, value })
  }

  progress(current: number, options: { readonly total?: number; readonly message?: string } = {}): Promise<void> {
    const { total, message } = options
    if (!Number.isFinite(current) || (total !== undefined && !Number.isFinite(total))) {
      throw new TypeError(`progress takes finite numbers, got ${current} of ${total}`)
    }
    return this.#emit({
      type: 'progress',
      current,
      ...(total === undefined ? {} : { total }),
      ...(message === undefined ? {} : { message }),
    })
  }

  async artifact(path: string, options: { readonly name?: string; readonly mediaType?: string } = {}): Promise<void> {
    const artifact = await describeArtifact(this.#workspacePath(), path, options)
    await this.#emit({ type: 'artifact', ...artifact })
  }

  checkpoint(): void {
    this.#scope.checkpoint()
  }

  sleep(ms: number): Promise<void> {
    if (!(ms >= 0 && ms <= MAX_DELAY_MS)) {
      return Promise.reject(new RangeError(`sleep takes 0 to ${MAX_DELAY_MS} ms, got ${ms}`))
    }
    const scope = this.#scope
    const slept = new Promise<void>((resolve, reject) => {
      scope.checkpoint()
      const cancelTimer = this.#resources.clock.schedule(ms, () => {
        unlisten()
        resolve()
      })
      const isShielded = scope.isShielded
      const unlisten = scope.onRequest(() => {
        if (isShielded) return
        cancelTimer()
        unlisten()
        try {
          scope.checkpoint()
        } catch (error) {
          reject(error)
        }
      })
    })
    return unowned(slept)
  }

  exec(command: string | readonly [string, ...string[]], options: ExecOptions = {}): Promise<ExecResult> {
    return unowned(this.#exec(command, options))
  }

  async #exec(command: string | readonly [string, ...string[]], options: ExecOptions): Promise<ExecResult> {
    const { containment, commandEnv, defaultCwd } = this.#resources
    await this.#turnToSpawn()
    const result = await runCommand(command, options, {
      scope: this.#scope,
      containment,
      commandEnv,
      defaultCwd,
      owner: this.#order.key,
      limits: this.#order.limits,
      emit: (event) => this.#emit(event),
    })
    // A cancel ended the process: its status says nothing of the command. A stop is raised by the next boundary.
    if (this.#scope.isCancelled) this.#scope.checkpoint()
    return result
  }

  /** A boundary before and after the wait: whoever is asked to end while waiting starts nothing. @throws {JobStopped} */
  async #turnToSpawn(): Promise<void> {
    this.#scope.checkpoint()
    const { passed, leave } = this.#resources.spawnGate.pass()
    const unlisten = this.#scope.onRequest(leave)
    await passed
    unlisten()
    this.#scope.checkpoint()
  }

  defer(cleanup: () => void | Promise<void>): void {
    this.#scope.hold({
      kind: 'other',
      isPrompt: false,
      async release() {
        await cleanup()
        return { count: 1 }
      },
    })
  }

  use<T extends Disposable | AsyncDisposable>(resource: T): T {
    this.defer(async () => {
      if (Symbol.asyncDispose in resource) await resource[Symbol.asyncDispose]()
      else resource[Symbol.dispose]()
    })
    return resource
  }

  shield<T>(work: () => T): T {
    return this.#scope.shield(work)
  }

  async tmp(): Promise<string> {
    const { tmpRoot } = this.#resources
    await mkdir(tmpRoot, { recursive: true, mode: 0o700 })
    const folder = await mkdtemp(join(tmpRoot, `${this.#order.ref.id}-`))
    this.#scope.hold(temporaryFolder(folder))
    return folder
  }

  async workspace(): Promise<string> {
    this.#scope.assertOpen()
    const path = this.#workspacePath()
    await mkdir(path, { recursive: true, mode: 0o700 })
    return path
  }

  run(task: string, input: Json, options: { readonly timeoutMs?: number } = {}): Promise<Json> {
    return unowned(this.#run(task, input, options))
  }

  async #run(task: string, input: Json, options: { readonly timeoutMs?: number }): Promise<Json> {
    this.#scope.checkpoint()
    const leave = this.#scope.enter('child')
    try {
      return await this.#order.children.run(this.#scope, task, input, options)
    } finally {
      leave()
    }
  }

  #workspacePath(): string {
    return join(this.#resources.workspaceRoot, this.#order.key)
  }

  #emit(event: TaskEvent): Promise<void> {
    this.#order.observer.onEvent()
    try {
      return this.#order.log.emit(event)
    } catch (error) {
      if (error instanceof TaskFailure && error.code === 'TETHER_OUTPUT_OVERRUN') this.#execution.failWith(error)
      throw error
    }
  }
}

function temporaryFolder(folder: string): Held {
  return {
    kind: 'files',
    isPrompt: false,
    async release() {
      const count = await countIn(folder)
      await rm(folder, { recursive: true, force: true })
      return { count }
    },
  }
}

/** A task may have removed its folder itself. */
async function countIn(folder: string): Promise<number> {
  try {
    return (await readdir(folder, { recursive: true })).length
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return 0
    throw error
  }
}

/** An author who does not await it loses what it would have said; an unhandled rejection would end the server and all its jobs. */
function unowned<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined)
  return promise
}
