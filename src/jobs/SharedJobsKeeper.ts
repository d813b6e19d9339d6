import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from '../clock.ts'
import type { TaskRegistry } from '../execution/TaskRegistry.ts'
import type { CancellationRequest } from '../job/cancellation.ts'
import type { Failure } from '../job/failure.ts'
import { type JobKey, type JobRef, keyOf } from '../job/key.ts'
import { messageOf } from '../job/messageOf.ts'
import { graceOf } from '../job/policy.ts'
import type { JobRecord } from '../job/record.ts'
import { isTerminal } from '../job/status.ts'
import type { Logger } from '../logger.ts'
import type { ChangeResult, JobStore } from '../store/JobStore.ts'
import { StoreError } from '../store/JobStore.ts'
import type { ActiveJob } from './ActiveJob.ts'
import type { ActiveJobs } from './ActiveJobs.ts'
import { isRetried } from './isRetried.ts'
import type { JobEnder } from './JobEnder.ts'
import type { FoundBy } from './JobObserver.ts'
import type { JobQueue } from './JobQueue.ts'
import type { JobSharing } from './JobSharing.ts'
import { type JobStarter, waitsUntil } from './JobStarter.ts'
import { limitsOf } from './limitsOf.ts'
import type { AskedRequest, Hint, LostReplica } from './Replicas.ts'

export interface SharedJobsKeeperOptions extends JobSharing {
  readonly clock: Clock
  readonly logger: Logger
  readonly store: JobStore
  readonly active: ActiveJobs
  readonly ender: JobEnder
  readonly starter: JobStarter
  readonly tasks: TaskRegistry
  readonly queue: JobQueue
  /** Nothing more comes of a job here that was forfeited. */
  readonly onForfeited: (job: ActiveJob, failure: Failure) => void
  /** How often what others asked is looked for, where they cannot tell this process, ms. */
  readonly cancelPollMs: number
  /** The policy of a job that runs here was changed through another process. */
  readonly onPolicyChanged: (job: ActiveJob) => Promise<void>
  /** Told of a request that came without its hint. */
  readonly onFound: (by: FoundBy) => void
}

/** What others asked is told at once; where this process has not heard from them for so long, it looks for itself. */
const UNHEARD_MS = 1000
/** And now and then in any case. */
const RARE_POLL_MS = 5000
/** How often what processes that died left is looked for. */
const SWEEP_MS = 1000
const RETRY_MS = 100
const MAX_RETRY_MS = 1000
/** How many sweeps apart this process looks whether it knows all its jobs. */
const SWEEPS_A_HEALING = 10

/** Holders of a process that died have at least this long to come to another. */
const LOST_HOLDER_GRACE_MS = 10_000

const REPLICA_LOST: Failure = {
  code: 'TETHER_REPLICA_LOST',
  message: 'the server that ran the job is gone',
  retryable: true,
}
const LEASE_LOST: Failure = {
  code: 'TETHER_LEASE_LOST',
  message: 'the server that ran the job could not reach the others in time',
  retryable: true,
}
const LOST_TRACK: Failure = {
  code: 'TETHER_LEASE_LOST',
  message: 'the server that had the job does not run it any more',
  retryable: true,
}
const LOG_LOST: Failure = {
  code: 'TETHER_STORE_FAILED',
  message: 'the store has lost a part of the log that it had taken',
  retryable: true,
}
const TAKEN_AWAY: Failure = {
  code: 'TETHER_LEASE_LOST',
  message: 'the others took this server for gone and ended the job',
  retryable: true,
}

/** Keeps this process's jobs and those of the others in step: hears what is asked of it, and takes up what the dead have left. */
export class SharedJobsKeeper {
  readonly #options: SharedJobsKeeperOptions
  #cancelPoll: (() => void) | undefined
  #cancelSweep: (() => void) | undefined
  #unlisten: (() => void) | undefined
  #lastPollMs = 0
  #sweepCount = 0
  /** Owned by this process and not known to it when that was last looked at. */
  #unknownOwned: ReadonlySet<JobKey> = new Set()
  /** Known to this process, and not owned by it when that was last looked at. */
  #unowned: ReadonlySet<ActiveJob> = new Set()
  /** Jobs that this process is claiming, and those that it lost and takes up: never both, or one would end what the other begins. */
  readonly #claiming = new Set<JobKey>()
  readonly #ending = new Set<JobKey>()
  /** Limits of which a job has ended. */
  readonly #withRoom = new Set<string>()
  #isAdmitting = false
  #isClosed = false

