import type { Readable } from 'node:stream'
import type { Logger } from 'pino'
import type { PendingCancellations } from '../cancellation/PendingCancellations.ts'
import type { Clock } from '../clock.ts'
import type { EventLog, StoreHealth } from '../eventlog/EventLog.ts'
import { type FrameSink, JobReader } from '../eventlog/JobReader.ts'
import type { LogPages } from '../eventlog/LogPages.ts'
import type { TaskExecutionOrchestrator } from '../execution/TaskExecutionOrchestrator.ts'
import type { TaskRegistry } from '../execution/TaskRegistry.ts'
import { TetherError } from '../job/error.ts'
import type { StatusEvent } from '../job/event.ts'
import { type GroupId, parseJobId } from '../job/id.ts'
import { DEFAULT_TENANT, type JobKey, type JobRef, keyOf } from '../job/key.ts'
import { messageOf } from '../job/messageOf.ts'
import type { JobPolicy, OnDisconnect } from '../job/policy.ts'
import type { Containment } from '../job/receipt.ts'
import { workspaceKeyOf } from '../job/record.ts'
import { isTerminal } from '../job/status.ts'
import { type JobView, rowOf } from '../job/view.ts'
import { type JobStore, type ListFilter, type ListPlace, StoreError } from '../store/JobStore.ts'
import { ActiveJob } from './ActiveJob.ts'
import { ActiveJobs } from './ActiveJobs.ts'
import { ChildJobs } from './ChildJobs.ts'
import { Holder } from './Holder.ts'
import { type EndAnswer, type EndRequest, type GroupAnswer, JobEnder } from './JobEnder.ts'
import { JobFinder } from './JobFinder.ts'
import type { JobQueue } from './JobQueue.ts'
import { JobRunner } from './JobRunner.ts'
import { JobStarter, type StartedJob, type StartRequest } from './JobStarter.ts'
import { finishedError, JobViews } from './JobViews.ts'
import { type PolicyDefaults, timeoutInForce } from './policyInForce.ts'
import { Retention } from './Retention.ts'
import type { WorkspaceFile, Workspaces } from './Workspaces.ts'
import { abortable, waitAtMost } from './waiting.ts'

export interface JobListing {
  readonly jobs: readonly JobView[]
  readonly next: ListPlace | undefined
}

/** One change of one job's status, once it is in the log. `at` is wall time in ms. */
export interface StatusChange {
  readonly event: StatusEvent
  readonly seq: number
  readonly at: number
  readonly row: JobView
  readonly tenant: string
}

export interface AttachOptions {
  /** The reader has the events up to here. Past the end of the log it is told so, and goes on from the end. */
  readonly after: number
  readonly sink: FrameSink
  readonly named: boolean
  /** Whether a reader that has all of a job that has ended gets its terminal event again, rather than nothing. */
  readonly givesEnd?: boolean
  /** Joins as a holder, unless the job is being cancelled or has ended. */
  readonly holder?: Holder
}

export interface Attachment {
  /** Not started yet. */
  readonly reader: JobReader
  readonly view: JobView
  readonly lastSeq: number
  readonly holds: boolean
}

export interface Health {
  readonly checks: Readonly<Record<string, { readonly ok: boolean; readonly detail?: string }>>
  readonly isReady: boolean
  readonly isDraining: boolean
  readonly stuck: readonly { readonly id: string; readonly task: string; readonly since: string }[]
  readonly containment: Containment
  readonly running: number
  readonly queued: number
}

export interface JobManagerOptions {
  readonly clock: Clock
  readonly logger: Logger
  readonly store: JobStore
  readonly eventLog: EventLog
  readonly pages: LogPages
  readonly queue: JobQueue
  readonly pending: PendingCancellations
  readonly orchestrator: TaskExecutionOrchestrator
  readonly tasks: TaskRegistry
  readonly workspaces: Workspaces
  readonly containment: Containment
  /** Unique to one start of one process. */
  readonly replica: string
  readonly concurrency: number
  readonly maxQueued: number
  readonly maxAbandoned: number
  readonly killGraceMs: number
  /** How long a finished job is kept; 0: until it is deleted. */
  readonly retainJobsMs: number
  readonly policyDefaults: PolicyDefaults
}

