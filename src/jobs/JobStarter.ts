import type { Clock } from '../clock.ts'
import type { EventLog } from '../eventlog/EventLog.ts'
import { encodeLine } from '../eventlog/frames.ts'
import { JobLog } from '../eventlog/JobLog.ts'
import type { RegisteredTask, TaskRegistry } from '../execution/TaskRegistry.ts'
import { TetherError } from '../job/error.ts'
import type { StatusEvent } from '../job/event.ts'
import { mintJobId } from '../job/id.ts'
import type { JobRef } from '../job/key.ts'
import type { JobRecord } from '../job/record.ts'
import { isTerminal } from '../job/status.ts'
import type { TraceCarrier } from '../job/trace.ts'
import type { JobView } from '../job/view.ts'
import { type ChangeResult, type JobStore, type StoreChange, StoreError } from '../store/JobStore.ts'
import { ActiveJob } from './ActiveJob.ts'
import type { ActiveJobs } from './ActiveJobs.ts'
import type { ChildSpec } from './ChildJobs.ts'
import type { Holder } from './Holder.ts'
import { isRetried } from './isRetried.ts'
import type { JobEnder } from './JobEnder.ts'
import type { JobQueue } from './JobQueue.ts'
import type { JobSharing } from './JobSharing.ts'
import type { Caller, JobSpec } from './JobSpec.ts'
import type { JobViews } from './JobViews.ts'
import { limitsOf } from './limitsOf.ts'
import { type PolicyDefaults, policyInForce } from './policyInForce.ts'

export interface StartRequest {
  readonly spec: JobSpec
  /** Of the body as it was sent: what makes a second start the same as the first. */
  readonly fingerprint: string
  readonly caller: Caller
  readonly idempotencyKey?: string
  /** What the job belongs to. */
  readonly trace?: TraceCarrier
  /** Holds the job from before it is recorded; one that has left already counts as having left. */
  readonly holder?: Holder
}

export interface StartedJob {
  readonly ref: JobRef
  /** `false` where the same start had been made before. */
  readonly created: boolean
  readonly view: JobView
}

export interface JobStarterOptions {
  readonly clock: Clock
  readonly store: JobStore
  readonly eventLog: EventLog
  readonly queue: JobQueue
  readonly tasks: TaskRegistry
  readonly active: ActiveJobs
  readonly views: JobViews
  readonly ender: JobEnder
  readonly shared?: JobSharing
  /** Runs a job in the slot that it got. Never rejects. */
  readonly run: (job: ActiveJob) => Promise<void>
  readonly concurrency: number
  readonly maxQueued: number
  readonly policyDefaults: PolicyDefaults
  /** A change of a job's status is in the log now. */
  readonly onWritten: (job: ActiveJob, event: StatusEvent, seq: number) => void
  /** The same of a job that this process does not have. */
  readonly onMoved?: (record: JobRecord, event: StatusEvent) => void
  /** What the store answered to a change of a job that this process has. */
  readonly onAnswer?: (job: ActiveJob, result: ChangeResult) => void
}

/** After a restart, a job whose holders are gone with the old process waits at least this long for one to come back. */
const RESTART_GRACE_MS = 10_000

/** The one way in: makes jobs, finds those that the same start had made before, and takes up what an earlier process left. */
export class JobStarter {
  readonly #options: JobStarterOptions
  readonly #clock: Clock
  #isClosed = false
  /** Starts that are being recorded and are not in the queue yet: they count against its limit. */
  #starting = 0
  readonly #awaiting = new Set<ActiveJob>()

  constructor(options: JobStarterOptions) {
    this.#options = options
    this.#clock = options.clock
  }

  /** Starts are refused from here on. */
  close(): void {
    this.#isClosed = true
  }

