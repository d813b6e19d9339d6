import { lstat, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { LanguageModelV4 } from '@ai-sdk/provider'
import { type CancelToken, runWithToken } from '../cancellation/CancelToken.ts'
import type { Held } from '../cancellation/Held.ts'
import type { JobScope } from '../cancellation/JobScope.ts'
import type { Clock } from '../clock.ts'
import { OUTPUT_CHANNELS, type OutputChannel, type TaskEvent } from '../job/event.ts'
import { TaskFailure } from '../job/failure.ts'
import type { Json } from '../job/json.ts'
import { MAX_DELAY_MS } from '../job/policy.ts'
import { unless } from '../resources/files/systemError.ts'
import { JobConnections } from '../resources/http/JobConnections.ts'
import type { ModelProviders } from '../resources/model/ModelProviders.ts'
import type { Containment } from '../resources/processes/Containment.ts'
import { inSpan } from '../tracing/inSpan.ts'
import { innermost } from '../tracing/traces.ts'
import { describeArtifact } from './artifact.ts'
import type { Execution } from './Execution.ts'
import type { ContextOrder } from './ExecutionOrder.ts'
import { JobModel } from './model/JobModel.ts'
import { repeated } from './model/repeated.ts'
import { refusalOf } from './refusalOf.ts'
import { runCommand } from './runCommand.ts'
import { runTool } from './runTool.ts'
import type { SpawnGate } from './SpawnGate.ts'
import type { CommandSurroundings } from './spawnHeld.ts'
import { startProcess } from './startProcess.ts'
import { TaskValueStore } from './TaskValueStore.ts'
import type {
  AgentOptions,
  AgentResult,
  ExecOptions,
  ExecResult,
  JobProcess,
  RunOptions,
  SpawnOptions,
  TaskContext,
  TaskValues,
  ToolAnswer,
} from './task.ts'
import { unowned } from './unowned.ts'

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
  readonly models: ModelProviders
}

/** The context of one execution. See `TaskContext` for what each member promises. */
export class JobContext implements TaskContext {
  readonly #order: ContextOrder
  readonly #execution: Execution
  readonly #scope: JobScope
  readonly #resources: ContextResources
  /** Made when the job first wants any. */
  #connections: JobConnections | undefined
  #hasSettled = false
  #toolCalls = 0
  readonly store: TaskValues