/** What a shutdown allows for writing, besides the jobs' own deadlines. */
const DRAIN_PATIENCE_MS = 400

/** A deleted job's id cannot be started again for this long. */
const SPENT_MS = 24 * 60 * 60 * 1000

/**
 * Between the server's request handlers and the orchestrator: everything that clients ask of jobs comes in here. It owns the jobs
 * that have not ended, starts them (`JobStarter`), runs them (`JobRunner`) and ends them (`JobEnder`), and hands out their logs.
 */
export class JobManager {
  readonly tasks: TaskRegistry
  readonly #options: JobManagerOptions
  readonly #clock: Clock
  readonly #active = new ActiveJobs()
  readonly #jobs: JobFinder
  readonly #views: JobViews
  readonly #ender: JobEnder
  readonly #runner: JobRunner
  readonly #starter: JobStarter
  readonly #retention: Retention
  readonly #policyChanges = new WeakMap<ActiveJob, Promise<unknown>>()
  readonly #watchers = new Set<(change: StatusChange) => void>()
  readonly #unlisten: () => void
  #isDraining = false

  constructor(options: JobManagerOptions) {
    this.#options = options
    this.tasks = options.tasks
    this.#clock = options.clock
    const active = this.#active
    const jobs = new JobFinder({ active, store: options.store })
    const views = new JobViews(options)
    const ender = new JobEnder({ ...options, active, jobs, views })
    const children = new ChildJobs({
      clock: options.clock,
      tasks: options.tasks,
      create: (parent, child) => this.#starter.createChild(parent, child),
      run: (job) => this.#runner.run(job),
      request: (job, kind, cause, reason) => void ender.request(job, kind, cause, reason),
    })
    this.#jobs = jobs
    this.#views = views
    this.#ender = ender
    this.#runner = new JobRunner({
      ...options,
      children,
      onDeadline: (job, kind, cause, reason) => void ender.request(job, kind, cause, reason),
    })
    this.#starter = new JobStarter({
      ...options,
      active,
      views,
      ender,
      run: (job) => this.#runner.run(job),
      onWritten: (job, event, seq) => this.#onWritten(job, event, seq),
    })
    this.#retention = new Retention({ ...options, forget: (ref) => this.#forgetRecorded(ref) })
    this.#unlisten = options.eventLog.onHealth((health) => this.#onStoreHealth(health))
  }

  /** How many jobs have not ended. */
  get activeCount(): number {
    return this.#active.size
  }

  openHolder(): Holder {
    return new Holder()
  }

  /** As `JobStarter.start`: when it settles the job is recorded. */
  start(request: StartRequest): Promise<StartedJob> {
    return this.#starter.start(request)
  }

  /** As `JobStarter.recover`; from then on finished jobs are forgotten when their time is over. */
  async recover(): Promise<{ readonly interrupted: number; readonly queued: number }> {
    const recovered = await this.#starter.recover()
    this.#retention.start()
    return recovered
  }

  /** @throws {TetherError} `TETHER_JOB_NOT_FOUND` */
  async attach(ref: JobRef, options: AttachOptions): Promise<Attachment> {
    const found = await this.#jobs.find(ref)
    const job = found instanceof ActiveJob ? found : undefined
    const record = found instanceof ActiveJob ? found.record : found
    const hasAll = job === undefined && options.after === record.lastSeq
    const reader = new JobReader({
      ref,
      pages: this.#options.pages,
      sink: options.sink,
      named: options.named,
      log: job?.log,
      lastSeq: record.lastSeq,
      after: hasAll && options.givesEnd === true ? options.after - 1 : options.after,
    })
    const holds = job !== undefined && options.holder !== undefined && this.#starter.join(job, options.holder)
    return { reader, view: this.#views.of(record), lastSeq: record.lastSeq, holds }
  }

  /** @throws {TetherError} `TETHER_JOB_NOT_FOUND` */
  async job(ref: JobRef): Promise<JobView> {
    const found = await this.#jobs.find(ref)
    return found instanceof ActiveJob ? this.#views.ofActive(found) : this.#views.of(found)
  }

  /**
   * The job once it has ended. Rejects with the signal's reason where that fires first, and with a `StoreError` where its end
   * cannot be written. @throws {TetherError} `TETHER_JOB_NOT_FOUND`
   */
  async outcome(ref: JobRef, signal?: AbortSignal): Promise<JobView> {
    const found = await this.#jobs.find(ref)
    if (!(found instanceof ActiveJob)) return this.#views.of(found)
    return this.#views.of(await abortable(found.untilEnded(), signal))
  }

  /** Cancels a job that has not ended: `end` with everything left at its default. Settles when the request is recorded. */
  async cancelJob(id: string, reason = ''): Promise<JobView> {
    const caller = { tenant: DEFAULT_TENANT, subject: 'server' }
    const ref = { tenant: DEFAULT_TENANT, id: parseJobId(id) }
    const answer = await this.end(ref, { kind: 'cancel', reason, caller, ifUnknown: 'reject', waitMs: 0 })
    if (answer.kind !== 'job') throw new Error('a request that is not to be remembered was')
    return answer.view
  }

  /** As `JobEnder.end`. */
  end(ref: JobRef, request: EndRequest): Promise<EndAnswer> {
    return this.#ender.end(ref, request)
  }

  /** As `JobEnder.endGroup`. */
  endGroup(tenant: string, group: GroupId, request: Omit<EndRequest, 'waitMs'>): Promise<GroupAnswer> {
    return this.#ender.endGroup(tenant, group, request)
  }

  /** @throws {TetherError} `TETHER_JOB_NOT_FOUND`, `TETHER_JOB_FINISHED`, `TETHER_STORE_UNAVAILABLE`: then nothing has changed */
  async changePolicy(
    ref: JobRef,
    change: { readonly onDisconnect?: OnDisconnect; readonly disconnectGraceMs?: number },
  ): Promise<JobView> {
    const job = await this.#jobs.find(ref)
    if (!(job instanceof ActiveJob)) throw finishedError(job)
    // One after the other: the next begins with what is written of the one before.
    const changed = (this.#policyChanges.get(job) ?? Promise.resolve()).then(() => this.#changePolicyOf(job, change))
    this.#policyChanges.set(
      job,
      changed.catch(() => undefined),
    )
    await changed
    return this.#views.of(job.record)
  }

  async #changePolicyOf(
    job: ActiveJob,
    change: { readonly onDisconnect?: OnDisconnect; readonly disconnectGraceMs?: number },
  ): Promise<void> {
    if (job.isDecided) throw finishedError(job.record)
    const before = job.writtenPolicy
    const { maxRunMs } = this.#options.policyDefaults
    const onDisconnect = change.onDisconnect ?? before.onDisconnect
    const timeoutMs = timeoutInForce(before.timeoutMs, onDisconnect, maxRunMs)
    const policy: JobPolicy = { ...before, ...change, timeoutMs }
    // At once: a client that detaches may leave before this is written.
    this.#setPolicy(job, policy)
    if (await this.#write({ kind: 'policy', ref: job.ref, policy })) {
      job.notePolicyWritten(policy)
      return
    }
    if (job.isDecided) throw finishedError(job.record)
    this.#setPolicy(job, before)
    if (before.onDisconnect !== 'continue') job.holders.makeUp(before.disconnectGraceMs)
    throw unavailable()
  }

  /** @throws {TetherError} `TETHER_JOB_NOT_FOUND`; `TETHER_INVALID_REQUEST` where the job has no such holder */
  async renewLease(ref: JobRef, holderId: string): Promise<void> {
    const found = await this.#jobs.find(ref)
    if (found instanceof ActiveJob && found.holders.renewLease(holderId, found.policy.leaseMs)) return
    throw new TetherError(
      'TETHER_INVALID_REQUEST',
      `job ${ref.id} has no holder ${JSON.stringify(holderId.slice(0, 80))}`,
    )
  }

  async list(filter: ListFilter): Promise<JobListing> {
    const records = await this.#options.store.list({ ...filter, limit: filter.limit + 1 })
    const page = records.slice(0, filter.limit)
    const last = page.at(-1)
    const next =
      records.length > page.length && last !== undefined ? { createdAt: last.createdAt, id: last.id } : undefined
    return { jobs: page.map(rowOf), next }
  }

  /**
   * Forgets a finished job, its log and its files.
   * @throws {TetherError} `TETHER_JOB_NOT_FOUND`, `TETHER_JOB_ACTIVE`, `TETHER_STORE_UNAVAILABLE`
   */
  async forget(ref: JobRef): Promise<void> {
    const found = await this.#jobs.find(ref)
    if (found instanceof ActiveJob || !isTerminal(found.state.status)) {
      throw new TetherError('TETHER_JOB_ACTIVE', `job ${ref.id} has not ended: cancel it first`)
    }
    if (await this.#forgetRecorded(ref)) return
    // Otherwise somebody else was faster.
    if (this.#isDraining) throw new TetherError('TETHER_DRAINING', 'the server is shutting down')
    if (this.#options.eventLog.isFailing) throw unavailable()
  }

  /** Calls `listener` for every change of every job's status, once it is in the log. Returns its undo. */
  watch(listener: (change: StatusChange) => void): () => void {
    this.#watchers.add(listener)
    return () => {
      this.#watchers.delete(listener)
    }
  }

  /** What is in the workspace that the job works or worked in. @throws {TetherError} `TETHER_JOB_NOT_FOUND` */
  async files(ref: JobRef): Promise<readonly WorkspaceFile[]> {
    return this.#options.workspaces.list(await this.#workspaceKeyOf(ref))
  }

  /** @throws {TetherError} `TETHER_JOB_NOT_FOUND` also for a path that is no file inside the workspace */
  async openFile(ref: JobRef, path: string): Promise<{ readonly stream: Readable; readonly bytes: number }> {
    return this.#options.workspaces.open(await this.#workspaceKeyOf(ref), path)
  }

  async #workspaceKeyOf(ref: JobRef): Promise<JobKey> {
    const found = await this.#jobs.find(ref)
    return workspaceKeyOf(found instanceof ActiveJob ? found.record : found)
  }

  async health(): Promise<Health> {
    const stuck = this.#runner.stuck
    const checks = {
      store: await this.#checkStore(),
      stuck: stuckCheck(stuck.length, this.#options.maxAbandoned),
      draining: { ok: !this.#isDraining },
    }
    return {
      checks,
      isReady: Object.values(checks).every(({ ok }) => ok),
      isDraining: this.#isDraining,
      stuck,
      containment: { level: this.#options.containment.level, complete: this.#options.containment.complete },
      running: this.#options.orchestrator.getActiveExecutionCount(),
      queued: this.#options.queue.waiting + this.#starter.awaitingHolder,
    }
  }

  /**
   * Starts are refused from here on. Running jobs may finish for `finishWithinMs`, then they are ended as interrupted, and so are
   * queued ones that have a holder; other queued ones stay for the next start. Settles when nothing runs and all is written, or
   * could not be within the jobs' `settleMs` and a little more.
   */
  async drain(options: { readonly finishWithinMs: number; readonly hurry?: AbortSignal }): Promise<void> {
    this.#isDraining = true
    this.#starter.close()
    this.#options.queue.pause('draining')
    const jobs = [...this.#active]
    const shutDown = (job: ActiveJob): void =>
      void this.#ender.request(job, 'cancel', 'server_shutdown', 'the server is shutting down')
    for (const job of jobs) if (job.decided.status === 'queued' && job.holders.count > 0) shutDown(job)
    const running = jobs.filter((job) => job.decided.status !== 'queued' || job.isDecided)
    const allEnded = Promise.all(running.map((job) => job.ended))
    if (options.finishWithinMs > 0) await waitAtMost(allEnded, options.finishWithinMs, this.#clock, options.hurry)
    for (const job of running) if (!job.isDecided) shutDown(job)
    // A job ends within its settleMs, abandoned if need be; only a store that cannot be written keeps it longer.
    const settleMs = Math.max(0, ...running.map((job) => job.policy.settleMs))
    await waitAtMost(allEnded, settleMs + DRAIN_PATIENCE_MS, this.#clock)
    await waitAtMost(this.#options.eventLog.flush(), DRAIN_PATIENCE_MS, this.#clock)
    this.#unlisten()
    this.#options.eventLog.close()
    await waitAtMost(this.#retention.stop(), DRAIN_PATIENCE_MS, this.#clock)
    for (const job of this.#active) {
      // A clean end without a terminal event is for jobs that wait for the next start, and for no others.
      if (job.decided.status !== 'queued')
        job.log.lose(new StoreError('the server ends before it could write the rest'))
      job.timers.close()
      job.holders.close()
    }
    this.#options.pending.close()
  }

  #onWritten(job: ActiveJob, event: StatusEvent, seq: number): void {
    const { record } = job
    if (this.#watchers.size > 0) {
      const change = { event, seq, at: this.#clock.now(), row: rowOf(record), tenant: record.tenant }
      for (const watcher of this.#watchers) watcher(change)
    }
    if (!isTerminal(record.state.status)) return
    // Everything about it is in the store: this process lets go of it.
    this.#active.remove(job)
    this.#options.pending.clearCancellation(job.key)
  }

  /** While nothing can be written nothing is claimed: what waits is better off waiting. */
  #onStoreHealth(health: StoreHealth): void {
    const { queue } = this.#options
    if (health.kind === 'ok') {
      queue.resume('store_failing')
      return
    }
    queue.pause('store_failing')
    if (health.isGivenUp) for (const job of this.#active) this.#ender.giveUp(job, health.error)
  }

  #setPolicy(job: ActiveJob, policy: JobPolicy): void {
    if (policy.timeoutMs !== job.policy.timeoutMs) this.#runner.armTimeout(job, policy.timeoutMs)
    job.setPolicy(policy)
    job.holders.changeGrace(policy.onDisconnect === 'continue' ? undefined : policy.disconnectGraceMs)
  }

  /**
   * With it goes the workspace that is its own, and never one that is a parent's. First the record: a process that dies between
   * the two leaves files of nobody, which the next start removes.
   */
  async #forgetRecorded(ref: JobRef): Promise<boolean> {
    const isGone = await this.#write({ kind: 'delete', ref, spentUntil: this.#clock.now() + SPENT_MS })
    if (isGone) await this.#options.workspaces.remove(keyOf(ref))
    return isGone
  }

  async #checkStore(): Promise<{ ok: boolean; detail?: string }> {
    if (this.#options.eventLog.isFailing)
      return { ok: false, detail: 'the last commit failed and is being tried again' }
    try {
      await this.#options.store.check()
      return { ok: true }
    } catch (error) {
      return { ok: false, detail: messageOf(error) }
    }
  }

  #write(change: Parameters<JobStore['commit']>[0][number]): Promise<boolean> {
    return new Promise((resolve) => this.#options.eventLog.push({ change, settle: resolve }))
  }
}

function unavailable(): TetherError {
  return new TetherError('TETHER_STORE_UNAVAILABLE', 'the store does not take writes at the moment; try again')
}

function stuckCheck(stuck: number, maxAbandoned: number): { ok: boolean; detail?: string } {
  if (stuck === 0) return { ok: true }
  return { ok: stuck <= maxAbandoned, detail: `${stuck} abandoned, of which ${maxAbandoned} may be` }
}