  /**
   * Starts a job, or finds the one that the same start had made before. When it settles the job is recorded.
   * @throws {TetherError} `TETHER_DRAINING`, `TETHER_STORE_UNAVAILABLE`, `TETHER_QUEUE_FULL`, `TETHER_TASK_NOT_FOUND`,
   * `TETHER_INVALID_REQUEST`, `TETHER_JOB_EXISTS`, `TETHER_IDEMPOTENCY_CONFLICT`, `TETHER_JOB_DELETED`
   */
  async start(request: StartRequest): Promise<StartedJob> {
    const { spec } = request
    const task = this.#options.tasks.get(spec.task)
    task.assertInput(spec.input)
    const known = this.#knownStart(request) ?? (await this.#storedStart(request)) ?? this.#knownStart(request)
    if (known !== undefined) return this.#joinStart(request, known)
    const { shared } = this.#options
    if (shared !== undefined) return this.#startShared(request, task, shared)
    // From here to the entry in the maps nothing waits, so that two starts with one id cannot both come through.
    this.#assertOpen()
    const job = this.#create(this.#recordOf(request, task), task, request.holder)
    this.#starting += 1
    const isRecorded = await job.isRecorded
    this.#starting -= 1
    if (!isRecorded) throw notTaken()
    if (job.isDecided) await job.ended
    else {
      this.#armQueueTimeout(job)
      this.#enqueue(job)
    }
    return { ref: job.ref, created: true, view: this.#options.views.of(job.record) }
  }

  /** Starts a job that any process may run: this one does not hold it until it claims it, like any other. */
  async #startShared(request: StartRequest, task: RegisteredTask, shared: JobSharing): Promise<StartedJob> {
    const { views, eventLog, maxQueued } = this.#options
    const { replicas, remote } = shared
    this.#assertTakesStarts()
    const record = this.#recordOf(request, task)
    const { waiting, ahead } = await replicas.countWaiting(record.policy.priority)
    if (waiting + this.#starting >= maxQueued) throw queueFull(waiting, maxQueued)
    this.#starting += 1
    try {
      const event: StatusEvent = { type: 'job.queued', job: views.inEvent(record), position: ahead }
      const { type, ...data } = event
      const at = new Date(record.createdAt).toISOString()
      const created = { ...record, lastSeq: 1 }
      const { queueTimeoutMs } = record.policy
      const change: StoreChange = {
        kind: 'create',
        record: created,
        events: { firstSeq: 1, lastSeq: 1, lines: encodeLine(type, at, data) },
        owner: '',
        // From the start: a process that dies now leaves a job that is known to be held.
        isHeld: request.holder !== undefined,
        ...(queueTimeoutMs > 0 ? { waitsUntil: record.createdAt + queueTimeoutMs } : {}),
        limits: limitsOf(record, task),
      }
      const result = await new Promise<ChangeResult | undefined>((resolve) =>
        eventLog.push({ change, settle: (_, answer) => resolve(answer) }),
      )
      if (result === undefined) throw notTaken()
      if (!result.ok) return await this.#startAgain(request)
      const ref = { tenant: record.tenant, id: record.id }
      this.#options.onMoved?.(created, event)
      if (request.holder !== undefined) remote.join(created, request.holder)
      const [asked] = result.isAsked === true ? await replicas.asked([ref]) : []
      if (asked !== undefined) {
        const ended = await shared.unowned.end(ref, asked)
        return { ref, created: true, view: views.of(ended ?? created) }
      }
      try {
        await replicas.enqueue(ref, record.policy.priority)
      } catch (error) {
        // It is recorded, and whoever finds that it is in no queue puts it there.
        if (!(error instanceof StoreError)) throw error
      }
      return { ref, created: true, view: views.of(created) }
    } finally {
      this.#starting -= 1
    }
  }

  /** Another process was faster with the same id or key. */
  async #startAgain(request: StartRequest): Promise<StartedJob> {
    const known = await this.#storedStart(request)
    if (known === undefined) throw notTaken()
    return this.#joinStart(request, known)
  }

  /**
   * Claims a job that the queue of all has given to this process, and runs it. Settles when the slot may go to another; `onClaimed`
   * is called once the job is among those of this process.
   */
  async runClaimed(ref: JobRef, onClaimed: () => void): Promise<void> {
    const { shared, tasks, active } = this.#options
    if (shared === undefined || active.getOwn(ref) !== undefined) return
    if (active.get(ref) !== undefined) throw new StoreError(`what ran of ${ref.id} before has not settled`)
    const { replicas, unowned } = shared
    if (this.#isClosed) return replicas.noteUnqueued(ref)
    const claim = await replicas.claim(ref)
    if (claim.kind === 'asked') {
      const record = await unowned.end(ref, claim.request)
      if (record !== undefined && !isTerminal(record.state.status)) throw new StoreError(`${ref.id} was asked anew`)
    }
    if (claim.kind !== 'claimed') return
    const { record } = claim
    if (this.#isClosed) {
      await replicas.giveBack(ref, replicas.id, waitsUntil(record))
      return
    }
    const task = tasks.find(record.task)
    const job = this.#adopt(record, task, Promise.resolve(true))
    onClaimed()
    if (task !== undefined) {
      this.#armQueueTimeout(job)
      return this.#runInSlot(job)
    }
    const message = `this server has no task ${record.task}`
    const applied = job.apply({
      do: 'interrupt',
      at: this.#clock.now(),
      failure: { code: 'TETHER_TASK_GONE', message, retryable: false },
    })
    if (applied.kind === 'moved') await applied.written
  }

  /** A job of `parent`'s, being recorded and not yet run. */
  createChild(parent: ActiveJob, child: ChildSpec): ActiveJob {
    const { record } = parent
    const policy = policyInForce(
      { onDisconnect: 'continue', timeoutMs: child.timeoutMs, settleMs: parent.policy.settleMs },
      this.#options.policyDefaults,
    )
    return this.#create(
      {
        id: mintJobId(),
        tenant: record.tenant,
        task: child.task.name,
        createdAt: this.#clock.now(),
        input: child.input,
        policy,
        metadata: record.metadata,
        parentId: record.id,
        ...(child.trace === undefined ? {} : { trace: child.trace }),
        ...(child.sharesWorkspace ? { workspaceOf: record.workspaceOf ?? record.id } : {}),
        fingerprint: '',
        state: { status: 'queued', attempt: 0 },
        lastSeq: 0,
      },
      child.task,
      undefined,
    )
  }

