import type { ExecutionReport } from '../Execution.ts'
import type { ExecutionOrder } from '../ExecutionOrder.ts'
import { type OrchestratorOptions, TaskExecutionOrchestrator } from '../TaskExecutionOrchestrator.ts'
import { runAs } from './currentExecution.ts'
import type { Watchdog } from './Watchdog.ts'

/** Runs tasks under the eyes of a watchdog: from the call of a function until it has settled, also where its job was abandoned. */
export class WatchedOrchestrator extends TaskExecutionOrchestrator {
  readonly #watchdog: Watchdog

  constructor(options: OrchestratorOptions, watchdog: Watchdog) {
    super(options)
    this.#watchdog = watchdog
  }

  override async executeTask(order: ExecutionOrder): Promise<ExecutionReport> {
    const jobId = order.ref.id
    const end = this.#watchdog.watch(jobId)
    let settled: Promise<void> | undefined
    try {
      const report = await runAs({ jobId, task: order.task.name }, () => super.executeTask(order))
      if (report.end.kind === 'abandoned') settled = report.end.settled
      return report
    } finally {
      if (settled === undefined) end()
      else void settled.then(end)
    }
  }
}
