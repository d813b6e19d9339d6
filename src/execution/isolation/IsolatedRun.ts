import { join } from 'node:path'
import { context, ROOT_CONTEXT } from '@opentelemetry/api'
import type { CancellationRequest } from '../../job/cancellation.ts'
import type { TaskEvent } from '../../job/event.ts'
import { failureOf, TaskFailure } from '../../job/failure.ts'
import type { Json } from '../../job/json.ts'
import { unreachable } from '../../job/unreachable.ts'
import type { Execution } from '../Execution.ts'
import type { ExecutionOrder } from '../ExecutionOrder.ts'
import type { ContextResources } from '../JobContext.ts'
import { stream } from '../runCommand.ts'
import { checkedJson, checkedKey, MAX_LISTED } from '../TaskValueStore.ts'
import { diedFailure } from './diedFailure.ts'
import { type ChildJob, type FromChild, type Outcome, parseFromChild, type ValueCall } from './fromChild.ts'
import { HeldProcess } from './HeldProcess.ts'
import { killAfterMs } from './killTimes.ts'
import { RelayedSpans } from './RelayedSpans.ts'
import type { TaskProcess } from './TaskProcess.ts'
import type { ChildJobEnd, RelayedRequest, ValueAnswer } from './toChild.ts'
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
  readonly #held: HeldProcess
  /** Where somebody traces. */
  readonly #spans: RelayedSpans | undefined
  #outcome: Outcome | undefined

  constructor({ order, module, execution, resources, spare }: IsolatedRunOptions) {
    this.#order = order
    this.#module = module
    this.#execution = execution
    this.#resources = resources
    this.#spare = spare
    this.#spans = order.trace && new RelayedSpans(order.trace, execution.scope)
    this.#held = new HeldProcess({
      scope: execution.scope,
      clock: resources.clock,
      settleMs: order.limits.settleMs,
      tmpRoot: join(resources.tmpRoot, `isolated-${order.key}`),
    })
  }

  /** @throws whatever the function threw, as the `TaskFailure` that it is; `TETHER_PROCESS_DIED`, `TETHER_SPAWN_FAILED` */
  async run(): Promise<Json> {
    const { scope } = this.#execution
    const taking = this.#spare.take()
    this.#held.hold(taking)
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
      this.#spans?.close()
      this.#held.functionSettled()
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
    this.#held.functionSettled()
    await contained.end({ graceMs: isSound ? killGraceMs : 0, deadlineMs: settleMs - killGraceMs })
    await reading
    await Promise.all(outputs)
    return this.#conclude(process)
  }

  #sendRun(process: TaskProcess): void {
    const { key, ref, task, input, attempt, metadata, limits, workspaceKey } = this.#order
    const { commandEnv, defaultCwd, workspaceRoot, models } = this.#resources
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
      folders: { commandEnv, defaultCwd, workspaceRoot, tmpRoot: this.#held.tmpRoot },
      workspaceKey,
      models: models.settings,
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
        this.#held.count(message)
        if (message.usage !== undefined) this.#execution.addUsage(message.usage)
        return
      }
      await this.#receive(message, process)
    }
  }

  async #receive(message: Exclude<FromChild, Outcome>, process: TaskProcess): Promise<void> {
    switch (message.type) {
      case 'events': {
        let room: Promise<void> | undefined
        for (const event of message.events) {
          this.#spans?.take(event)
          room = this.#emit(event)
        }
        if (!message.asksRoom) return
        await room
        process.send({ type: 'room' })
        return
      }
      case 'childJob':
        void this.#runChildJob(message, process)
        return
      case 'value':
        void this.#answerValue(message, process)
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
  async #runChildJob(
    { id, task, input, timeoutMs, sharesWorkspace, isShielded }: ChildJob,
    process: TaskProcess,
  ): Promise<void> {
    const { scope } = this.#execution
    const leave = scope.enter('child')
    const options = { sharesWorkspace, ...(timeoutMs === undefined ? {} : { timeoutMs }) }
    const { children, trace = ROOT_CONTEXT } = this.#order
    // What a process sends is heard in the context of whoever started it, which may have been another job.
    const work = (): Promise<Json> => context.with(trace, () => children.run(scope, task, input, options))
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

  /** Never rejects. */
  async #answerValue({ id, call }: ValueCall, process: TaskProcess): Promise<void> {
    let answer: ValueAnswer
    try {
      answer = await this.#callValue(call)
    } catch (error) {
      answer = { kind: 'threw', failure: failureOf(error) }
    }
    process.send({ type: 'valueAnswer', id, answer })
  }

  async #callValue(call: ValueCall['call']): Promise<ValueAnswer> {
    const { values } = this.#order
    switch (call.do) {
      case 'get': {
        const value = await values.get(checkedKey(call.key))
        return { kind: 'value', ...(value === undefined ? {} : { value }) }
      }
      case 'set':
        await values.set(checkedKey(call.key), call.json === undefined ? undefined : checkedJson(call.key, call.json))
        return { kind: 'value' }
      case 'list':
        return { kind: 'keys', keys: await values.list(call.prefix, call.after, Math.min(call.limit, MAX_LISTED)) }
      default:
        return unreachable(call)
    }
  }

  #emit(event: TaskEvent): Promise<void> {
    this.#order.observer.onEvent()
    return this.#order.log.emit(event)
  }

  async #conclude({ contained }: TaskProcess): Promise<Json> {
    const { scope } = this.#execution
    const outcome = this.#outcome
    if (outcome === undefined) {
      if (scope.isCancelled) scope.checkpoint()
      throw diedFailure(await contained.exited)
    }
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
}

function relayed({ kind, cause, reason, by, requestedAt }: CancellationRequest): RelayedRequest {
  return { kind, cause, reason, requestedAt, ...(by === undefined ? {} : { by }) }
}