  /**
   * Takes up what an earlier process left: jobs that ran are `interrupted`, or run again where their task says so, queued ones wait
   * again; one whose policy is not
   * `continue` waits for a holder first, for its grace or 10 s at least, and is not run for nobody. Call it once, before the
   * first start. @throws {Error} where the store does not take it.
   */
  async recover(): Promise<{ readonly interrupted: number; readonly queued: number }> {
    const { store, tasks, eventLog } = this.#options
    await eventLog.assertWritable()
    let interrupted = 0
    let queued = 0
    for (const record of await store.listActive()) {
      const job = this.#adopt(record, tasks.find(record.task), Promise.resolve(true))
      const failure = restartFailure(record, job.task !== undefined)
      if (failure !== undefined && isRetried(record, job.task)) {
        job.apply({ do: 'requeue', at: this.#clock.now(), failure })
      } else if (failure !== undefined) {
        interrupted += 1
        job.apply({ do: 'interrupt', at: this.#clock.now(), failure })
        continue
      }
      queued += 1
      // It may have been recorded by a process that died before it recorded the end that had been asked for before.
      this.#options.ender.handPending(job)
      if (job.isDecided) continue
      this.#armQueueTimeout(job)
      if (record.policy.onDisconnect === 'continue') this.#enqueue(job)
      else this.#awaitHolder(job)
    }
    await this.#flushed()
    return { interrupted, queued }
  }

  /** How many jobs wait for a holder before they wait for a slot. */
  get awaitingHolder(): number {
    return this.#awaiting.size
  }

  #awaitHolder(job: ActiveJob): void {
    this.#awaiting.add(job)
    job.holders.expect({ graceMs: job.policy.disconnectGraceMs, atLeastMs: RESTART_GRACE_MS }, () => {
      if (this.#awaiting.delete(job)) this.#enqueue(job)
    })
    void job.concluded.then(() => this.#awaiting.delete(job))
  }

  async #flushed(): Promise<void> {
    const { eventLog } = this.#options
    const givenUp = Promise.withResolvers<never>()
    const unlisten = eventLog.onHealth((health) => {
      if (health.kind === 'failing' && health.isGivenUp) givenUp.reject(health.error)
    })
    try {
      await Promise.race([eventLog.flush(), givenUp.promise])
    } finally {
      unlisten()
    }
  }

  #assertTakesStarts(): void {
    if (this.#isClosed) throw new TetherError('TETHER_DRAINING', 'the server is shutting down and takes no new jobs')
    if (this.#options.eventLog.isFailing) throw notTaken()
  }

  #assertOpen(): void {
    const { queue, concurrency, maxQueued } = this.#options
    this.#assertTakesStarts()
    if (queue.running + queue.waiting + this.#starting + this.#awaiting.size >= concurrency + maxQueued) {
      throw queueFull(queue.waiting, maxQueued)
    }
  }

  #recordOf(request: StartRequest, task: RegisteredTask): JobRecord {
    const { spec, caller, fingerprint, idempotencyKey, trace } = request
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
      ...(trace === undefined ? {} : { trace }),
    }
  }

  /** Enters a new job everywhere and hands its record to the store, with the end that was asked for before it came. */
  #create(record: JobRecord, task: RegisteredTask, holder: Holder | undefined): ActiveJob {
    const { queue, views, ender } = this.#options
    const recorded = Promise.withResolvers<boolean>()
    const job = this.#adopt(record, task, recorded.promise)
    const position = record.parentId === undefined ? queue.positionOf(record.policy.priority) : 0
    const event: StatusEvent = { type: 'job.queued', job: views.inEvent(record), position }
    recorded.resolve(this.#record(job, record, event))
    ender.handPending(job)
    if (holder !== undefined) this.join(job, holder)
    return job
  }

  async #record(job: ActiveJob, record: JobRecord, event: StatusEvent): Promise<boolean> {
    const { active, ender, onWritten } = this.#options
    const isRecorded = await job.log.create(record, [event])
    if (isRecorded) onWritten(job, event, 1)
    else {
      active.remove(job)
      ender.rememberUnrecorded(job)
      job.discard(new StoreError(`the store did not take the start of ${job.ref.id}`))
    }
    return isRecorded
  }

  /** Takes a job that has not ended into this process's maps. */
  #adopt(record: JobRecord, task: RegisteredTask | undefined, isRecorded: Promise<boolean>): ActiveJob {
    const { eventLog, active, ender, onWritten, shared } = this.#options
    const ref = { tenant: record.tenant, id: record.id }
    const job: ActiveJob = new ActiveJob({
      clock: this.#clock,
      record,
      log: new JobLog(
        eventLog,
        this.#clock,
        ref,
        record.lastSeq,
        (result) => this.#options.onAnswer?.(job, result),
        shared?.replicas.id,
      ),
      task,
      isRecorded,
      onLastHolderLeft: (left, cause) => ender.applyDisconnectPolicy(left, cause),
      ...(shared === undefined ? {} : { holders: shared.holders.of(ref) }),
      onWritten,
    })
    active.add(job)
    return job
  }

