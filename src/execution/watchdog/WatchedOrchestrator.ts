import type { CancellationRequest } from '../../job/cancellation.ts'
import type { JobKey } from '../../job/key.ts'
import type { ExecutionReport } from '../Execution.ts'
import type { ExecutionOrder } from '../ExecutionOrder.ts'
import { type OrchestratorOptions, TaskExecutionOrchestrator } from '../TaskExecutionOrchestrator.ts'
import { type CurrentExecution, runAs } from './currentExecution.ts'
import type { Watchdog } from './Watchdog.ts'

/** Runs tasks under the eyes of a watchdog: from the call of a function until it has settled, also where its job was abandoned. */
export class WatchedOrchestrator extends TaskExecutionOrchestrator {
  readonly #watchdog: Watchdog
  readonly #current = new Map<JobKey, CurrentExecution>()

  constructor(options: OrchestratorOptions, watchdog: Watchdog) {
    super(options)
    this.#watchdog = watchdog
  }

  override async executeTask(order: ExecutionOrder): Promise<ExecutionReport> {
    const jobId = order.ref.id
    const execution = { jobId, task: order.task.name }
    this.#current.set(order.key, execution)
    const end = this.#watchdog.watch(jobId)
    let settled: Promise<void> | undefined
    try {
      const report = await runAs(execution, () => super.executeTask(order))
      if (report.end.kind === 'abandoned') settled = report.end.settled
      return report
    } finally {
      this.#current.delete(order.key)
      if (settled === undefined) end()
      else void settled.then(end)
    }
  }

  /** What listens to the job's signals is its own code, whoever asked for the end. */
  override cancelExecution(key: JobKey, request: CancellationRequest): boolean {
    const execution = this.#current.get(key)
    const cancel = (): boolean => super.cancelExecution(key, request)
    return execution === undefined ? cancel() : runAs(execution, cancel)
  }
}
