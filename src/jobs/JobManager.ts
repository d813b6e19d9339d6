import type { Readable } from 'node:stream'
import type { Context } from '@opentelemetry/api'
import type { PendingCancellations } from '../cancellation/PendingCancellations.ts'
import type { Clock } from '../clock.ts'
import type { EventLog, StoreHealth } from '../eventlog/EventLog.ts'
import { JobReader } from '../eventlog/JobReader.ts'
import type { LogPages } from '../eventlog/LogPages.ts'
import type { TaskExecutionOrchestrator } from '../execution/TaskExecutionOrchestrator.ts'
import type { TaskRegistry } from '../execution/TaskRegistry.ts'
import { type ErrorCode, TetherError } from '../job/error.ts'
import type { StatusEvent } from '../job/event.ts'
import type { Failure } from '../job/failure.ts'
import { type GroupId, parseJobId } from '../job/id.ts'
import { DEFAULT_TENANT, type JobKey, type JobRef, keyOf } from '../job/key.ts'
import { graceOf, type JobPolicy } from '../job/policy.ts'
import type { Containment } from '../job/receipt.ts'
import { type JobRecord, workspaceKeyOf } from '../job/record.ts'
import type { NumberedRequest, PolicyChange, RequestKind, RequestOutcome } from '../job/request.ts'
import { isTerminal } from '../job/status.ts'
import { type JobView, rowOf } from '../job/view.ts'
import type { Logger } from '../logger.ts'
import {
  type ChangeResult,
  type JobStore,
  type ListFilter,
  type ListPlace,
  type StoreChange,
  StoreError,
} from '../store/JobStore.ts'
import { abortable, waitAtMost } from '../waiting.ts'
import { ActiveJob } from './ActiveJob.ts'
import { ActiveJobs } from './ActiveJobs.ts'
import type { Attachment, AttachOptions } from './attaching.ts'
import { ChildJobs } from './ChildJobs.ts'
import type { EndAnswer, EndRequest, GroupAnswer, GroupEndRequest } from './ending.ts'
import { Holder } from './Holder.ts'
import { JobEnder } from './JobEnder.ts'
import { JobFinder, notFound } from './JobFinder.ts'
import type { JobObserver } from './JobObserver.ts'
import type { JobQueue } from './JobQueue.ts'
import { JobRunner, type StuckJob } from './JobRunner.ts'
import type { JobSharing } from './JobSharing.ts'
import type { Caller } from './JobSpec.ts'
import { JobStarter, type StartedJob, type StartRequest } from './JobStarter.ts'
import { finishedError, JobViews } from './JobViews.ts'
import { type PolicyDefaults, timeoutInForce } from './policyInForce.ts'
import { RemoteJobs } from './RemoteJobs.ts'
import type { LoggedChange, Replicas } from './Replicas.ts'
import { RequestTrail } from './RequestTrail.ts'
import { Retention } from './Retention.ts'
import type { SharedEngine } from './SharedEngine.ts'
import { SharedHolders } from './SharedHolders.ts'
import { SharedJobsKeeper } from './SharedJobsKeeper.ts'
import { UnownedJobs } from './UnownedJobs.ts'
import type { WorkspaceFile, Workspaces } from './Workspaces.ts'

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

/** What this process has of jobs at the moment. */
export interface JobsStanding {
  readonly isDraining: boolean
  readonly stuck: readonly StuckJob[]
  readonly running: number
  /** Without those in the queue that replicas share. */
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
  /** What this process shares with others that work on the same jobs. */
  readonly engine?: SharedEngine
  /** How often what others asked is looked for, where they cannot tell this process, ms. */
  readonly cancelPollMs?: number
  readonly observers?: readonly JobObserver[]
  /** What runs for a job belongs below its span. It is one of the observers. */
  readonly spans?: { contextOf(key: JobKey): Context | undefined }
}

/** A page of what was asked of a job. `next`: the number after which the next one begins. */
export interface RequestListing {
  readonly requests: readonly NumberedRequest[]
  readonly next: number | undefined
}

/** What a shutdown allows for writing, besides the jobs' own deadlines. */
const DRAIN_PATIENCE_MS = 400

const STOPPED: Failure = { code: 'TETHER_SERVER_SHUTDOWN', message: 'the server was stopped', retryable: true }

/** Who asks where no client does. */
const SERVER: Caller = { tenant: DEFAULT_TENANT, subject: 'server' }

