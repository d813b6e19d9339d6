import { type PendingCancellations, strongerOf } from '../cancellation/PendingCancellations.ts'
import type { Clock } from '../clock.ts'
import type { TaskExecutionOrchestrator } from '../execution/TaskExecutionOrchestrator.ts'
import { type CancelKind, type CancellationRequest, type Cause, MAX_REASON_LENGTH } from '../job/cancellation.ts'
import { TetherError } from '../job/error.ts'
import type { Failure } from '../job/failure.ts'
import type { GroupId } from '../job/id.ts'
import { type JobRef, keyOf } from '../job/key.ts'
import type { Containment } from '../job/receipt.ts'
import { isTerminal } from '../job/status.ts'
import type { Logger } from '../logger.ts'
import { type JobStore, StoreError } from '../store/JobStore.ts'
import { waitAtMost } from '../waiting.ts'
import { ActiveJob } from './ActiveJob.ts'
import type { ActiveJobs } from './ActiveJobs.ts'
import type { EndAnswer, EndRequest, GroupAnswer, GroupEndRequest } from './ending.ts'
import type { LeaveCause } from './Holder.ts'
import { type JobFinder, notFound } from './JobFinder.ts'
import type { JobQueue } from './JobQueue.ts'
import type { JobSharing } from './JobSharing.ts'
import type { JobViews } from './JobViews.ts'
import type { AskedRequest } from './Replicas.ts'

export interface JobEnderOptions {
  readonly clock: Clock
  readonly logger: Logger
  readonly store: JobStore
  readonly queue: JobQueue
  readonly pending: PendingCancellations
  readonly orchestrator: TaskExecutionOrchestrator
  readonly containment: Containment
  readonly active: ActiveJobs
  readonly jobs: JobFinder
  readonly views: JobViews
  readonly shared?: JobSharing
}

/** A commit that takes longer than this does not hold up the abort: it is written later. */
const COMMIT_PATIENCE_MS = 50

/** How long an answer waits for the store to take what was asked; past it, it says that this is not recorded yet. */
const ANSWER_PATIENCE_MS = 1000

/**
 * The one way out: a cancel, a stop, a disconnect, a deadline, a parent's end and a shutdown all arrive here as requests, and
 * leave as changes of one state machine.
 */
export class JobEnder {
  readonly #options: JobEnderOptions
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #active: ActiveJobs

  constructor(options: JobEnderOptions) {
    this.#options = options
    this.#clock = options.clock
    this.#logger = options.logger
    this.#active = options.active
  }

