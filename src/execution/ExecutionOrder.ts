import type { Context } from '@opentelemetry/api'
import type { JobScope } from '../cancellation/JobScope.ts'
import type { JobLog } from '../eventlog/JobLog.ts'
import type { Json } from '../job/json.ts'
import type { JobKey, JobRef } from '../job/key.ts'
import type { ExecutionLimits, ExecutionObserver } from './Execution.ts'
import type { RegisteredTask } from './TaskRegistry.ts'
import type { ValueKeeper } from './TaskValueStore.ts'
import type { RunOptions } from './task.ts'

/** Starts child jobs for the job that runs in `scope`, and ends them with it. */
export interface ChildRunner {
  run(scope: JobScope, task: string, input: Json, options: RunOptions): Promise<Json>
}

/** One run of a job, as it is handed to the orchestrator. */
export interface ExecutionOrder {
  readonly key: JobKey
  readonly ref: JobRef
  readonly task: RegisteredTask
  readonly input: Json
  readonly attempt: number
  readonly metadata: Readonly<Record<string, Json>>
  readonly limits: ExecutionLimits
  readonly log: Pick<JobLog, 'emit'>
  readonly children: ChildRunner
  readonly values: ValueKeeper
  /** Whose workspace it works in: its own, or that of a parent that shares it. */
  readonly workspaceKey: JobKey
  readonly observer: ExecutionObserver & { onEvent(): void }
  /** The job's span; undefined where nobody traces. */
  readonly trace?: Context
}

/** What of it a job's context needs, also where that is in another process than the order. */
export type ContextOrder = Omit<ExecutionOrder, 'task' | 'input'>
