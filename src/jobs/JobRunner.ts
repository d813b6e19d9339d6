import { type Context, context } from '@opentelemetry/api'
import type { Clock } from '../clock.ts'
import type { EventLog } from '../eventlog/EventLog.ts'
import type { ExecutionReport } from '../execution/Execution.ts'
import type { ExecutionOrder } from '../execution/ExecutionOrder.ts'
import type { TaskExecutionOrchestrator } from '../execution/TaskExecutionOrchestrator.ts'
import type { CancelKind, Cause } from '../job/cancellation.ts'
import type { Failure } from '../job/failure.ts'
import type { Json } from '../job/json.ts'
import type { JobKey } from '../job/key.ts'
import type { Receipt } from '../job/receipt.ts'
import { workspaceKeyOf } from '../job/record.ts'
import { requestIn } from '../job/state.ts'
import type { JobCommand } from '../job/transition.ts'
import type { Logger } from '../logger.ts'
import type { JobStore } from '../store/JobStore.ts'
import type { ActiveJob } from './ActiveJob.ts'
import type { ChildJobs } from './ChildJobs.ts'
import { isRetried } from './isRetried.ts'
import type { Stopped } from './JobObserver.ts'
import { StoredValues } from './StoredValues.ts'

export interface JobRunnerOptions {
  readonly clock: Clock
  readonly logger: Logger
  readonly store: JobStore
  readonly eventLog: EventLog
  readonly orchestrator: TaskExecutionOrchestrator
  readonly children: ChildJobs
  /** The trace of the job's own span; undefined where nobody traces. */
  readonly traceOf: (job: ActiveJob) => Context | undefined
  readonly replica: string
  /** Of a process that shares its jobs: makes the end that is about to be written stand, unless another was asked for. */
  readonly seal?: (job: ActiveJob) => Promise<void>
  readonly killGraceMs: number
  readonly maxAbandoned: number
  /** A job that was forfeited has settled here, and its end is not written by this process. */
  readonly onForfeited?: (job: ActiveJob, failure: Failure) => void
  readonly onStopped?: (stopped: Stopped) => void
  readonly onDeadline: (job: ActiveJob, kind: CancelKind, cause: Cause, reason: string) => void
}

/** A function that is still going though its job has ended. `since` is ISO 8601. */
export interface StuckJob {
  readonly tenant: string
  readonly id: string
  readonly task: string
  readonly since: string
}

/** Takes a job from its slot to its terminal event: claim, run, decide the outcome. */
export class JobRunner {
  readonly #options: JobRunnerOptions
  readonly #stuck = new Map<JobKey, StuckJob>()
  /** When `job.started` was in the log: a store that was away between claim and commit takes nothing off a job's time. */
  readonly #startedMs = new WeakMap<ActiveJob, number>()

  constructor(options: JobRunnerOptions) {
    this.#options = options
  }

