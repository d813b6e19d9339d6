import type { Readable } from 'node:stream'
import type { Logger } from 'pino'
import { type PendingCancellations, strongerOf } from '../cancellation/PendingCancellations.ts'
import type { Clock } from '../clock.ts'
import type { EventLog } from '../eventlog/EventLog.ts'
import { JobLog } from '../eventlog/JobLog.ts'
import { type FrameSink, JobReader } from '../eventlog/JobReader.ts'
import type { TaskExecutionOrchestrator } from '../execution/TaskExecutionOrchestrator.ts'
import type { RegisteredTask, TaskRegistry } from '../execution/TaskRegistry.ts'
import { type CancelKind, type CancellationRequest, type Cause, MAX_REASON_LENGTH } from '../job/cancellation.ts'
import { TetherError } from '../job/error.ts'
import { MAX_EVENT_BYTES, type StatusEvent } from '../job/event.ts'
import { type GroupId, mintJobId, parseJobId } from '../job/id.ts'
import { DEFAULT_TENANT, type JobKey, type JobRef, keyOf } from '../job/key.ts'
import type { JobPolicy, OnDisconnect } from '../job/policy.ts'
import { type Containment, emptyReceipt } from '../job/receipt.ts'
import type { JobRecord } from '../job/record.ts'
import { isTerminal } from '../job/status.ts'
import { type JobView, rowOf, viewOf } from '../job/view.ts'
import type { JobStore, ListFilter, ListPlace } from '../store/JobStore.ts'
import { ActiveJob } from './ActiveJob.ts'
import { ChildJobs } from './ChildJobs.ts'
import { Holder, type LeaveCause } from './Holder.ts'
import type { JobQueue, SharedLimit } from './JobQueue.ts'
import { JobRunner } from './JobRunner.ts'
import type { Caller, JobSpec } from './JobSpec.ts'
import { type PolicyDefaults, policyInForce, timeoutInForce } from './policyInForce.ts'
import { type WorkspaceFile, type Workspaces } from './Workspaces.ts'
import { abortable, waitAtMost } from './waiting.ts'

export interface StartRequest {
  readonly spec: JobSpec
  /** Of the body as it was sent: what makes a second start the same as the first. */
  readonly fingerprint: string
  readonly caller: Caller
  readonly idempotencyKey?: string
  /** Holds the job from before it is recorded; one that has left already counts as having left. */
  readonly holder?: Holder
}

export interface StartedJob {
  readonly ref: JobRef
  /** `false` where the same start had been made before. */
  readonly created: boolean
  readonly view: JobView
}

/** Where a request to end a job went. */
export type Delivery = 'local' | 'remote' | 'queued' | 'remembered' | 'none'

export interface EndRequest {
  readonly kind: CancelKind
  readonly reason: string
  readonly caller: Caller
  readonly ifUnknown: 'reject' | 'remember'
  /** How long the answer may wait for the job's end. */
  readonly waitMs: number
  /** Fires when the client that waits is gone: the wait is over, the request stands. */
  readonly signal?: AbortSignal
}

export type EndAnswer =
  | { readonly kind: 'job'; readonly view: JobView; readonly delivery: Delivery }
  | {
      readonly kind: 'remembered'
      readonly id: string
      readonly request: CancelKind
      readonly expiresAt: number
      readonly delivery: 'remembered'
    }

export interface GroupAnswer {
  /** Members that were asked and have not ended yet. */
  readonly accepted: number
  /** Members that have ended, by this or otherwise. */
  readonly ended: number
  readonly remembered?: { readonly kind: CancelKind; readonly expiresAt: number }
}

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
  /** The reader has the events up to here; past the end of the log it counts as the end. */
  readonly after: number
  readonly sink: FrameSink
  readonly named: boolean
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
  readonly policyDefaults: PolicyDefaults
}

/** A commit that takes longer than this does not hold up the abort: it is written later. */
const COMMIT_PATIENCE_MS = 50

/** How long an answer waits for the store to take what was asked; past it, it says that this is not recorded yet. */
const ANSWER_PATIENCE_MS = 1000

/** What a shutdown allows for writing, besides the jobs' own deadlines. */
const DRAIN_PATIENCE_MS = 400

/** A deleted job's id cannot be started again for this long. */
const SPENT_MS = 24 * 60 * 60 * 1000

/** After a restart, a job whose holders are gone with the old process waits at least this long for one to come back. */
const RESTART_GRACE_MS = 10_000