  /** Settles when the job has run, or has ended without. */
  #runInSlot(job: ActiveJob): Promise<void> {
    const over = Promise.withResolvers<void>()
    let hasBegun = false
    this.#enqueue(job, async (begun) => {
      hasBegun = true
      await this.#options.run(begun)
      over.resolve()
    })
    const hasLeft = Promise.race([job.concluded, job.gone])
    return Promise.race([over.promise, hasLeft.then(() => (hasBegun ? over.promise : undefined))])
  }

  #enqueue(job: ActiveJob, run = this.#options.run): void {
    const { queue, shared } = this.#options
    const { policy, tenant } = job.record
    // Where jobs are shared, limits hold for all processes, and nobody gets a job that they hold back.
    const limits = shared === undefined ? limitsOf(job.record, job.task) : []
    queue.add({ key: job.key, tenant, priority: policy.priority, limits, run: () => run(job) })
  }

  #armQueueTimeout(job: ActiveJob): void {
    const { queueTimeoutMs } = job.policy
    // It may have waited before it came to this process.
    const restMs = Math.max(1, job.record.createdAt + queueTimeoutMs - this.#clock.now())
    job.timers.arm('queue', queueTimeoutMs === 0 ? 0 : Math.min(restMs, queueTimeoutMs), () => {
      void this.#options.ender.request(job, 'cancel', 'timed_out', `it waited ${queueTimeoutMs} ms for a slot`)
    })
  }

  /** The job that an equal start is making or has made and that has not ended. */
  #knownStart({ spec, caller, idempotencyKey }: StartRequest): ActiveJob | undefined {
    const { active } = this.#options
    const byKey = idempotencyKey === undefined ? undefined : active.withIdempotencyKey(caller.tenant, idempotencyKey)
    if (byKey !== undefined || spec.jobId === undefined) return byKey
    return active.get({ tenant: caller.tenant, id: spec.jobId })
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
    const { views } = this.#options
    const record = known instanceof ActiveJob ? known.record : known
    if (record.fingerprint !== fingerprint) {
      if (idempotencyKey !== undefined && record.idempotencyKey === idempotencyKey) {
        throw new TetherError('TETHER_IDEMPOTENCY_CONFLICT', 'this Idempotency-Key was used with another body before')
      }
      throw new TetherError('TETHER_JOB_EXISTS', `there is a job ${record.id} already, started with another body`)
    }
    if (known instanceof ActiveJob) {
      if (holder !== undefined) this.join(known, holder)
      // The first start may still be writing the record, which is what this answer promises.
      if (!(await known.isRecorded)) throw notTaken()
      return { ref: known.ref, created: false, view: views.of(known.record) }
    }
    if (holder !== undefined) this.#options.shared?.remote.join(record, holder)
    return { ref: { tenant: record.tenant, id: record.id }, created: false, view: views.of(record) }
  }

  /** Makes `holder` one of the job's. `false` where it is too late: a job that is being cancelled or has ended has none. */
  join(job: ActiveJob, holder: Holder): boolean {
    if (job.isDecided || job.decided.status === 'cancelling') return false
    job.holders.join(holder, { graceMs: () => job.policy.disconnectGraceMs, leaseMs: job.policy.leaseMs })
    return true
  }
}

/** When its wait in the queue is over (wall time, ms); undefined where it may wait for any time. */
export function waitsUntil({ createdAt, policy }: JobRecord): number | undefined {
  return policy.queueTimeoutMs > 0 ? createdAt + policy.queueTimeoutMs : undefined
}

function queueFull(waiting: number, maxQueued: number): TetherError {
  return new TetherError('TETHER_QUEUE_FULL', `${waiting} jobs are waiting, the limit is ${maxQueued}`)
}

function notTaken(): TetherError {
  return new TetherError('TETHER_STORE_UNAVAILABLE', 'the store does not take writes at the moment; try again')
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