  get stuck(): readonly StuckJob[] {
    return [...this.#stuck.values()]
  }

  /** Settles when the slot may go to another job. Never rejects: what fails here is logged, and the job is interrupted. */
  async run(job: ActiveJob): Promise<void> {
    try {
      await this.#run(job)
    } catch (error) {
      this.#options.logger.error({ jobId: job.ref.id, err: error }, 'a defect ended the run of a job')
      const failure = { code: 'TETHER_INTERNAL', message: 'the server failed to run the job', retryable: true }
      const applied = job.apply({ do: 'interrupt', at: this.#options.clock.now(), failure })
      if (applied.kind === 'moved') await applied.written
    }
  }

  /** Arms the job's own deadline anew, from its start; `timeoutMs` 0 is none. */
  armTimeout(job: ActiveJob, timeoutMs: number): void {
    const { status } = job.decided
    const startedMs = this.#startedMs.get(job)
    if (startedMs === undefined || (status !== 'running' && status !== 'stopping')) return
    const elapsedMs = this.#options.clock.monotonicMs() - startedMs
    const remainingMs = timeoutMs === 0 ? 0 : Math.max(1, timeoutMs - elapsedMs)
    job.timers.arm('run', remainingMs, () => {
      this.#options.onDeadline(job, 'cancel', 'timed_out', `it ran for ${timeoutMs} ms`)
    })
  }

  async #run(job: ActiveJob): Promise<void> {
    const { clock, replica, orchestrator, children, killGraceMs, store, eventLog } = this.#options
    const { task, policy } = job
    // What is claimed loses its secrets in the record; the function gets them from here.
    const { input, metadata } = job.record
    const claimed = job.forfeit === undefined ? job.apply({ do: 'claim', at: clock.now(), replica }) : undefined
    if (claimed?.kind === 'refused' || claimed?.kind === 'unchanged' || task === undefined) return
    job.timers.disarm('queue')
    const isClaimed = await claimed?.written
    if (job.forfeit !== undefined) this.#options.onForfeited?.(job, job.forfeit)
    if (isClaimed !== true || job.forfeit !== undefined) return
    this.#armDeadlines(job)
    const trace = this.#options.traceOf(job)
    const order: ExecutionOrder = {
      key: job.key,
      ref: job.ref,
      task,
      input: copyOf(input),
      attempt: 'attempt' in job.decided ? job.decided.attempt : 1,
      metadata,
      limits: { settleMs: policy.settleMs, killGraceMs: Math.min(killGraceMs, policy.settleMs / 2) },
      log: job.log,
      children: children.runnerOf(job),
      values: new StoredValues({ store, eventLog, tenant: job.record.tenant, task: task.name }),
      workspaceKey: workspaceKeyOf(job.record),
      observer: this.#observerOf(job),
      ...(trace === undefined ? {} : { trace }),
    }
    // What the function does, and whatever instruments that, finds the job's span in its context.
    const execute = (): Promise<ExecutionReport> => orchestrator.executeTask(order)
    const report = await (trace === undefined ? execute() : context.with(trace, execute))
    if (job.decided.status !== 'cancelling' && job.forfeit === undefined) await this.#options.seal?.(job)
    if (job.forfeit !== undefined && isRetried(job.record, task)) {
      // For a process that can run it again.
      this.#options.onForfeited?.(job, job.forfeit)
      if (report.end.kind === 'abandoned') await this.#keepAbandoned(job, report.end.settled)
      return
    }
    const isWritten = this.#conclude(job, report)
    if (report.end.kind === 'abandoned') await this.#keepAbandoned(job, report.end.settled, report.requestedAtMs)
    else this.#noteStopped(job, report.requestedAtMs)
    await isWritten
  }

  #armDeadlines(job: ActiveJob): void {
    const { timeoutMs, idleTimeoutMs } = job.policy
    this.#startedMs.set(job, this.#options.clock.monotonicMs())
    this.armTimeout(job, timeoutMs)
    job.timers.armIdle(idleTimeoutMs, () => {
      this.#options.onDeadline(job, 'cancel', 'idle_timed_out', `it published nothing for ${idleTimeoutMs} ms`)
    })
  }

  async #conclude(job: ActiveJob, report: ExecutionReport): Promise<void> {
    const applied = job.apply(outcomeOf(job, report, this.#options.clock.now()))
    if (applied.kind !== 'moved') {
      throw new Error(`job ${job.ref.id} is ${job.decided.status} and cannot end as ${report.end.kind}`)
    }
    const isWritten = await applied.written
    this.#logEnd(job, report.receipt)
    if (!isWritten && job.forfeit !== undefined) this.#options.onForfeited?.(job, job.forfeit)
  }

  /** The slot is given up while few functions are stuck; past the limit slots are kept, or the process would fill up with them. */
  async #keepAbandoned(job: ActiveJob, settled: Promise<void>, requestedAtMs?: number): Promise<void> {
    const { clock, maxAbandoned } = this.#options
    const { tenant, id, task } = job.record
    this.#stuck.set(job.key, { tenant, id, task, since: new Date(clock.now()).toISOString() })
    const noted = this.#noteSettled(job, settled, requestedAtMs)
    if (this.#stuck.size > maxAbandoned) await noted
  }

  async #noteSettled(job: ActiveJob, settled: Promise<void>, requestedAtMs: number | undefined): Promise<void> {
    await settled
    this.#stuck.delete(job.key)
    this.#noteStopped(job, requestedAtMs)
    this.#options.logger.warn({ jobId: job.ref.id }, 'an abandoned function settled')
    // Where the log could not be written, the job ended `failed` and has no such field.
    if (job.decided.status !== 'abandoned') return
    const settledAt = this.#options.clock.now()
    this.#options.eventLog.push({ change: { kind: 'settled', ref: job.ref, settledAt }, settle: () => undefined })
  }

  /** One that ended by itself after all was not stopped. */
  #noteStopped({ decided }: ActiveJob, requestedAtMs: number | undefined): void {
    if (requestedAtMs === undefined || !('receipt' in decided) || decided.receipt === undefined) return
    const found = requestIn(decided)
    if (found === undefined) return
    const tookMs = this.#options.clock.monotonicMs() - requestedAtMs
    this.#options.onStopped?.({ kind: found.kind, phase: found.request.phase, tookMs })
  }

  #observerOf(job: ActiveJob): Parameters<TaskExecutionOrchestrator['executeTask']>[0]['observer'] {
    const { logger } = this.#options
    const jobId = job.ref.id
    return {
      onEvent: () => job.timers.touch(),
      onAborted: ({ cause }, ms) => logger.info({ jobId, cause, ms }, 'aborted'),
      onReleaseFailed: (kind, error) => logger.error({ jobId, kind, err: error }, 'something held was not released'),
    }
  }

  #logEnd(job: ActiveJob, receipt: Receipt): void {
    const { logger } = this.#options
    const { status } = job.decided
    const cause = 'cancellation' in job.decided ? job.decided.cancellation?.cause : undefined
    const fields = { jobId: job.ref.id, status, cause }
    if (receipt.abortedToKilledMs !== null) logger.info({ ...fields, ms: receipt.abortedToKilledMs }, 'killed')
    const { confirmed, survivors } = receipt
    logger.info({ ...fields, ms: receipt.abortedToSettledMs ?? undefined, confirmed }, 'settled')
    if (survivors.length > 0) logger.error({ ...fields, survivors }, 'processes survived their job')
  }
}

/** What the job ends as: by where it stands, then by what its function did. */
function outcomeOf(job: ActiveJob, { end, receipt }: ExecutionReport, at: number): JobCommand {
  if (job.forfeit !== undefined) return { do: 'interrupt', at, failure: job.forfeit }
  if (job.storeFailure !== undefined) return { do: 'fail', at, failure: job.storeFailure }
  if (end.kind === 'abandoned') return { do: 'abandon', at, receipt }
  if (job.decided.status === 'cancelling') return { do: 'settle', at, receipt }
  switch (end.kind) {
    case 'returned':
      return { do: 'succeed', at, result: end.result }
    case 'threw':
      return { do: 'fail', at, failure: end.failure }
    default:
      return { do: 'settle', at, receipt }
  }
}

/** The function may change what it is given; the record is not its to change. */
function copyOf(input: Json): Json {
  return typeof input === 'object' ? structuredClone(input) : input
}