/**
 * The one way in for everything that starts or ends a job: clients, disconnects, timeouts, parents and shutdowns all arrive
 * here as requests, and leave as changes of one state machine. It owns the jobs that have not ended, their holders and their
 * deadlines, and hands them to the queue and the orchestrator.
 */
export class JobManager {
  readonly tasks: TaskRegistry
  readonly #options: JobManagerOptions
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #active = new Map<JobKey, ActiveJob>()
  /** Jobs that have not ended, by the idempotency key of their start. */
  readonly #byIdempotencyKey = new Map<string, ActiveJob>()
  readonly #groups = new Map<string, Set<ActiveJob>>()
  readonly #watchers = new Set<(change: StatusChange) => void>()
  readonly #runner: JobRunner
  #isDraining = false
  /** Starts that are being recorded and are not in the queue yet: they count against its limit. */
  #starting = 0

  constructor(options: JobManagerOptions) {
    this.#options = options
    this.tasks = options.tasks
    this.#clock = options.clock
    this.#logger = options.logger
    const children = new ChildJobs({
      clock: options.clock,
      tasks: options.tasks,
      create: (parent, child) => this.#createChild(parent, child),
      run: (job) => this.#runner.run(job),
      request: (job, kind, cause, reason) => void this.#requestEnd(job, this.#newRequest(kind, cause, reason)),
    })
    this.#runner = new JobRunner({
      clock: options.clock,
      logger: options.logger,
      eventLog: options.eventLog,
      orchestrator: options.orchestrator,
      children,
      replica: options.replica,
      killGraceMs: options.killGraceMs,
      maxAbandoned: options.maxAbandoned,
      onDeadline: (job, kind, cause, reason) => void this.#requestEnd(job, this.#newRequest(kind, cause, reason)),
    })
  }

  /** How many jobs have not ended. */
  get activeCount(): number {
    return this.#active.size
  }

  openHolder(): Holder {
    return new Holder()
  }

  /**
   * Starts a job, or finds the one that the same start had made before. When it settles the job is recorded.
   * @throws {TetherError} `TETHER_DRAINING`, `TETHER_STORE_UNAVAILABLE`, `TETHER_QUEUE_FULL`, `TETHER_TASK_NOT_FOUND`,
   * `TETHER_INVALID_REQUEST`, `TETHER_JOB_EXISTS`, `TETHER_IDEMPOTENCY_CONFLICT`, `TETHER_JOB_DELETED`
   */
  async start(request: StartRequest): Promise<StartedJob> {
    const { spec } = request
    const task = this.tasks.get(spec.task)
    task.assertInput(spec.input)
    const known = this.#knownStart(request) ?? (await this.#storedStart(request)) ?? this.#knownStart(request)
    if (known !== undefined) return this.#joinStart(request, known)
    // From here to the entry in the maps nothing waits, so that two starts with one id cannot both come through.
    this.#assertOpen()
    const job = this.#create(this.#recordOf(request, task), task, request.holder)
    this.#starting += 1
    const isWritten = await job.isRecorded
    this.#starting -= 1
    if (!isWritten) throw new TetherError('TETHER_STORE_UNAVAILABLE', 'the store did not take the job; try again')
    if (job.active.isDecided) await job.active.ended
    else this.#enqueue(job.active)
    return { ref: job.active.ref, created: true, view: this.#view(job.active.record) }
  }

  /** @throws {TetherError} `TETHER_JOB_NOT_FOUND` */
  async attach(ref: JobRef, options: AttachOptions): Promise<Attachment> {
    const found = await this.#find(ref)
    const job = found instanceof ActiveJob ? found : undefined
    const record = found instanceof ActiveJob ? found.record : found
    const reader = new JobReader({
      ref,
      store: this.#options.store,
      sink: options.sink,
      named: options.named,
      log: job?.log,
      lastSeq: record.lastSeq,
      after: Math.min(options.after, record.lastSeq),
    })
    const holds = job !== undefined && options.holder !== undefined && this.#mayHold(job)
    if (holds && options.holder !== undefined) this.#join(job, options.holder)
    return { reader, view: this.#view(record), lastSeq: record.lastSeq, holds }
  }

  /** @throws {TetherError} `TETHER_JOB_NOT_FOUND` */
  async job(ref: JobRef): Promise<JobView> {
    const found = await this.#find(ref)
    return found instanceof ActiveJob ? this.#viewOfActive(found) : this.#view(found)
  }

  /** The job once it has ended. Rejects with the signal's reason where that fires first. @throws `TETHER_JOB_NOT_FOUND` */
  async outcome(ref: JobRef, signal?: AbortSignal): Promise<JobView> {
    const found = await this.#find(ref)
    if (!(found instanceof ActiveJob)) return this.#view(found)
    return this.#view(await abortable(found.ended, signal))
  }

  /** Cancels a job that has not ended: `end` with everything left at its default. Settles when the request is recorded. */
  async cancelJob(id: string, reason = ''): Promise<JobView> {
    const caller = { tenant: DEFAULT_TENANT, subject: 'server' }
    const ref = { tenant: DEFAULT_TENANT, id: parseJobId(id) }
    const answer = await this.end(ref, { kind: 'cancel', reason, caller, ifUnknown: 'reject', waitMs: 0 })
    if (answer.kind !== 'job') throw new Error('a request that is not to be remembered was')
    return answer.view
  }

  /**
   * Cancels or stops a job, wherever it has got to. Settles when the request is recorded, or the store has not taken it for 1 s;
   * where there is a `waitMs`, when the job has ended, that has passed or `signal` has fired. @throws {TetherError} `TETHER_JOB_NOT_FOUND`, `TETHER_JOB_FINISHED`, `TETHER_TOMBSTONES_FULL`
   */
  async end(ref: JobRef, request: EndRequest): Promise<EndAnswer> {
    const asked = this.#newRequest(request.kind, causeOf(request.kind), request.reason, request.caller.subject)
    const found = this.#active.get(keyOf(ref)) ?? (await this.#lookup(ref))
    if (found === undefined) return this.#endUnknown(ref, request, asked)
    if (!(found instanceof ActiveJob))
      return { kind: 'job', view: this.#finishedView(found, request.kind), delivery: 'none' }
    const delivery = found.isDecided ? 'none' : found.decided.status === 'queued' ? 'queued' : 'local'
    // The abort does not wait for the store, and where the store is away neither does the answer.
    const requested = this.#requestEnd(found, asked)
    const isRecorded = await waitAtMost(requested, ANSWER_PATIENCE_MS, this.#clock, request.signal)
    const endPatienceMs = isRecorded && found.isDecided ? ANSWER_PATIENCE_MS : 0
    const waitMs = Math.max(request.waitMs - (isRecorded ? 0 : ANSWER_PATIENCE_MS), endPatienceMs)
    if (waitMs > 0) await waitAtMost(found.ended, waitMs, this.#clock, request.signal)
    const view = found.hasEnded ? this.#finishedView(found.record, request.kind) : this.#viewOfActive(found)
    return { kind: 'job', view, delivery }
  }

  /** The same for every job of a group. @throws {TetherError} `TETHER_JOB_NOT_FOUND`, `TETHER_TOMBSTONES_FULL` */
  async endGroup(tenant: string, group: GroupId, request: Omit<EndRequest, 'waitMs'>): Promise<GroupAnswer> {
    const asked = this.#newRequest(request.kind, causeOf(request.kind), request.reason, request.caller.subject)
    const members = [...(this.#groups.get(groupKey(tenant, group)) ?? [])]
    // Remembered before anything waits: a member that starts meanwhile finds it.
    const tombstone = request.ifUnknown === 'remember' ? this.#rememberGroup(tenant, group, asked) : undefined
    await Promise.all(members.map((job) => this.#requestEnd(job, asked)))
    const ended = await this.#countEnded(tenant, group)
    const accepted = members.filter((job) => !isTerminal(job.record.state.status)).length
    if (accepted + ended === 0 && tombstone === undefined) {
      throw new TetherError('TETHER_JOB_NOT_FOUND', `no job was started with the group ${group}`)
    }
    return { accepted, ended, ...(tombstone === undefined ? {} : { remembered: tombstone }) }
  }

  /** @throws {TetherError} `TETHER_JOB_NOT_FOUND`, `TETHER_JOB_FINISHED` */
  async changePolicy(
    ref: JobRef,
    change: { readonly onDisconnect?: OnDisconnect; readonly disconnectGraceMs?: number },
  ): Promise<JobView> {
    const found = await this.#find(ref)
    const finished = found instanceof ActiveJob ? found.isDecided : true
    if (!(found instanceof ActiveJob) || finished)
      throw finishedError(found instanceof ActiveJob ? found.record : found)
    const { maxRunMs } = this.#options.policyDefaults
    const onDisconnect = change.onDisconnect ?? found.policy.onDisconnect
    const policy: JobPolicy = {
      ...found.policy,
      ...change,
      timeoutMs: timeoutInForce(found.policy.timeoutMs, onDisconnect, maxRunMs),
    }
    if (policy.timeoutMs !== found.policy.timeoutMs) this.#runner.armTimeout(found, policy.timeoutMs)
    found.setPolicy(policy)
    found.holders.changeGrace(onDisconnect === 'continue' ? undefined : policy.disconnectGraceMs)
    await this.#write({ kind: 'policy', ref, policy })
    return this.#view(found.record)
  }

  /** @throws {TetherError} `TETHER_JOB_NOT_FOUND`; `TETHER_INVALID_REQUEST` where the job has no such holder */
  async renewLease(ref: JobRef, holderId: string): Promise<void> {
    const found = await this.#find(ref)
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

  /** Forgets a finished job, its log and its files. @throws {TetherError} `TETHER_JOB_NOT_FOUND`, `TETHER_JOB_ACTIVE` */
  async forget(ref: JobRef): Promise<void> {
    const found = await this.#find(ref)
    if (found instanceof ActiveJob || !isTerminal(found.state.status)) {
      throw new TetherError('TETHER_JOB_ACTIVE', `job ${ref.id} has not ended: cancel it first`)
    }
    await this.#options.workspaces.remove(keyOf(ref))
    await this.#write({ kind: 'delete', ref, spentUntil: this.#clock.now() + SPENT_MS })
  }

  /** Calls `listener` for every change of every job's status, once it is in the log. Returns its undo. */
  watch(listener: (change: StatusChange) => void): () => void {
    this.#watchers.add(listener)
    return () => {
      this.#watchers.delete(listener)
    }
  }

  /** What the job left in its workspace. @throws {TetherError} `TETHER_JOB_NOT_FOUND` */
  async files(ref: JobRef): Promise<readonly WorkspaceFile[]> {
    await this.#find(ref)
    return this.#options.workspaces.list(keyOf(ref))
  }

  /** @throws {TetherError} `TETHER_JOB_NOT_FOUND` also for a path that is no file inside the workspace */
  async openFile(ref: JobRef, path: string): Promise<{ readonly stream: Readable; readonly bytes: number }> {
    await this.#find(ref)
    return this.#options.workspaces.open(keyOf(ref), path)
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
      queued: this.#options.queue.waiting,
    }
  }

  /**
   * Takes up what an earlier process left: jobs that ran are `interrupted`, queued ones wait again; one whose policy is not
   * `continue` waits for a holder first come, for its grace or 10 s at least. Call it once, before the first start.
   */
  async recover(): Promise<{ readonly interrupted: number; readonly queued: number }> {
    let interrupted = 0
    let queued = 0
    for (const record of await this.#options.store.listActive()) {
      const job = this.#adopt(record, this.tasks.find(record.task))
      const failure = restartFailure(record, job.task !== undefined)
      if (failure !== undefined) {
        interrupted += 1
        job.apply({ do: 'interrupt', at: this.#clock.now(), failure })
        continue
      }
      queued += 1
      this.#enqueue(job)
      if (record.policy.onDisconnect !== 'continue') {
        job.holders.expect(Math.max(record.policy.disconnectGraceMs, RESTART_GRACE_MS))
      }
    }
    await this.#options.eventLog.flush()
    return { interrupted, queued }
  }

  /**
   * Starts are refused from here on. Running jobs may finish for `finishWithinMs`, then they are ended as interrupted, and so are
   * queued ones that have a holder; other queued ones stay for the next start. Settles when nothing runs and all is written, or
   * could not be within the jobs' `settleMs` and a little more.
   */
  async drain(options: { readonly finishWithinMs: number; readonly hurry?: AbortSignal }): Promise<void> {
    this.#isDraining = true
    this.#options.queue.pause()
    const jobs = [...this.#active.values()]
    const reason = 'the server is shutting down'
    for (const job of jobs) {
      if (job.decided.status !== 'queued' || job.holders.count === 0) continue
      void this.#requestEnd(job, this.#newRequest('cancel', 'server_shutdown', reason))
    }
    const running = jobs.filter((job) => job.decided.status !== 'queued' || job.isDecided)
    const allEnded = Promise.all(running.map((job) => job.ended))
    if (options.finishWithinMs > 0) await waitAtMost(allEnded, options.finishWithinMs, this.#clock, options.hurry)
    for (const job of running) {
      if (!job.isDecided) void this.#requestEnd(job, this.#newRequest('cancel', 'server_shutdown', reason))
    }
    // A job ends within its settleMs, abandoned if need be; only a store that cannot be written keeps it longer.
    const settleMs = Math.max(0, ...running.map((job) => job.policy.settleMs))
    await waitAtMost(allEnded, settleMs + DRAIN_PATIENCE_MS, this.#clock)
    await waitAtMost(this.#options.eventLog.flush(), DRAIN_PATIENCE_MS, this.#clock)
    this.#options.eventLog.close()
    for (const job of this.#active.values()) {
      // A clean end without a terminal event is for jobs that wait for the next start, and for no others.
      if (job.decided.status !== 'queued') job.log.lose(new Error('the server ends before it could write the rest'))
      job.timers.close()
      job.holders.close()
    }
    this.#options.pending.close()
  }

  #assertOpen(): void {
    const { queue, concurrency, maxQueued, eventLog } = this.#options
    if (this.#isDraining) throw new TetherError('TETHER_DRAINING', 'the server is shutting down and takes no new jobs')
    if (eventLog.isFailing)
      throw new TetherError('TETHER_STORE_UNAVAILABLE', 'the store cannot be written at the moment')
    if (queue.running + queue.waiting + this.#starting >= concurrency + maxQueued) {
      throw new TetherError('TETHER_QUEUE_FULL', `${queue.waiting} jobs are waiting, the limit is ${maxQueued}`)
    }
  }

  #recordOf(request: StartRequest, task: RegisteredTask): JobRecord {
    const { spec, caller, fingerprint, idempotencyKey } = request
    return {
      id: spec.jobId ?? mintJobId(),
      tenant: caller.tenant,
      task: task.name,
      createdAt: this.#clock.now(),
      input: spec.input,
      policy: policyInForce(spec.policy, this.#options.policyDefaults),
      metadata: spec.metadata,
      fingerprint,
      state: { status: 'queued', attempt: 0 },
      lastSeq: 0,
      ...(spec.group === undefined ? {} : { group: spec.group }),
      ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
    }
  }

  /** Enters a new job everywhere and hands its record to the store, with the end that was asked for before it came. */
  #create(
    record: JobRecord,
    task: RegisteredTask,
    holder: Holder | undefined,
  ): { readonly active: ActiveJob; readonly isRecorded: Promise<boolean> } {
    const job = this.#adopt(record, task)
    const position = record.parentId === undefined ? this.#options.queue.positionOf(record.policy.priority) : 0
    const event: StatusEvent = { type: 'job.queued', job: this.#eventView(record), position }
    const isRecorded = job.log.create(record, [event]).then((isWritten) => {
      if (isWritten) this.#notify(job, event, 1)
      else this.#retire(job)
      return isWritten
    })
    const asked = this.#askedBefore(job)
    if (asked !== undefined) void this.#requestEnd(job, asked)
    if (holder !== undefined) this.#join(job, holder)
    return { active: job, isRecorded }
  }

  /** The end that was asked for before the job came, of the job itself or of its group. */
  #askedBefore(job: ActiveJob): CancellationRequest | undefined {
    const { pending } = this.#options
    const { tenant, group } = job.record
    const ofJob = pending.take(job.key)
    const ofGroup = group === undefined ? undefined : pending.peekGroup(tenant, group)
    return ofGroup === undefined ? ofJob : strongerOf(ofJob, ofGroup)
  }

  #createChild(
    parent: ActiveJob,
    child: { readonly task: RegisteredTask; readonly input: JobRecord['input']; readonly timeoutMs: number },
  ): Promise<ActiveJob | undefined> {
    const { record } = parent
    const policy = policyInForce(
      { onDisconnect: 'continue', timeoutMs: child.timeoutMs, settleMs: parent.policy.settleMs },
      this.#options.policyDefaults,
    )
    const created = this.#create(
      {
        id: mintJobId(),
        tenant: record.tenant,
        task: child.task.name,
        createdAt: this.#clock.now(),
        input: child.input,
        policy,
        metadata: record.metadata,
        parentId: record.id,
        fingerprint: '',
        state: { status: 'queued', attempt: 0 },
        lastSeq: 0,
      },
      child.task,
      undefined,
    )
    return created.isRecorded.then((isWritten) => (isWritten ? created.active : undefined))
  }

  /** Takes a job that has not ended into this process's maps. */
  #adopt(record: JobRecord, task: RegisteredTask | undefined): ActiveJob {
    const ref = { tenant: record.tenant, id: record.id }
    const job = new ActiveJob({
      clock: this.#clock,
      record,
      log: new JobLog(this.#options.eventLog, this.#clock, ref, record.lastSeq),
      task,
      onLastHolderLeft: (left, cause) => this.#applyDisconnectPolicy(left, cause),
      onWritten: (written, event, seq) => {
        this.#notify(written, event, seq)
        if (isTerminal(written.record.state.status)) this.#retire(written)
      },
    })
    this.#active.set(job.key, job)
    if (record.idempotencyKey !== undefined) {
      this.#byIdempotencyKey.set(idempotencyName(record.tenant, record.idempotencyKey), job)
    }
    if (record.group !== undefined) {
      const name = groupKey(record.tenant, record.group)
      const members = this.#groups.get(name)
      if (members === undefined) this.#groups.set(name, new Set([job]))
      else members.add(job)
    }
    return job
  }

  /** The job has ended and everything about it is in the store: this process lets go of it. */
  #retire(job: ActiveJob): void {
    const { record } = job
    this.#active.delete(job.key)
    this.#options.pending.clearCancellation(job.key)
    if (record.idempotencyKey !== undefined) {
      this.#byIdempotencyKey.delete(idempotencyName(record.tenant, record.idempotencyKey))
    }
    if (record.group === undefined) return
    const name = groupKey(record.tenant, record.group)
    const members = this.#groups.get(name)
    members?.delete(job)
    if (members?.size === 0) this.#groups.delete(name)
  }

  #enqueue(job: ActiveJob): void {
    const { policy, task, tenant } = job.record
    const limits: SharedLimit[] = []
    if (policy.concurrencyKey !== '' && policy.concurrencyLimit > 0) {
      limits.push({ name: `key/${tenant}/${policy.concurrencyKey}`, limit: policy.concurrencyLimit })
    }
    const taskLimit = job.task?.concurrencyLimit
    if (taskLimit !== undefined) limits.push({ name: `task/${task}`, limit: taskLimit })
    job.timers.arm('queue', policy.queueTimeoutMs, () => {
      const reason = `it waited ${policy.queueTimeoutMs} ms for a slot`
      void this.#requestEnd(job, this.#newRequest('cancel', 'timed_out', reason))
    })
    this.#options.queue.add({
      key: job.key,
      tenant,
      priority: policy.priority,
      limits,
      run: () => this.#runner.run(job),
    })
  }

  /** The job that an equal start is making or has made and that has not ended. */
  #knownStart({ spec, caller, idempotencyKey }: StartRequest): ActiveJob | undefined {
    const byKey =
      idempotencyKey === undefined
        ? undefined
        : this.#byIdempotencyKey.get(idempotencyName(caller.tenant, idempotencyKey))
    if (byKey !== undefined || spec.jobId === undefined) return byKey
    return this.#active.get(keyOf({ tenant: caller.tenant, id: spec.jobId }))
  }

  async #storedStart({ spec, caller, idempotencyKey }: StartRequest): Promise<JobRecord | undefined> {
    const { store } = this.#options
    const byKey =
      idempotencyKey === undefined ? undefined : await store.findByIdempotencyKey(caller.tenant, idempotencyKey)
    if (byKey !== undefined || spec.jobId === undefined) return byKey
    const found = await store.lookup({ tenant: caller.tenant, id: spec.jobId })
    if (found.kind === 'spent') {
      throw new TetherError(
        'TETHER_JOB_DELETED',
        `job ${spec.jobId} was deleted; its id cannot be used again for a day`,
      )
    }
    return found.kind === 'found' ? found.record : undefined
  }

  async #joinStart(request: StartRequest, known: ActiveJob | JobRecord): Promise<StartedJob> {
    const { fingerprint, idempotencyKey, holder } = request
    const record = known instanceof ActiveJob ? known.record : known
    if (record.fingerprint !== fingerprint) {
      if (idempotencyKey !== undefined && record.idempotencyKey === idempotencyKey) {
        throw new TetherError('TETHER_IDEMPOTENCY_CONFLICT', 'this Idempotency-Key was used with another body before')
      }
      throw new TetherError('TETHER_JOB_EXISTS', `there is a job ${record.id} already, started with another body`)
    }
    if (known instanceof ActiveJob) {
      if (holder !== undefined && this.#mayHold(known)) this.#join(known, holder)
      // The first start may still be writing the record, which is what this answer promises.
      await this.#options.eventLog.flush()
      return { ref: known.ref, created: false, view: this.#view(known.record) }
    }
    return { ref: { tenant: record.tenant, id: record.id }, created: false, view: this.#view(record) }
  }

  #mayHold(job: ActiveJob): boolean {
    return !job.isDecided && job.decided.status !== 'cancelling'
  }

  #join(job: ActiveJob, holder: Holder): void {
    job.holders.join(holder, { graceMs: () => job.policy.disconnectGraceMs, leaseMs: job.policy.leaseMs })
  }

  #applyDisconnectPolicy(job: ActiveJob, cause: LeaveCause): void {
    const { onDisconnect } = job.policy
    const reason = 'its last holder left'
    switch (job.decided.status) {
      case 'queued':
      case 'running':
        if (onDisconnect !== 'continue') void this.#requestEnd(job, this.#newRequest(onDisconnect, cause, reason))
        return
      case 'stopping':
        if (onDisconnect === 'cancel') void this.#requestEnd(job, this.#newRequest('cancel', cause, reason))
        return
      default:
    }
  }

  /**
   * Hands one request to one job. The decision is made now, which fences the job's output; the abort follows when the decision
   * is in the store, or after 50 ms where the store is slow. Settles when it is in the store. Never rejects.
   */
  async #requestEnd(job: ActiveJob, request: CancellationRequest): Promise<void> {
    const { orchestrator, pending, queue, containment } = this.#options
    const fields = { jobId: job.ref.id, kind: request.kind, cause: request.cause, by: request.by }
    this.#logger.info({ ...fields, ms: 0 }, 'asked')
    const wasQueued = job.decided.status === 'queued'
    const phase = wasQueued ? 'queued' : orchestrator.phaseOf(job.key)
    const applied = job.apply({ do: 'request', at: this.#clock.now(), request, phase, containment })
    if (applied.kind !== 'moved') return
    if (wasQueued) queue.remove(job.key)
    else if (!orchestrator.canCancelExecution(job.key)) pending.mark(job.key, request)
    const committed = this.#logCommit(applied.written, { ...fields, phase }, request.requestedAtMs)
    await waitAtMost(committed, COMMIT_PATIENCE_MS, this.#clock)
    orchestrator.cancelExecution(job.key, request)
    if (request.kind === 'stop' && !job.isDecided) this.#armStopDeadline(job)
    await committed
  }

  async #logCommit(written: Promise<boolean>, fields: object, requestedAtMs: number): Promise<void> {
    if (await written) this.#logger.info({ ...fields, ms: this.#clock.monotonicMs() - requestedAtMs }, 'committed')
  }

  #armStopDeadline(job: ActiveJob): void {
    const { stopDeadlineMs } = job.policy
    job.timers.arm('stop', stopDeadlineMs, () => {
      const reason = `it did not stop within ${stopDeadlineMs} ms`
      void this.#requestEnd(job, this.#newRequest('cancel', 'stop_deadline', reason))
    })
  }

  #endUnknown(ref: JobRef, request: EndRequest, asked: CancellationRequest): EndAnswer | Promise<EndAnswer> {
    if (request.ifUnknown === 'reject') {
      this.#logger.info({ jobId: ref.id, kind: request.kind }, 'asked of a job that is not known')
      throw notFound(ref)
    }
    // The job may have been started while the store was asked.
    if (this.#active.has(keyOf(ref))) return this.end(ref, request)
    const tombstone = this.#options.pending.remember(keyOf(ref), asked)
    if (tombstone === undefined) throw tombstonesFull()
    const { kind, expiresAt } = tombstone
    return { kind: 'remembered', id: ref.id, request: kind, expiresAt, delivery: 'remembered' }
  }

  #rememberGroup(tenant: string, group: GroupId, asked: CancellationRequest): { kind: CancelKind; expiresAt: number } {
    const tombstone = this.#options.pending.rememberGroup(tenant, group, asked)
    if (tombstone === undefined) throw tombstonesFull()
    return tombstone
  }

  async #countEnded(tenant: string, group: GroupId): Promise<number> {
    let ended = 0
    let before: ListPlace | undefined
    for (;;) {
      const page = await this.#options.store.list({
        tenant,
        group,
        limit: 1000,
        ...(before === undefined ? {} : { before }),
      })
      ended += page.filter((record) => isTerminal(record.state.status)).length
      const last = page.at(-1)
      if (last === undefined || page.length < 1000) return ended
      before = { createdAt: last.createdAt, id: last.id }
    }
  }

  /** @throws {TetherError} `TETHER_JOB_FINISHED` where it ended with a result and no request of this kind had been accepted */
  #finishedView(record: JobRecord, kind: CancelKind): JobView {
    const view = this.#view(record)
    const wasAccepted = kind === 'stop' ? view.stop !== undefined : view.cancellation !== undefined
    if ((view.status === 'succeeded' || view.status === 'failed') && !wasAccepted) throw finishedError(record)
    return view
  }

  async #find(ref: JobRef): Promise<ActiveJob | JobRecord> {
    const found = this.#active.get(keyOf(ref)) ?? (await this.#lookup(ref))
    if (found === undefined) throw notFound(ref)
    return found
  }

  /** A job that is active by the time that the store has answered is not described by the store's answer any more. */
  async #lookup(ref: JobRef): Promise<ActiveJob | JobRecord | undefined> {
    const found = await this.#options.store.lookup(ref)
    return this.#active.get(keyOf(ref)) ?? (found.kind === 'found' ? found.record : undefined)
  }

  async #checkStore(): Promise<{ ok: boolean; detail?: string }> {
    if (this.#options.eventLog.isFailing)
      return { ok: false, detail: 'the last commit failed and is being tried again' }
    try {
      await this.#options.store.check()
      return { ok: true }
    } catch (error) {
      return { ok: false, detail: error instanceof Error ? error.message : String(error) }
    }
  }

  #write(change: Parameters<JobStore['commit']>[0][number]): Promise<boolean> {
    return new Promise((resolve) => this.#options.eventLog.push({ change, settle: resolve }))
  }

  #notify(job: ActiveJob, event: StatusEvent, seq: number): void {
    if (this.#watchers.size === 0) return
    const { record } = job
    const change = { event, seq, at: this.#clock.now(), row: rowOf(record), tenant: record.tenant }
    for (const watcher of this.#watchers) watcher(change)
  }

  #view(record: JobRecord): JobView {
    return viewOf(record, this.tasks.find(record.task)?.redact(record.input) ?? record.input)
  }

  /** As the store has the job. An end that was decided and is not in the store yet shows as a receipt that says so. */
  #viewOfActive(job: ActiveJob): JobView {
    const { record, decided } = job
    const view = this.#view(record)
    if (decided === record.state || !('cancellation' in decided)) return view
    const receipt = 'receipt' in decided ? decided.receipt : undefined
    return {
      ...view,
      receipt: { ...(receipt ?? { ...emptyReceipt(this.#options.containment), confirmed: false }), recorded: false },
    }
  }

  /** As it stands in `job.queued`: an input that does not fit an event is left to `GET /jobs/{id}`. */
  #eventView(record: JobRecord): JobView {
    const view = this.#view({ ...record, lastSeq: 1 })
    return Buffer.byteLength(JSON.stringify(view)) < MAX_EVENT_BYTES / 2 ? view : rowOf({ ...record, lastSeq: 1 })
  }

  #newRequest(kind: CancelKind, cause: Cause, reason: string, by?: string): CancellationRequest {
    return {
      kind,
      cause,
      reason: reason.slice(0, MAX_REASON_LENGTH),
      requestedAt: this.#clock.now(),
      requestedAtMs: this.#clock.monotonicMs(),
      ...(by === undefined ? {} : { by }),
    }
  }
}

function causeOf(kind: CancelKind): Cause {
  return kind === 'cancel' ? 'cancel_requested' : 'stop_requested'
}

function groupKey(tenant: string, group: string): string {
  return `${tenant}/${group}`
}

function idempotencyName(tenant: string, key: string): string {
  return `${tenant}/${key}`
}

function notFound(ref: JobRef): TetherError {
  return new TetherError('TETHER_JOB_NOT_FOUND', `there is no job ${ref.id}`)
}

function finishedError(record: JobRecord): TetherError {
  return new TetherError('TETHER_JOB_FINISHED', `job ${record.id} has ended already: ${record.state.status}`)
}

function tombstonesFull(): TetherError {
  return new TetherError('TETHER_TOMBSTONES_FULL', 'too many requests for unknown jobs are remembered already')
}

function stuckCheck(stuck: number, maxAbandoned: number): { ok: boolean; detail?: string } {
  if (stuck === 0) return { ok: true }
  return { ok: stuck <= maxAbandoned, detail: `${stuck} abandoned, of which ${maxAbandoned} may be` }
}

/** Why a job that an earlier process left cannot go on; undefined where it can. */
function restartFailure(
  record: JobRecord,
  hasTask: boolean,
): { code: string; message: string; retryable: boolean } | undefined {
  if (record.state.status !== 'queued' || record.parentId !== undefined) {
    return { code: 'TETHER_SERVER_CRASHED', message: 'the server died while it ran the job', retryable: true }
  }
  if (record.policy.onRestart === 'interrupt') {
    return { code: 'TETHER_SERVER_CRASHED', message: 'the server ended while the job was queued', retryable: true }
  }
  if (hasTask) return undefined
  return { code: 'TETHER_TASK_GONE', message: `the server has no task ${record.task} any more`, retryable: false }
}
