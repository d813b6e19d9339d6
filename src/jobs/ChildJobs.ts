import type { JobScope } from '../cancellation/JobScope.ts'
import type { Clock } from '../clock.ts'
import type { ChildRunner } from '../execution/ExecutionOrder.ts'
import type { RegisteredTask, TaskRegistry } from '../execution/TaskRegistry.ts'
import type { CancelKind, Cause } from '../job/cancellation.ts'
import { TetherError } from '../job/error.ts'
import { TaskFailure } from '../job/failure.ts'
import type { Json } from '../job/json.ts'
import type { JobRecord } from '../job/record.ts'
import type { ActiveJob } from './ActiveJob.ts'

/** Protocol, section 2: a tree of jobs is at most this deep, and one job has at most so many children alive. */
const MAX_DEPTH = 8
const MAX_ALIVE = 64

export interface ChildJobsOptions {
  readonly clock: Clock
  readonly tasks: TaskRegistry
  /** Records a child. Undefined where the store did not take it. */
  readonly create: (
    parent: ActiveJob,
    child: { readonly task: RegisteredTask; readonly input: Json; readonly timeoutMs: number },
  ) => Promise<ActiveJob | undefined>
  readonly run: (job: ActiveJob) => Promise<void>
  readonly request: (job: ActiveJob, kind: CancelKind, cause: Cause, reason: string) => void
}

/**
 * Runs child jobs in their parent's process and slot: a parent that waited in the queue for its child might wait for ever. A
 * child is held by its parent's scope, so it is cancelled with it, stopped with it, and never outlives it.
 */
export class ChildJobs {
  readonly #options: ChildJobsOptions

  constructor(options: ChildJobsOptions) {
    this.#options = options
  }

  runnerOf(parent: ActiveJob): ChildRunner {
    return { run: (scope, task, input, options) => this.#run(parent, scope, task, input, options.timeoutMs ?? 0) }
  }

  async #run(parent: ActiveJob, scope: JobScope, name: string, input: Json, timeoutMs: number): Promise<Json> {
    const task = this.#taskFor(name, input)
    if (parent.depth >= MAX_DEPTH) throw tooMany(`a job may be ${MAX_DEPTH} deep`)
    if (parent.aliveChildren >= MAX_ALIVE) throw tooMany(`a job may have ${MAX_ALIVE} children alive`)
    parent.aliveChildren += 1
    try {
      const created = this.#options.create(parent, { task, input, timeoutMs })
      return resultOf(await this.#follow(parent, scope, created), scope)
    } finally {
      parent.aliveChildren -= 1
    }
  }

  async #follow(parent: ActiveJob, scope: JobScope, created: Promise<ActiveJob | undefined>): Promise<JobRecord> {
    let child: ActiveJob | undefined
    let endCause: Cause | undefined
    // Held from before it is recorded: its parent may be cancelled or end meanwhile.
    const letGo = scope.hold({
      kind: 'children',
      isPrompt: true,
      release: async ({ hard }) => {
        endCause = hard ? 'parent_cancelled' : 'parent_ended'
        if (child !== undefined) this.#request(child, 'cancel', endCause)
        const record = await (await created)?.ended
        if (record === undefined) return { count: 0 }
        const receipt = 'receipt' in record.state ? record.state.receipt : undefined
        return { count: 1, survivors: receipt?.survivors ?? [] }
      },
    })
    const unlisten = scope.onRequest((kind) => {
      if (kind === 'stop' && child !== undefined) this.#request(child, 'stop', 'parent_stopped')
    })
    try {
      child = await created
      if (child === undefined) throw new TaskFailure('TETHER_STORE_FAILED', 'the store did not take the child job')
      child.depth = parent.depth + 1
      const childId = child.ref.id
      const task = child.record.task
      // What came while the child was being recorded was not heard; a cancel may be decided and not have fired yet.
      if (parent.decided.status === 'cancelling') endCause ??= 'parent_cancelled'
      if (endCause !== undefined) this.#request(child, 'cancel', endCause)
      else if (scope.isStopRequested) this.#request(child, 'stop', 'parent_stopped')
      await parent.log.emit({ type: 'child.started', childId, task })
      await Promise.all([child.isDecided ? undefined : this.#options.run(child), child.ended])
      const record = await child.ended
      await parent.log.emit({ type: 'child.finished', childId, task, status: record.state.status })
      return record
    } finally {
      unlisten()
      letGo()
    }
  }

  #request(child: ActiveJob, kind: CancelKind, cause: Cause): void {
    this.#options.request(child, kind, cause, 'its parent was asked to end or has ended')
  }

  #taskFor(name: string, input: Json): RegisteredTask {
    try {
      const task = this.#options.tasks.get(name)
      task.assertInput(input)
      return task
    } catch (error) {
      if (error instanceof TetherError) throw new TaskFailure(error.code, error.message, { cause: error })
      throw error
    }
  }
}

function resultOf(record: JobRecord, scope: JobScope): Json {
  if (record.state.status === 'succeeded') return record.state.result
  // Where the child ended because its parent is to end, the parent meets that here, not a failure of the child.
  scope.checkpoint()
  const detail = record.state.status === 'failed' ? `: ${record.state.failure.message}` : ''
  throw new TaskFailure(
    'TETHER_CHILD_FAILED',
    `child ${record.id} (${record.task}) ended ${record.state.status}${detail}`,
  )
}

function tooMany(limit: string): TaskFailure {
  return new TaskFailure('TETHER_TOO_MANY_CHILDREN', limit)
}
