import type { Context } from '@opentelemetry/api'
import type { JobScope } from '../cancellation/JobScope.ts'
import type { Clock } from '../clock.ts'
import type { ChildRunner } from '../execution/ExecutionOrder.ts'
import type { RegisteredTask, TaskRegistry } from '../execution/TaskRegistry.ts'
import type { RunOptions } from '../execution/task.ts'
import type { CancelKind, Cause } from '../job/cancellation.ts'
import { TetherError } from '../job/error.ts'
import { TaskFailure } from '../job/failure.ts'
import type { Json } from '../job/json.ts'
import type { JobState } from '../job/state.ts'
import type { TraceCarrier } from '../job/trace.ts'
import { carrierOf, innermost } from '../tracing/traces.ts'
import type { ActiveJob } from './ActiveJob.ts'

/** Protocol, section 2: a tree of jobs is at most this deep, and one job has at most so many children alive. */
const MAX_DEPTH = 8
const MAX_ALIVE = 64
/** Agents of agents of agents would be more than the memory holds. */
const MAX_ALIVE_IN_TREE = 256

export interface ChildSpec {
  readonly task: RegisteredTask
  readonly input: Json
  readonly timeoutMs: number
  readonly sharesWorkspace: boolean
  readonly trace: TraceCarrier | undefined
}

export interface ChildJobsOptions {
  readonly clock: Clock
  readonly tasks: TaskRegistry
  /** What runs for a job belongs below this, where it is below nothing else of the job's. */
  readonly traceOf: (job: ActiveJob) => Context | undefined
  /** Makes a child, which is being recorded. */
  readonly create: (parent: ActiveJob, child: ChildSpec) => ActiveJob
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
    return { run: (scope, task, input, options) => this.#run(parent, scope, task, input, options) }
  }

  async #run(parent: ActiveJob, scope: JobScope, name: string, input: Json, options: RunOptions): Promise<Json> {
    const { timeoutMs = 0, sharesWorkspace = false } = options
    const task = this.#taskFor(name, input)
    if (parent.depth >= MAX_DEPTH) throw tooMany(`a job may be ${MAX_DEPTH} deep`)
    if (parent.aliveChildren >= MAX_ALIVE) throw tooMany(`a job may have ${MAX_ALIVE} children alive`)
    const { tree } = parent
    if (tree.alive >= MAX_ALIVE_IN_TREE) throw tooMany(`a tree of jobs may have ${MAX_ALIVE_IN_TREE} jobs alive`)
    parent.aliveChildren += 1
    tree.alive += 1
    try {
      const trace = carrierOf(innermost(this.#options.traceOf(parent)))
      const child = this.#options.create(parent, { task, input, timeoutMs, sharesWorkspace, trace })
      child.depth = parent.depth + 1
      child.tree = tree
      return resultOf(child, await this.#follow(parent, scope, child), scope)
    } finally {
      parent.aliveChildren -= 1
      tree.alive -= 1
    }
  }

  /**
   * Settles with how the child ended, as soon as that is decided: a store that is slow or away holds up neither the parent's
   * function nor its end.
   */
  async #follow(parent: ActiveJob, scope: JobScope, child: ActiveJob): Promise<ChildEnd> {
    const { ref, record } = child
    // Held from before it is recorded: its parent may be cancelled or end meanwhile.
    const letGo = scope.hold({
      kind: 'children',
      isPrompt: true,
      release: async ({ hard }) => {
        this.#request(child, 'cancel', hard ? 'parent_cancelled' : 'parent_ended')
        const state = await untilConcluded(child)
        if (state === undefined) return { count: 0 }
        return { count: 1, survivors: 'receipt' in state ? (state.receipt?.survivors ?? []) : [] }
      },
    })
    const unlisten = scope.onRequest((kind) => {
      if (kind === 'stop') this.#request(child, 'stop', 'parent_stopped')
    })
    try {
      // A cancel of the parent's may be decided and not have fired yet.
      if (parent.decided.status === 'cancelling') this.#request(child, 'cancel', 'parent_cancelled')
      if (!(await child.isRecorded)) {
        throw new TaskFailure('TETHER_STORE_FAILED', 'the store did not take the child job', { retryable: true })
      }
      const [childId, task] = [ref.id, record.task]
      await parent.log.emit({ type: 'child.started', childId, task })
      // Never rejects; what it has to wait for at its end is the writing, for which nobody here waits.
      if (!child.isDecided) void this.#options.run(child)
      const state = await Promise.race([child.concluded, child.gone.then(() => INTERRUPTED)])
      await parent.log.emit({ type: 'child.finished', childId, task, status: state.status })
      return state
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

/** `INTERRUPTED`: another process writes how it ended, or this one does from what the store has. */
type ChildEnd = JobState | typeof INTERRUPTED

const INTERRUPTED = { status: 'interrupted' } as const

/** Undefined where it never came to be, or nothing more of it comes in this process. */
async function untilConcluded(child: ActiveJob): Promise<JobState | undefined> {
  const isWithdrawn = child.isRecorded.then((isRecorded) => (isRecorded ? child.concluded : undefined))
  return Promise.race([child.concluded, isWithdrawn, child.gone.then(() => undefined)])
}

function resultOf(child: ActiveJob, state: ChildEnd, scope: JobScope): Json {
  // A copy: what the parent makes of it is no matter of the record, which may not be written yet.
  if (state.status === 'succeeded') return structuredClone(state.result)
  // Where the child ended because its parent is to end, the parent meets that here, not a failure of the child.
  scope.checkpoint()
  const detail = state.status === 'failed' ? `: ${state.failure.message}` : ''
  const { id } = child.ref
  throw new TaskFailure('TETHER_CHILD_FAILED', `child ${id} (${child.record.task}) ended ${state.status}${detail}`)
}

function tooMany(limit: string): TaskFailure {
  return new TaskFailure('TETHER_TOO_MANY_CHILDREN', limit)
}