  constructor(order: ContextOrder, execution: Execution, resources: ContextResources) {
    this.#order = order
    this.#execution = execution
    this.#scope = execution.scope
    this.#resources = resources
    this.store = new TaskValueStore(this.#scope, order.values)
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

  get token(): CancelToken {
    return this.#scope
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
    const artifact = await describeArtifact(this.#workspacePath(), path, { ...options, signal: this.signal })
    await this.#emit({ type: 'artifact', ...artifact })
  }

  checkpoint(): void {
    this.#scope.checkpoint()
  }

  sleep(ms: number): Promise<void> {
    if (!(ms >= 0 && ms <= MAX_DELAY_MS)) {
      return unowned(Promise.reject(new RangeError(`sleep takes 0 to ${MAX_DELAY_MS} ms, got ${ms}`)))
    }
    return this.#boundary(() => this.#sleep(ms))
  }

  #sleep(ms: number): Promise<void> {
    const scope = this.#scope
    return new Promise<void>((resolve, reject) => {
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
  }

  exec(command: string | readonly [string, ...string[]], options: ExecOptions = {}): Promise<ExecResult> {
    return this.#boundary(() => this.#exec(command, options))
  }

  async #exec(command: string | readonly [string, ...string[]], options: ExecOptions): Promise<ExecResult> {
    await this.#turnToSpawn()
    const result = await runCommand(command, options, this.#commandSurroundings())
    // A cancel ended the process: its status says nothing of the command. A stop is raised by the next boundary.
    if (this.#scope.isCancelled) this.#scope.checkpoint()
    return result
  }

  spawn(command: string | readonly [string, ...string[]], options: SpawnOptions = {}): Promise<JobProcess> {
    return this.#boundary(() => this.#spawn(command, options))
  }

  async #spawn(command: string | readonly [string, ...string[]], options: SpawnOptions): Promise<JobProcess> {
    await this.#turnToSpawn()
    const process = await startProcess(command, options, this.#commandSurroundings())
    if (this.#scope.isCancelled) this.#scope.checkpoint()
    return process
  }

  fetch(input: string | URL | Request, init: RequestInit = {}): Promise<Response> {
    return this.#boundary(() => this.#fetch(input, init))
  }

  async #fetch(input: string | URL | Request, init: RequestInit): Promise<Response> {
    try {
      return await this.#openConnections().fetch(input, init)
    } catch (error) {
      // Its connection was closed by the cancel: the error says nothing of the other side.
      if (this.#scope.isCancelled) this.#scope.checkpoint()
      throw error
    }
  }

  model(name?: string): Promise<LanguageModelV4> {
    return this.#boundary(() => this.#model(name))
  }

  async #model(name: string | undefined): Promise<LanguageModelV4> {
    const { models } = this.#resources
    const fetch: typeof globalThis.fetch = (input, init) => this.#openConnections().fetch(input, init)
    const open = async (): Promise<LanguageModelV4> => {
      try {
        return await models.open(name, fetch)
      } catch (error) {
        if (this.#scope.isCancelled) this.#scope.checkpoint()
        throw models.conceal(error)
      }
    }
    // To look up which one is listed first is a call too.
    const model = await repeated({ model: name ?? 'listed first', make: open, hasBegun: () => false }, this)
    return new JobModel(model, {
      scope: this.#scope,
      emit: (event) => this.#emit(event),
      onUsage: (usage) => this.#execution.addUsage(usage),
      trace: this.#order.trace,
      conceal: (error) => models.conceal(error),
    })
  }

  agent(options: AgentOptions): Promise<AgentResult> {
    return this.#boundary(() => this.#agent(options))
  }

  async #agent(options: AgentOptions): Promise<AgentResult> {
    // Loaded when the first job wants an agent.
    const { runAgent } = await import('./agent/runAgent.ts')
    return runAgent(this, options)
  }

  tool(name: string, input: Json, work: () => Promise<string | ToolAnswer>): Promise<ToolAnswer> {
    this.#toolCalls += 1
    const callId = `call_${this.#toolCalls}`
    const surroundings = { scope: this.#scope, emit: (event: TaskEvent) => this.#emit(event), callId }
    const terms = {
      parent: innermost(this.#order.trace),
      attributes: { 'gen_ai.operation.name': 'execute_tool', 'gen_ai.tool.name': name, 'gen_ai.tool.call.id': callId },
      isExpected: (error: unknown) => this.#scope.isOwnStop(error),
      failureIn: ({ ok }: ToolAnswer) => (ok === false ? 'tool_failed' : undefined),
    }
    return this.#boundary(() => inSpan(`execute_tool ${name}`, terms, () => runTool(name, input, work, surroundings)))
  }

  /**
   * Closed the moment that the job is cancelled, or has come to its end; shielded code that needs some then gets new ones, which go
   * with the job.
   */
  #openConnections(): JobConnections {
    if (this.#connections !== undefined && !this.#connections.isDestroyed) return this.#connections
    if (this.#hasSettled && !this.#scope.isShielded) {
      throw new Error('the job has ended, and this work of it was not awaited')
    }
    const connections = new JobConnections()
    this.#connections = connections
    this.#scope.hold({
      kind: 'requests',
      isPrompt: true,
      release: async ({ hard }) => {
        // At the ordinary end the function has settled: what still asks was not awaited, and would hold up the end for ever.
        this.#hasSettled ||= !hard
        const count = connections.openCount
        await connections.destroy()
        return { count }
      },
    })
    return connections
  }

  #commandSurroundings(): CommandSurroundings {
    const { containment, commandEnv, defaultCwd } = this.#resources
    const { key: owner, limits } = this.#order
    const emit = (event: TaskEvent): Promise<void> => this.#emit(event)
    return { scope: this.#scope, containment, commandEnv, defaultCwd, owner, limits, emit }
  }

  /** A boundary after the wait: whoever is asked to end while waiting starts nothing. @throws {JobStopped} */
  async #turnToSpawn(): Promise<void> {
    const { passed, leave } = this.#resources.spawnGate.pass()
    const unlisten = this.#scope.onRequest(leave)
    await passed
    unlisten()
    this.#scope.checkpoint()
  }

  defer(cleanup: () => void | Promise<void>): void {
    const scope = this.#scope
    scope.hold({
      kind: 'other',
      isPrompt: false,
      async release() {
        // It is called by whoever ended the job, which may be another job: a parent, or the one before it in its slot.
        await runWithToken(scope, cleanup)
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
    await mkdir(this.#resources.workspaceRoot, { recursive: true, mode: 0o700 })
    await makeFolder(path)
    return path
  }

  run(task: string, input: Json, options: RunOptions = {}): Promise<Json> {
    return this.#boundary(() => this.#run(task, input, options))
  }

  async #run(task: string, input: Json, options: RunOptions): Promise<Json> {
    const leave = this.#scope.enter('child')
    try {
      return await this.#order.children.run(this.#scope, task, input, options)
    } finally {
      leave()
    }
  }

  /** Where the job is to end, `work` is not begun. */
  #boundary<T>(work: () => Promise<T>): Promise<T> {
    return unowned(refusalOf(this.#scope) ?? work())
  }

  #workspacePath(): string {
    return join(this.#resources.workspaceRoot, this.#order.workspaceKey)
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

/**
 * What a job put in the place of its workspace is not taken for it: a link would lead whoever works there to where it leads.
 * @throws {TaskFailure} `TETHER_INVALID_WORKSPACE`
 */
async function makeFolder(path: string): Promise<void> {
  await unless(['EEXIST'], mkdir(path, { mode: 0o700 }))
  if ((await lstat(path)).isDirectory()) return
  throw new TaskFailure('TETHER_INVALID_WORKSPACE', 'something that is no folder was put in the place of the workspace')
}
