import type { PendingCancellations } from '../cancellation/PendingCancellations.ts'
import type { CancellationRequest, Phase } from '../job/cancellation.ts'
import type { Json } from '../job/json.ts'
import type { JobKey } from '../job/key.ts'
import { emptyReceipt } from '../job/receipt.ts'
import { Execution, type ExecutionReport } from './Execution.ts'
import type { ExecutionOrder } from './ExecutionOrder.ts'
import { IsolatedRun } from './isolation/IsolatedRun.ts'
import { withKillAllowance } from './isolation/killTimes.ts'
import type { WarmSpare } from './isolation/WarmSpare.ts'
import { type ContextResources, JobContext } from './JobContext.ts'

export interface OrchestratorOptions extends ContextResources {
  readonly pending: PendingCancellations
  /** Where the processes of isolated tasks come from. */
  readonly spare: WarmSpare
}

/**
 * Runs tasks. An execution is registered and asked about pending cancellations in one synchronous step, so that a request
 * either finds the execution here or was found by it: there is no moment between the two, and no timer that retries.
 */
export class TaskExecutionOrchestrator {
  readonly #options: OrchestratorOptions
  readonly #executions = new Map<JobKey, Execution>()
  readonly #abandoned = new Set<JobKey>()

  constructor(options: OrchestratorOptions) {
    this.#options = options
  }

  /**
   * Runs one job's function to its end, everything it held given back. Settles in `settleMs` after a cancel at the latest, with
   * `abandoned` where the function is still going. Never rejects.
   */
  async executeTask(order: ExecutionOrder): Promise<ExecutionReport> {
    const { key } = order
    const { clock, containment } = this.#options
    if (this.#executions.has(key)) throw new Error(`job ${key} is already being executed`)
    const pending = this.shouldCancelImmediately(key)
    if (pending !== undefined) {
      this.#options.pending.clearCancellation(key)
      const { requestedAtMs } = pending
      return { end: { kind: 'never_called' }, receipt: emptyReceipt(containment), requestedAtMs }
    }
    const isIsolated = order.task.isolatedModule !== undefined
    const limits = isIsolated ? withKillAllowance(order.limits) : order.limits
    const execution = new Execution({ clock, limits, containment, observer: order.observer })
    this.#executions.set(key, execution)
    const report = await execution.run(this.#bodyOf(order, execution))
    this.#executions.delete(key)
    if (report.end.kind === 'abandoned') {
      this.#abandoned.add(key)
      void report.end.settled.then(() => this.#abandoned.delete(key))
    }
    return report
  }

  #bodyOf(order: ExecutionOrder, execution: Execution): () => Promise<Json | undefined | void> {
    const module = order.task.isolatedModule
    if (module === undefined) {
      const context = new JobContext(order, execution, this.#options)
      return async () => order.task.run(context, order.input)
    }
    const { spare } = this.#options
    const isolated = new IsolatedRun({ order, module, execution, spare, resources: this.#options })
    return () => isolated.run()
  }

  /** Hands a request to the execution of `key`. `false` where there is none here. A cancel has taken effect on return. */
  cancelExecution(key: JobKey, request: CancellationRequest): boolean {
    const execution = this.#executions.get(key)
    if (execution === undefined) return false
    execution.request(request)
    return true
  }

  /** Whether `cancelExecution` would find the job's execution. */
  canCancelExecution(key: JobKey): boolean {
    return this.#executions.has(key)
  }

  /** How many functions run whose jobs have not ended. */
  getActiveExecutionCount(): number {
    return this.#executions.size
  }

  /** How many functions are still going whose jobs ended `abandoned`. */
  getAbandonedExecutionCount(): number {
    return this.#abandoned.size
  }

  /** The request that came before the execution was registered, if one did. */
  shouldCancelImmediately(key: JobKey): CancellationRequest | undefined {
    return this.#options.pending.peek(key)
  }

  /** What the job is doing; `starting` where its function is not registered here. */
  phaseOf(key: JobKey): Phase {
    return this.#executions.get(key)?.scope.phase ?? 'starting'
  }
}
