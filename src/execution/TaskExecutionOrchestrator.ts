import type { PendingCancellations } from '../cancellation/PendingCancellations.ts'
import type { Clock } from '../clock.ts'
import type { CancellationRequest, Phase } from '../job/cancellation.ts'
import type { JobKey } from '../job/key.ts'
import { emptyReceipt } from '../job/receipt.ts'
import type { Containment } from '../resources/processes/Containment.ts'
import { Execution, type ExecutionReport } from './Execution.ts'
import type { ExecutionOrder } from './ExecutionOrder.ts'
import { JobContext } from './JobContext.ts'

export interface OrchestratorOptions {
  readonly clock: Clock
  readonly pending: PendingCancellations
  readonly containment: Containment
  /** The basic environment of commands: see `commandEnvironment`. */
  readonly commandEnv: Readonly<Record<string, string>>
  /** Where commands run that name no folder. */
  readonly defaultCwd: string
  readonly tmpRoot: string
  readonly workspaceRoot: string
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
    if (this.shouldCancelImmediately(key) !== undefined) {
      this.#options.pending.clearCancellation(key)
      return { end: { kind: 'never_called' }, receipt: emptyReceipt(containment) }
    }
    const execution = new Execution({ clock, limits: order.limits, containment, observer: order.observer })
    this.#executions.set(key, execution)
    const context = new JobContext(order, execution, this.#options)
    const report = await execution.run(async () => order.task.run(context, order.input))
    this.#executions.delete(key)
    if (report.end.kind === 'abandoned') {
      this.#abandoned.add(key)
      void report.end.settled.then(() => this.#abandoned.delete(key))
    }
    return report
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