  constructor(options: SharedJobsKeeperOptions) {
    this.#options = options
  }

  start(): void {
    this.#unlisten = this.#options.replicas.onHint((hint) => this.#onHint(hint))
    this.#schedulePoll()
    this.#scheduleSweep()
  }

  close(): void {
    this.#isClosed = true
    this.#unlisten?.()
    this.#cancelPoll?.()
    this.#cancelSweep?.()
    this.#options.holders.close()
  }

  /** Never rejects: while the others cannot be asked, the slot waits. */
  async runClaimed(ref: JobRef): Promise<void> {
    const { logger } = this.#options
    const key = keyOf(ref)
    for (let delayMs = RETRY_MS; ; delayMs = Math.min(delayMs * 2, MAX_RETRY_MS)) {
      try {
        if (this.#claiming.has(key) || this.#ending.has(key))
          throw new StoreError(`${ref.id} is being taken up already`)
        await this.#claimAndRun(ref)
        return
      } catch (err) {
        if (this.#isClosed) return
        if (delayMs === RETRY_MS) logger.warn({ jobId: ref.id, err }, 'a job could not be claimed; it is tried again')
        await delay(delayMs)
      }
    }
  }

  async #claimAndRun(ref: JobRef): Promise<void> {
    const key = keyOf(ref)
    this.#claiming.add(key)
    let isClaiming = true
    const onClaimed = (): void => {
      if (isClaiming) this.#claiming.delete(key)
      isClaiming = false
    }
    try {
      await this.#options.starter.runClaimed(ref, onClaimed)
    } finally {
      onClaimed()
    }
  }

  /** Makes the end that is about to be written stand, unless another was asked for, which is then applied. */
  async seal(job: ActiveJob): Promise<void> {
    const { replicas, ender } = this.#options
    while (job.forfeit === undefined && !this.#isClosed) {
      try {
        const seal = await replicas.seal(job.ref)
        if (seal.kind === 'fenced') ender.forfeit(job, TAKEN_AWAY)
        if (seal.kind !== 'asked') return
        await ender.handAsked(job, seal.request)
        // A stop that was asked for is an end of the job's own, before which a cancel may still come.
        if (job.decided.status === 'cancelling') return
      } catch (error) {
        if (!(error instanceof StoreError)) throw error
        await delay(RETRY_MS)
      }
    }
  }

  noteAnswer(job: ActiveJob, result: ChangeResult): void {
    if (!result.ok) this.#forfeit(job, result.why === 'sequence' ? LOG_LOST : TAKEN_AWAY)
    else if (result.isAsked === true) void this.#look([job], 'answer')
  }

  /**
   * Where nobody else goes on with a job that was forfeited, its end is put to what the store has of it. `asked`: what it was asked
   * here, of which nobody may know. Never rejects.
   */
  async endForfeited(ref: JobRef, failure: Failure, asked?: CancellationRequest): Promise<void> {
    const { replicas, remote, active } = this.#options
    const key = keyOf(ref)
    if (this.#ending.has(key)) return
    this.#ending.add(key)
    while (this.#claiming.has(key) && !this.#isClosed) await delay(RETRY_MS)
    while (!this.#isClosed) {
      try {
        if (asked !== undefined) await remote.askAgain(ref, asked)
        // Otherwise it has come back to this process meanwhile, and runs.
        if (active.get(ref) === undefined) await this.#takeUpJob(ref, replicas.id, failure)
        break
      } catch (error) {
        this.#onFailed('the end of a job that was lost could not be written yet', error)
        await delay(MAX_RETRY_MS)
      }
    }
    this.#ending.delete(key)
  }

  /** What a limit held back may run now that this job has ended or waits again. Where nobody hears of it, a sweep finds out. */
  noteRoom(record: JobRecord): void {
    const limits = limitsOf(record, this.#options.tasks.find(record.task))
    for (const { name } of limits) this.#withRoom.add(name)
    if (limits.length > 0 && !this.#isAdmitting) void this.#admit()
  }

  /** One call at a time: those that come meanwhile are for the next. */
  async #admit(): Promise<void> {
    this.#isAdmitting = true
    while (this.#withRoom.size > 0 && !this.#isClosed) {
      const names = [...this.#withRoom]
      this.#withRoom.clear()
      await this.#trying(() => this.#options.replicas.admit(names))
    }
    this.#isAdmitting = false
  }

  loseLease(): void {
    for (const job of this.#options.active) this.#forfeit(job, LEASE_LOST)
    this.#options.holders.tellAgain()
  }

  /** One that has not begun, or whose end was refused, has nothing more to come here; another has when its function settles. */
  #forfeit(job: ActiveJob, failure: Failure): void {
    const { ender, queue, onForfeited, active, replicas } = this.#options
    const isForfeited = ender.forfeit(job, failure)
    // Who came before the job was claimed follows it through the others, of whom nothing is heard now.
    if (isForfeited && failure === LEASE_LOST) replicas.cutOff(job.ref, new StoreError(failure.message))
    const isOver = isForfeited ? queue.remove(job.key) : job.isDecided && failure !== LEASE_LOST
    if (isOver && active.get(job.ref) === job) onForfeited(job, failure)
  }

  #onHint(hint: Hint): void {
    const { active } = this.#options
    const job = active.get(hint.ref)
    switch (hint.kind) {
      case 'ask':
        if (job === undefined) return
        if (hint.request === undefined) void this.#look([job])
        else void this.#options.ender.handAsked(job, hint.request)
        return
      case 'policy':
        void this.#readPolicy(hint)
        return
      case 'lease':
        void this.#renewLease(hint)
        return
      default:
    }
  }

  async #readPolicy({ ref }: Hint): Promise<void> {
    const { store, active, holders, onPolicyChanged } = this.#options
    try {
      const job = active.getOwn(ref)
      if (job !== undefined) return await onPolicyChanged(job)
      const found = await store.lookup(ref)
      if (found.kind === 'found') holders.find(ref)?.changeGrace(graceOf(found.record.policy))
    } catch (error) {
      this.#onFailed('a changed policy could not be read', error)
    }
  }

  async #renewLease({ ref, holderId = '' }: Hint): Promise<void> {
    try {
      const found = await this.#options.store.lookup(ref)
      if (found.kind === 'found') this.#options.holders.find(ref)?.renewLease(holderId, found.record.policy.leaseMs)
    } catch (error) {
      this.#onFailed('a lease could not be renewed', error)
    }
  }

  /** Hands jobs that run here what was asked of them. */
  async #look(jobs: readonly ActiveJob[], foundBy?: FoundBy): Promise<void> {
    const { replicas, ender, onFound } = this.#options
    try {
      const asked = await replicas.asked(jobs.map(({ ref }) => ref))
      for (const [index, job] of jobs.entries()) {
        const request = asked[index]
        if (request === undefined) continue
        if (foundBy !== undefined && isNews(job, request)) onFound(foundBy)
        void ender.handAsked(job, request)
      }
    } catch (error) {
      this.#onFailed('what others asked could not be read; it is looked for again', error)
    }
  }

  #schedulePoll(): void {
    const { clock, cancelPollMs } = this.#options
    this.#cancelPoll = clock.schedule(cancelPollMs, () => void this.#poll())
  }