/** The id of a job cannot be started again for this long after it was deleted, or after its end where it goes by age. */
const SPENT_MS = 24 * 60 * 60 * 1000

/**
 * Between the server's request handlers and the orchestrator: everything that clients ask of jobs comes in here. It owns the jobs
 * that have not ended, starts them (`JobStarter`), runs them (`JobRunner`) and ends them (`JobEnder`), and hands out their logs.
 */
export class JobManager {
  readonly tasks: TaskRegistry
  readonly #options: JobManagerOptions
  readonly #clock: Clock
  readonly #observers: readonly JobObserver[]
  readonly #active = new ActiveJobs()
  readonly #jobs: JobFinder
  readonly #views: JobViews
  readonly #ender: JobEnder
  readonly #runner: JobRunner
  readonly #starter: JobStarter
  readonly #retention: Retention
  readonly #trail: RequestTrail
  readonly #policyChanges = new WeakMap<ActiveJob, Promise<unknown>>()
  readonly #watchers = new Set<(change: StatusChange) => void>()
  readonly #unlisten: () => void
  readonly #shared: JobSharing | undefined
  readonly #keeper: SharedJobsKeeper | undefined
  #isDraining = false

  constructor(options: JobManagerOptions) {
    this.#options = options
    this.tasks = options.tasks
    this.#clock = options.clock
    this.#observers = options.observers ?? []
    this.#trail = new RequestTrail(options)
    const active = this.#active
    const jobs = new JobFinder({ active, store: options.store })
    const views = new JobViews(options)
    const shared = this.#shareWith(options.engine?.replicas, views)
    const ender: JobEnder = new JobEnder({ ...options, active, jobs, views, ...(shared && { shared }) })
    const traceOf = (job: ActiveJob): Context | undefined => options.spans?.contextOf(job.key)
    const children = new ChildJobs({
      traceOf,
      clock: options.clock,
      tasks: options.tasks,
      create: (parent, child) => this.#starter.createChild(parent, child),
      run: (job) => this.#runner.run(job),
      request: (job, kind, cause, reason) => void ender.request(job, kind, cause, reason),
    })
    this.#jobs = jobs
    this.#views = views
    this.#ender = ender
    this.#shared = shared
    this.#runner = new JobRunner({
      ...options,
      children,
      traceOf,
      ...(shared === undefined ? {} : { seal: (job: ActiveJob) => this.#keeper?.seal(job) ?? Promise.resolve() }),
      onForfeited: (job, failure) => this.#letGo(job, failure),
      onStopped: (stopped) => this.#tellObservers((observer) => observer.onStopped?.(stopped)),
      onDeadline: (job, kind, cause, reason) => void ender.request(job, kind, cause, reason),
    })
    this.#starter = new JobStarter({
      ...options,
      active,
      views,
      ender,
      run: (job) => this.#runner.run(job),
      onWritten: (job, event, seq) => this.#onWritten(job, event, seq),
      onMoved: (record, event) => this.#onMoved(record, event),
      ...(shared === undefined ? {} : { shared, onAnswer: (job, result) => this.#keeper?.noteAnswer(job, result) }),
    })
    if (shared !== undefined) {
      this.#keeper = new SharedJobsKeeper({
        ...options,
        ...shared,
        active,
        ender,
        starter: this.#starter,
        cancelPollMs: options.cancelPollMs ?? 250,
        onPolicyChanged: (job) => this.#inTurn(job, () => this.#readPolicy(job)),
        onForfeited: (job, failure) => this.#letGo(job, failure),
        onFound: (by) => this.#tellObservers((observer) => observer.onRequestFound?.(by)),
      })
    }
    this.#retention = new Retention({
      ...options,
      isShared: shared !== undefined,
      forget: (ref, endedBefore) => this.#forgetRecorded(ref, endedBefore),
    })
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

  /**
   * As `JobStarter.recover`; from then on finished jobs are forgotten when their time is over. Where jobs are shared, those of a
   * process that is gone are taken up by whichever process notices.
   */
  async recover(): Promise<{ readonly interrupted: number; readonly queued: number }> {
    const recovered = this.#keeper === undefined ? await this.#starter.recover() : { interrupted: 0, queued: 0 }
    this.#keeper?.start()
    this.#retention.start()
    return recovered
  }

  /** @throws {TetherError} `TETHER_JOB_NOT_FOUND` */
  async attach(ref: JobRef, options: AttachOptions): Promise<Attachment> {
    const found = await this.#jobs.find(ref)
    const job = found instanceof ActiveJob ? found : undefined
    const record = found instanceof ActiveJob ? found.record : found
    const { remote } = this.#shared ?? {}
    if (remote !== undefined && job === undefined && !isTerminal(record.state.status)) {
      return { ...remote.attach(record, options), view: this.#views.of(record), lastSeq: record.lastSeq }
    }
    // What this process has numbered and does not know to be written may have been shown by another one already.
    const numberedSeq = this.#shared === undefined ? 0 : (job?.log.lastSeq ?? 0)
    const hasAll = job === undefined && options.after === record.lastSeq
    const reader = new JobReader({
      ref,
      pages: this.#options.pages,
      sink: options.sink,
      named: options.named,
      log: job?.log,
      lastSeq: Math.max(record.lastSeq, numberedSeq),
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
    if (!(found instanceof ActiveJob)) {
      const isOver = this.#shared === undefined || isTerminal(found.state.status)
      return this.#views.of(isOver ? found : await this.#shared.remote.outcome(found, signal))
    }
    return this.#views.of(await abortable(found.untilEnded(), signal))
  }

  /** Cancels a job that has not ended: `end` with everything left at its default. Settles when the request is recorded. */
  async cancelJob(id: string, reason = ''): Promise<JobView> {
    const ref = { tenant: DEFAULT_TENANT, id: parseJobId(id) }
    const answer = await this.end(ref, { kind: 'cancel', reason, caller: SERVER, ifUnknown: 'reject', waitMs: 0 })
    if (answer.kind !== 'job') throw new Error('a request that is not to be remembered was')
    return answer.view
  }

  /** As `JobEnder.end`. What became of it stands among the job's requests. */
  end(ref: JobRef, request: EndRequest): Promise<EndAnswer> {
    const { kind, reason, caller } = request
    return this.#trail.record(
      ref,
      { kind, reason, by: caller.subject },
      (note) => this.#ender.end(ref, { ...request, onAccepted: () => note('accepted') }),
      outcomeOfEnd,
    )
  }

  /** As `JobEnder.endGroup`. It stands among the requests of each member that was asked. */
  endGroup(tenant: string, group: GroupId, request: GroupEndRequest): Promise<GroupAnswer> {
    const { kind, reason, caller } = request
    const noted = { kind, reason, by: caller.subject, at: this.#clock.now(), outcome: 'accepted', group } as const
    const onAsked = (ref: JobRef): void => this.#trail.note(ref, noted)
    return this.#ender.endGroup(tenant, group, { ...request, onAsked })
  }

  /** Notes that somebody asked this of a job who may not. */
  noteRefused(ref: JobRef, kind: RequestKind, caller: Caller, outcome: ErrorCode): void {
    this.#trail.note(ref, { kind, by: caller.subject, at: this.#clock.now(), reason: '', outcome })
  }

  /**
   * Who asked what of a job, in the order in which it was noted; also of one that is deleted or was never there, as long as that is
   * kept (`JobStore.listRequests`). @throws {TetherError} `TETHER_JOB_NOT_FOUND` where nothing is kept of such a job
   */
  async requests(
    ref: JobRef,
    { after, limit }: { readonly after: number; readonly limit: number },
  ): Promise<RequestListing> {
    const { store } = this.#options
    await this.#trail.written()
    const found = await store.listRequests(ref, { after, limit: limit + 1 })
    if (found.length === 0 && (await this.#jobs.lookup(ref)) === undefined) {
      const [first] = await store.listRequests(ref, { after: 0, limit: 1 })
      if (first === undefined) throw notFound(ref)
    }
    const requests = found.slice(0, limit)
    return { requests, next: found.length > limit ? requests.at(-1)?.number : undefined }
  }

  /**
   * Changes the disconnect policy of a job.
   * @throws {TetherError} `TETHER_JOB_NOT_FOUND`, `TETHER_JOB_FINISHED`, `TETHER_STORE_UNAVAILABLE`: then nothing has changed
   */
  changePolicy(ref: JobRef, change: PolicyChange, caller = SERVER): Promise<JobView> {
    const asked = { kind: 'patch', by: caller.subject, reason: '', change } as const
    return this.#trail.record(
      ref,
      asked,
      () => this.#applyPolicyChange(ref, change),
      () => 'changed',
    )
  }

  async #applyPolicyChange(ref: JobRef, change: PolicyChange): Promise<JobView> {
    const job = await this.#jobs.find(ref)
    if (!(job instanceof ActiveJob)) return this.#changeRemotePolicy(job, change)
    await this.#inTurn(job, () => this.#changePolicyOf(job, change))
    return this.#views.of(job.record)
  }

  /** One after the other: the next begins with what is written of the one before. */
  #inTurn(job: ActiveJob, work: () => Promise<void>): Promise<void> {
    const done = (this.#policyChanges.get(job) ?? Promise.resolve()).then(work)
    this.#policyChanges.set(
      job,
      done.catch(() => undefined),
    )
    return done
  }

  /** Another process has changed it. */
  async #readPolicy(job: ActiveJob): Promise<void> {
    const found = await this.#options.store.lookup(job.ref)
    if (found.kind === 'found' && !job.isDecided) this.#takePolicy(job, found.record.policy)
  }

  async #changeRemotePolicy(record: JobRecord, change: PolicyChange): Promise<JobView> {
    if (this.#shared === undefined || isTerminal(record.state.status)) throw finishedError(record)
    const ref = { tenant: record.tenant, id: record.id }
    const policy = this.#changedPolicy(record.policy, change)
    const result = await this.#ask({ kind: 'policy', ref, policy, before: record.policy })
    if (result?.ok !== true) {
      const isChanged = result !== undefined && result.why === 'changed'
      const now = await this.#jobs.find(ref)
      if (isChanged && !(now instanceof ActiveJob)) return this.#changeRemotePolicy(now, change)
      if (isChanged) return this.#applyPolicyChange(ref, change)
      throw now instanceof ActiveJob || !isTerminal(now.state.status) ? unavailable() : finishedError(now)
    }
    this.#shared.holders.find(ref)?.changeGrace(graceOf(policy))
    void this.#shared.replicas.tell({ kind: 'policy', ref })
    return this.#views.of({ ...record, policy })
  }

  #changedPolicy(before: JobPolicy, change: PolicyChange): JobPolicy {
    const onDisconnect = change.onDisconnect ?? before.onDisconnect
    const timeoutMs = timeoutInForce(before.timeoutMs, onDisconnect, this.#options.policyDefaults.maxRunMs)
    return { ...before, ...change, timeoutMs }
  }

  async #changePolicyOf(job: ActiveJob, change: PolicyChange): Promise<void> {
    if (job.isDecided) throw finishedError(job.record)
    const before = job.writtenPolicy
    const policy = this.#changedPolicy(before, change)
    // At once: a client that detaches may leave before this is written.
    this.#setPolicy(job, policy)
    const result = await this.#ask({ kind: 'policy', ref: job.ref, policy, before })
    if (result !== undefined && !result.ok && result.why === 'changed') {
      await this.#readPolicy(job)
      return this.#changePolicyOf(job, change)
    }
    if (result?.ok === true) {
      job.notePolicyWritten(policy)
      void this.#shared?.replicas.tell({ kind: 'policy', ref: job.ref })
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
    const { policy } = found instanceof ActiveJob ? found : found
    const holders = found instanceof ActiveJob ? found.holders : this.#shared?.holders.find(ref)
    if (holders?.renewLease(holderId, policy.leaseMs) === true) return
    if ((await this.#shared?.replicas.tell({ kind: 'lease', ref, holderId })) === true) return
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
  forget(ref: JobRef, caller = SERVER): Promise<void> {
    return this.#trail.record(
      ref,
      { kind: 'delete', by: caller.subject, reason: '' },
      () => this.#forget(ref),
      () => 'deleted',
    )
  }

  async #forget(ref: JobRef): Promise<void> {
    const found = await this.#jobs.find(ref)
    if (found instanceof ActiveJob || !isTerminal(found.state.status)) {
      throw new TetherError('TETHER_JOB_ACTIVE', `job ${ref.id} has not ended: cancel it first`)
    }
    if (await this.#forgetRecorded(ref, this.#clock.now())) return
    // Otherwise somebody else was faster.
    if (this.#isDraining) throw new TetherError('TETHER_DRAINING', 'the server is shutting down')
    if (this.#options.eventLog.isFailing) throw unavailable()
  }

  /**
   * Calls `listener` for every change of every job's status, once it is in the log; `onMissed` where some may have gone by, which
   * only happens where jobs are shared. Returns its undo.
   */
  watch(listener: (change: StatusChange) => void, onMissed: () => void = () => undefined): () => void {
    const replicas = this.#shared?.replicas
    if (replicas !== undefined) {
      return replicas.watch({ onChange: (change) => void this.#tellShared(change, listener, onMissed), onMissed })
    }
    this.#watchers.add(listener)
    return () => {
      this.#watchers.delete(listener)
    }
  }

  /** A job of another process is read, as it then stands: a list takes the row with the higher number. */
  async #tellShared(
    { ref, seq, line }: LoggedChange,
    listener: (change: StatusChange) => void,
    onMissed: () => void,
  ): Promise<void> {
    try {
      // Not as this process has it: what was written last may not be answered yet.
      const record = await this.#options.store.findListed(ref)
      if (record === undefined) return
      const { at, ...event }: StatusEvent & { at: string } = JSON.parse(line)
      listener({ event, seq, at: Date.parse(at), row: rowOf(record), tenant: ref.tenant })
    } catch (error) {
      if (!(error instanceof StoreError)) throw error
      onMissed()
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

  standing(): JobsStanding {
    return {
      isDraining: this.#isDraining,
      stuck: this.#runner.stuck,
      running: this.#options.orchestrator.getActiveExecutionCount(),
      queued: this.#options.queue.waiting + this.#starter.awaitingHolder,
    }
  }

  /** How many jobs wait in the queue that replicas share; undefined where there is none, or nobody can be asked. */
  async countShared(): Promise<number | undefined> {
    try {
      return (await this.#shared?.replicas.countWaiting(0))?.waiting
    } catch (error) {
      if (error instanceof StoreError) return undefined
      throw error
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
    this.#options.engine?.stopClaiming()
    const jobs = [...this.#active]
    const shutDown = (job: ActiveJob): void =>
      void this.#ender.request(job, 'cancel', 'server_shutdown', 'the server is shutting down')
    for (const job of this.#shared === undefined ? jobs : [])
      if (job.decided.status === 'queued' && job.holders.count > 0) shutDown(job)
    if (this.#shared !== undefined) {
      // Claimed and not begun: for the others to run.
      for (const job of jobs) if (this.#options.queue.remove(job.key)) this.#letGo(job, STOPPED)
    }
    const running = jobs.filter((job) => job.decided.status !== 'queued' || job.isDecided)
    // One that others go on with ends nowhere here.
    const allEnded = Promise.all(running.map((job) => job.gone))
    if (options.finishWithinMs > 0) await waitAtMost(allEnded, options.finishWithinMs, this.#clock, options.hurry)
    for (const job of running) if (!job.isDecided) shutDown(job)
    // A job ends within its settleMs, abandoned if need be; only a store that cannot be written keeps it longer.
    const settleMs = Math.max(0, ...running.map((job) => job.policy.settleMs))
    await waitAtMost(allEnded, settleMs + DRAIN_PATIENCE_MS, this.#clock)
    await waitAtMost(this.#options.eventLog.flush(), DRAIN_PATIENCE_MS, this.#clock)
    await this.#trail.written(DRAIN_PATIENCE_MS)
    this.#unlisten()
    this.#options.eventLog.close()
    await waitAtMost(this.#retention.stop(), DRAIN_PATIENCE_MS, this.#clock)
    for (const job of this.#active) {
      // A clean end without a terminal event is for jobs that wait for the next start, and for no others.
      if (job.decided.status !== 'queued') {
        job.log.lose(new StoreError('the server ends before it could write the rest'))
        this.#tellObservers((observer) => observer.onLetGo?.(job.record))
      }
      job.timers.close()
      job.holders.close()
    }
    this.#keeper?.close()
    this.#options.pending.close()
  }

  #onWritten(job: ActiveJob, event: StatusEvent, seq: number): void {
    const { record } = job
    this.#tellObservers((observer) => observer.onStatus(record, event))
    this.#tellWatchers(record, event, seq)
    if (!isTerminal(record.state.status)) return
    // Everything about it is in the store: this process lets go of it.
    this.#active.remove(job)
    this.#options.pending.clearCancellation(job.key)
    this.#keeper?.noteRoom(record)
  }

  /** A job that this process does not have was created, or moved by it. */
  #onMoved(record: JobRecord, event: StatusEvent): void {
    this.#tellObservers((observer) => observer.onStatus(record, event))
    this.#tellWatchers(record, event, record.lastSeq)
    if (event.type !== 'job.queued') this.#keeper?.noteRoom(record)
  }

  /** An SDK that somebody registered is code of theirs: what it throws must not cost a job. */
  #tellObservers(tell: (observer: JobObserver) => void): void {
    for (const observer of this.#observers) {
      try {
        tell(observer)
      } catch (err) {
        this.#options.logger.error({ err }, 'what becomes of a job could not be counted or traced')
      }
    }
  }

  #tellWatchers(record: JobRecord, event: StatusEvent, seq: number): void {
    if (this.#watchers.size === 0) return
    const change = { event, seq, at: this.#clock.now(), row: rowOf(record), tenant: record.tenant }
    for (const watcher of this.#watchers) watcher(change)
  }

  /** Another process wrote how the job goes on, or will, or this one does from what is in the store. */
  #letGo(job: ActiveJob, failure: Failure): void {
    this.#active.remove(job)
    this.#tellObservers((observer) => observer.onLetGo?.(job.record))
    this.#options.pending.clearCancellation(job.key)
    job.discard(new StoreError(`${job.ref.id} goes on without this process`), true)
    this.#shared?.holders.release(job.ref)
    void this.#keeper?.endForfeited(job.ref, failure, job.askedUnrecorded)
  }

  #shareWith(replicas: Replicas | undefined, views: JobViews): JobSharing | undefined {
    if (replicas === undefined) return undefined
    const { clock } = this.#options
    const unowned = new UnownedJobs({
      ...this.#options,
      onMoved: (record, event) => this.#onMoved(record, event),
    })
    const holders = new SharedHolders({
      clock,
      replicas,
      isOwn: (ref) => this.#active.getOwn(ref) !== undefined,
      policyOf: (ref, recorded) => {
        const job = this.#active.getOwn(ref)
        if (job !== undefined && job.policy === job.writtenPolicy) this.#takePolicy(job, recorded)
        return job?.policy ?? recorded
      },
      onLastLeft: (ref, cause) => {
        const job = this.#active.getOwn(ref)
        if (job !== undefined) this.#ender.applyDisconnectPolicy(job, cause)
        return job === undefined ? remote.applyDisconnectPolicy(ref, cause) : undefined
      },
    })
    const remote = new RemoteJobs({ ...this.#options, replicas, unowned, holders, views })
    return { replicas, unowned, remote, holders }
  }

  /** Runs a job that the queue of all has given to this process. Settles when the slot may go to another. Never rejects. */
  runClaimed(ref: JobRef): Promise<void> {
    return this.#keeper?.runClaimed(ref) ?? Promise.resolve()
  }

  /** The others may take this process for gone from now on: it may not go on with its jobs. */
  loseLease(): void {
    this.#keeper?.loseLease()
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

  /** Another process has changed it. */
  #takePolicy(job: ActiveJob, policy: JobPolicy): void {
    this.#setPolicy(job, policy)
    job.notePolicyWritten(policy)
  }

  #setPolicy(job: ActiveJob, policy: JobPolicy): void {
    if (policy.timeoutMs !== job.policy.timeoutMs) this.#runner.armTimeout(job, policy.timeoutMs)
    job.setPolicy(policy)
    job.holders.changeGrace(graceOf(policy))
  }

  /**
   * With it goes the workspace that is its own, and never one that is a parent's. First the record: a process that dies between
   * the two leaves files of nobody, which the next start removes.
   */
  async #forgetRecorded(ref: JobRef, spentFrom: number): Promise<boolean> {
    const isGone = await this.#write({ kind: 'delete', ref, spentUntil: spentFrom + SPENT_MS })
    if (isGone) await this.#options.workspaces.remove(keyOf(ref))
    return isGone
  }

  async #write(change: StoreChange): Promise<boolean> {
    return (await this.#ask(change))?.ok === true
  }

  /** Undefined where the store was not asked. */
  #ask(change: StoreChange): Promise<ChangeResult | undefined> {
    return new Promise((resolve) => this.#options.eventLog.push({ change, settle: (_, result) => resolve(result) }))
  }
}

function outcomeOfEnd(answer: EndAnswer): RequestOutcome {
  if (answer.kind === 'remembered') return 'remembered'
  return answer.delivery === 'none' ? 'ended' : 'accepted'
}

function unavailable(): TetherError {
  return new TetherError('TETHER_STORE_UNAVAILABLE', 'the store does not take writes at the moment; try again')
}