  /**
   * Cancels or stops a job, wherever it has got to. Settles when the request is recorded, or the store has not taken it for 1 s;
   * where there is a `waitMs`, when the job has ended, that has passed or `signal` has fired.
   * @throws {TetherError} `TETHER_JOB_NOT_FOUND`, `TETHER_JOB_FINISHED`, `TETHER_TOMBSTONES_FULL`
   */
  async end(ref: JobRef, request: EndRequest): Promise<EndAnswer> {
    const { jobs, views, shared } = this.#options
    const asked = this.#newRequest(request.kind, causeOf(request.kind), request.reason, request.caller.subject)
    const found = this.#active.getOwn(ref) ?? (shared === undefined ? await jobs.lookup(ref) : undefined)
    if (found === undefined && shared !== undefined) {
      return shared.remote.end(ref, request, asked, () =>
        this.#active.getOwn(ref) === undefined ? undefined : this.end(ref, request),
      )
    }
    if (found === undefined) return this.#endUnknown(ref, request, asked)
    if (!(found instanceof ActiveJob)) {
      return { kind: 'job', view: views.ofFinished(found, request.kind), delivery: 'none' }
    }
    const delivery = found.isDecided ? 'none' : found.decided.status === 'queued' ? 'queued' : 'local'
    found.noteAskedUnrecorded(asked)
    // The abort does not wait for the store, and where the store is away neither does the answer.
    const requested = this.#hand(found, asked)
    const isRecorded = await waitAtMost(requested, ANSWER_PATIENCE_MS, this.#clock, request.signal)
    // Its start was withdrawn: what was asked is remembered for the next one.
    if (isRecorded && !(await found.isRecorded)) return this.#endUnknown(ref, request, asked)
    if (!found.isDecided) request.onAccepted?.()
    const endPatienceMs = isRecorded && found.isDecided ? ANSWER_PATIENCE_MS : 0
    const waitMs = Math.max(request.waitMs - (isRecorded ? 0 : ANSWER_PATIENCE_MS), endPatienceMs)
    if (waitMs > 0) await waitAtMost(found.ended, waitMs, this.#clock, request.signal)
    const view = found.hasEnded ? views.ofFinished(found.record, request.kind) : views.ofActive(found)
    return { kind: 'job', view, delivery }
  }

  /**
   * The same for every job of a group; the answer waits no longer for the store than that of one job.
   * @throws {TetherError} `TETHER_JOB_NOT_FOUND`, `TETHER_TOMBSTONES_FULL`
   */
  async endGroup(tenant: string, group: GroupId, request: GroupEndRequest): Promise<GroupAnswer> {
    const asked = this.#newRequest(request.kind, causeOf(request.kind), request.reason, request.caller.subject)
    const members = this.#active.inGroup(tenant, group)
    for (const member of members) {
      member.noteAskedUnrecorded(asked)
      if (!member.isDecided) request.onAsked?.(member.ref)
    }
    // Remembered before anything waits: a member that starts meanwhile finds it.
    const remembered = request.ifUnknown === 'remember' ? this.#rememberGroup(tenant, group, asked) : undefined
    const requested = Promise.all(members.map((job) => this.#hand(job, asked)))
    await waitAtMost(requested, ANSWER_PATIENCE_MS, this.#clock)
    const tombstone = await remembered
    const handed = new Set(members.map(({ key }) => key))
    const elsewhere = await this.#options.shared?.remote.endGroup(
      tenant,
      group,
      asked,
      (ref) => (handed.has(keyOf(ref)) ? Promise.resolve(false) : this.#endClaimed(ref, asked, request.onAsked)),
      request.onAsked,
    )
    const accepted = members.filter((job) => !isTerminal(job.record.state.status)).length + (elsewhere ?? 0)
    const ended = await this.#countEnded(tenant, group, accepted > 0)
    if (accepted + ended === 0 && tombstone === undefined) {
      throw new TetherError('TETHER_JOB_NOT_FOUND', `no job was started with the group ${group}`)
    }
    return { accepted, ended, ...(tombstone === undefined ? {} : { remembered: tombstone }) }
  }

  /** Ends a job that this process has claimed since a request for its group came; undefined where it has not. */
  #endClaimed(
    ref: JobRef,
    asked: CancellationRequest,
    onAsked: GroupEndRequest['onAsked'],
  ): Promise<boolean> | undefined {
    const job = this.#active.getOwn(ref)
    if (job === undefined) return undefined
    job.noteAskedUnrecorded(asked)
    if (!job.isDecided) onAsked?.(ref)
    const requested = this.#hand(job, asked)
    return waitAtMost(requested, ANSWER_PATIENCE_MS, this.#clock).then(() => !isTerminal(job.record.state.status))
  }

  /** Hands a job what was asked for through another process. Settles when that is in the store. Never rejects. */
  handAsked(job: ActiveJob, asked: AskedRequest): Promise<void> {
    return this.#hand(job, { ...asked, requestedAtMs: this.#clock.monotonicMs() }, true)
  }

  /**
   * This process may not go on with the job: another has it, or may call it lost. Its function is cancelled hard, and who
   * follows it here is cut off, to come to a process that can say how it went on. `false` where its end was decided before.
   */
  forfeit(job: ActiveJob, failure: Failure): boolean {
    if (!job.forfeitFor(failure)) return false
    this.#logger.error({ jobId: job.ref.id, code: failure.code }, failure.message)
    const request = this.#newRequest('cancel', 'cancel_requested', failure.message, 'server')
    this.#options.orchestrator.cancelExecution(job.key, request)
    return true
  }

  /** Ends a job for a reason of the server's own. Settles when that is in the store. Never rejects. */
  request(job: ActiveJob, kind: CancelKind, cause: Cause, reason: string): Promise<void> {
    return this.#hand(job, this.#newRequest(kind, cause, reason))
  }

  /** Ends a job as was asked before it came, of the job itself or of its group. */
  handPending(job: ActiveJob): void {
    const { pending } = this.#options
    const { tenant, group } = job.record
    const ofJob = pending.take(job.key)
    const ofGroup = group === undefined ? undefined : pending.peekGroup(tenant, group)
    if (ofJob !== undefined) job.noteAskedUnrecorded(ofJob)
    const asked = ofGroup === undefined ? ofJob : strongerOf(ofJob, ofGroup)
    if (asked !== undefined) void this.#hand(job, asked)
  }

  /** The store did not take the job: who asked for its end was told that it will be honoured, so the next start with its id is. */
  rememberUnrecorded(job: ActiveJob): void {
    const asked = job.askedUnrecorded
    if (asked === undefined) return
    const tombstone = this.#options.pending.remember(job.key, asked)
    if (tombstone === undefined)
      this.#logger.error({ jobId: job.ref.id }, 'a request for a job could not be remembered')
  }

  /** The job's last holder has left. */
  applyDisconnectPolicy(job: ActiveJob, cause: LeaveCause): void {
    const { onDisconnect } = job.policy
    const reason = 'its last holder left'
    switch (job.decided.status) {
      case 'queued':
      case 'running':
        if (onDisconnect !== 'continue') void this.request(job, onDisconnect, cause, reason)
        return
      case 'stopping':
        if (onDisconnect === 'cancel') void this.request(job, 'cancel', cause, reason)
        return
      default:
    }
  }

  /**
   * The store has not taken what this job said for too long: who follows it is cut off, since the log would go on without what
   * was said, and where its function runs, that is cancelled hard and the job fails. A job that only waits goes on waiting.
   */
  giveUp(job: ActiveJob, error: Error): void {
    const { orchestrator } = this.#options
    if (!job.log.isBehind) return
    const isRunning = orchestrator.canCancelExecution(job.key)
    if (!isRunning && !job.isDecided) return
    job.log.lose(new StoreError(`the log of ${job.ref.id} cannot be written now`, { cause: error }))
    const failure: Failure = {
      code: 'TETHER_STORE_FAILED',
      message: `the job's log could not be written: ${error.message}`,
      retryable: true,
    }
    if (!isRunning || !job.failForStore(failure)) return
    const request = this.#newRequest('cancel', 'cancel_requested', 'its log cannot be written', 'server')
    this.#logger.error({ jobId: job.ref.id, err: error }, 'cancelled, because its log cannot be written')
    orchestrator.cancelExecution(job.key, request)
  }

  /**
   * Hands one request to one job. The decision is made now, which fences the job's output; the abort follows when the decision
   * is in the store, or after 50 ms where the store is slow. Settles when it is in the store. Never rejects.
   */
  async #hand(job: ActiveJob, request: CancellationRequest, isRecorded = false): Promise<void> {
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
    // What came through another process stands in the job's record already.
    if (!isRecorded) await waitAtMost(committed, COMMIT_PATIENCE_MS, this.#clock)
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
      void this.request(job, 'cancel', 'stop_deadline', `it did not stop within ${stopDeadlineMs} ms`)
    })
  }

  async #endUnknown(ref: JobRef, request: EndRequest, asked: CancellationRequest): Promise<EndAnswer> {
    if (request.ifUnknown === 'reject') {
      this.#logger.info({ jobId: ref.id, kind: request.kind }, 'asked of a job that is not known')
      throw notFound(ref)
    }
    // The job may have been started while the store was asked.
    if (this.#active.getOwn(ref) !== undefined) return this.end(ref, request)
    const tombstone = this.#options.pending.remember(keyOf(ref), asked)
    if (tombstone === undefined) throw tombstonesFull()
    const { kind, expiresAt, kept } = tombstone
    await waitAtMost(kept, ANSWER_PATIENCE_MS, this.#clock)
    return { kind: 'remembered', id: ref.id, request: kind, expiresAt, delivery: 'remembered' }
  }

  async #rememberGroup(
    tenant: string,
    group: GroupId,
    asked: CancellationRequest,
  ): Promise<{ kind: CancelKind; expiresAt: number }> {
    const { shared } = this.#options
    if (shared !== undefined) {
      const { requestedAtMs: _, ...told } = asked
      const standing = await shared.replicas.askGroup(tenant, group, told)
      if (standing.kind !== 'remembered') throw tombstonesFull()
      return { kind: standing.request, expiresAt: standing.expiresAt }
    }
    const tombstone = this.#options.pending.rememberGroup(tenant, group, asked)
    if (tombstone === undefined) throw tombstonesFull()
    return tombstone
  }

  /** A store that cannot be read takes nothing back from members that were asked. */
  async #countEnded(tenant: string, group: GroupId, wasAccepted: boolean): Promise<number> {
    try {
      return await this.#options.store.countEnded(tenant, group)
    } catch (error) {
      if (wasAccepted && error instanceof StoreError) return 0
      throw error
    }
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

function tombstonesFull(): TetherError {
  return new TetherError('TETHER_TOMBSTONES_FULL', 'too many requests for unknown jobs are remembered already')
}