  async #poll(): Promise<void> {
    const { clock, replicas, active } = this.#options
    const nowMs = clock.monotonicMs()
    const isDue = replicas.unheardForMs >= UNHEARD_MS || nowMs - this.#lastPollMs >= RARE_POLL_MS
    if (isDue && active.size > 0) {
      this.#lastPollMs = nowMs
      await this.#look([...active], 'poll')
    }
    if (!this.#isClosed) this.#schedulePoll()
  }

  #scheduleSweep(): void {
    this.#cancelSweep = this.#options.clock.schedule(SWEEP_MS, () => void this.#sweepAndGoOn())
  }

  async #sweepAndGoOn(): Promise<void> {
    const { replicas } = this.#options
    this.#sweepCount += 1
    // What cannot be done for one of them does not keep the others from being done.
    await this.#trying(() => this.#takeUpDead())
    await this.#trying(() => this.#sweepWaiting())
    await this.#trying(() => replicas.admit())
    if (this.#sweepCount % SWEEPS_A_HEALING === 0) await this.#trying(() => this.#healOwned())
    if (!this.#isClosed) this.#scheduleSweep()
  }

  async #trying(step: () => Promise<void>): Promise<void> {
    try {
      await step()
    } catch (error) {
      this.#onFailed('what the others left could not be looked for; it is tried again', error)
    }
  }

  async #takeUpDead(): Promise<void> {
    for (const lost of await this.#options.replicas.takeDead()) await this.#takeUp(lost)
  }

  async #sweepWaiting(): Promise<void> {
    const { replicas, remote, unowned, store } = this.#options
    const { overdue, unqueued } = await replicas.sweep()
    await Promise.all(overdue.map((ref) => remote.request(ref, 'cancel', 'timed_out', 'it waited too long for a slot')))
    const asked = await replicas.asked(unqueued)
    for (const [index, ref] of unqueued.entries()) {
      const request = asked[index]
      if (request !== undefined) await unowned.end(ref, request)
      const found = await store.lookup(ref)
      if (found.kind !== 'found' || found.record.state.status !== 'queued') continue
      await replicas.enqueue(ref, found.record.policy.priority)
    }
  }

  async #takeUp(lost: LostReplica): Promise<void> {
    const { logger, holders, store, replicas } = this.#options
    logger.warn({ lost: lost.id, jobs: lost.owned.length, held: lost.held.length }, 'another server is gone')
    await Promise.all(lost.owned.map((ref) => this.#takeUpJob(ref, lost.id, REPLICA_LOST)))
    for (const ref of lost.held) {
      await replicas.hold(ref, lost.id)
      const found = await store.lookup(ref)
      if (found.kind === 'found') holders.takeOver(ref, found.record.policy.disconnectGraceMs, LOST_HOLDER_GRACE_MS)
    }
    await replicas.forget(lost.id)
  }

  /** What becomes of a job whose owner does not go on with it. What was asked of it before shows in how it ended. */
  async #takeUpJob(ref: JobRef, owner: string, failure: Failure): Promise<void> {
    const { clock, unowned, replicas, store, tasks } = this.#options
    const found = await store.lookup(ref)
    if (found.kind !== 'found' || isTerminal(found.record.state.status)) return
    const [asked] = await replicas.asked([ref])
    if (asked !== undefined) {
      const record = await unowned.end(ref, asked, owner)
      if (record !== undefined && isTerminal(record.state.status)) return
    } else {
      // A child runs where its parent does, or not at all.
      const isChild = found.record.parentId !== undefined
      if (!isChild && (await replicas.giveBack(ref, owner, waitsUntil(found.record)))) {
        await replicas.enqueue(ref, found.record.policy.priority)
        return
      }
      if (isRetried(found.record, tasks.find(found.record.task))) {
        const record = await unowned.move(ref, { do: 'requeue', at: clock.now(), failure }, owner)
        if (record?.state.status === 'queued') await replicas.enqueue(ref, record.policy.priority)
        return
      }
    }
    await unowned.move(ref, { do: 'interrupt', at: clock.now(), failure }, owner)
  }

  /**
   * Jobs that are this process's to the others, and of which it knows nothing: nobody else would end them. And jobs that it runs
   * and that are another's: where they say nothing, no refused write tells.
   */
  async #healOwned(): Promise<void> {
    const { replicas, active } = this.#options
    const unknown = new Set<JobKey>()
    const known = [...active].filter((job) => job.forfeit === undefined && !job.isDecided && job.record.lastSeq > 0)
    const owned = await replicas.owned()
    const ownedKeys = new Set(owned.map(keyOf))
    const unowned = new Set(known.filter(({ key }) => !ownedKeys.has(key)))
    for (const job of unowned) if (this.#unowned.has(job)) this.#forfeit(job, TAKEN_AWAY)
    this.#unowned = unowned
    for (const ref of owned) {
      if (active.get(ref) !== undefined) continue
      const key = keyOf(ref)
      // One that is being claimed is not known yet either, but it is the next time.
      if (this.#unknownOwned.has(key)) void this.endForfeited(ref, LOST_TRACK)
      else unknown.add(key)
    }
    this.#unknownOwned = unknown
  }

  #onFailed(message: string, error: unknown): void {
    if (!this.#isClosed) this.#options.logger.error({ err: messageOf(error) }, message)
  }
}

/** Whether it would move the job: what a hint told of has done so already, though it may not be written yet. */
function isNews({ decided, isDecided }: ActiveJob, { kind }: AskedRequest): boolean {
  if (isDecided || decided.status === 'cancelling') return false
  return kind === 'cancel' || decided.status !== 'stopping'
}
