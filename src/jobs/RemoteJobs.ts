import type { Clock } from '../clock.ts'
import { JobReader } from '../eventlog/JobReader.ts'
import type { LogPages } from '../eventlog/LogPages.ts'
import type { CancelKind, CancellationRequest, Cause } from '../job/cancellation.ts'
import { TetherError } from '../job/error.ts'
import type { GroupId } from '../job/id.ts'
import type { JobRef } from '../job/key.ts'
import type { JobRecord } from '../job/record.ts'
import { type ActiveStatus, isTerminal, STATUSES } from '../job/status.ts'
import { unreachable } from '../job/unreachable.ts'
import type { Logger } from '../logger.ts'
import type { JobStore } from '../store/JobStore.ts'
import { waitAtMost } from '../waiting.ts'
import type { AttachOptions } from './attaching.ts'
import type { EndAnswer, EndRequest } from './ending.ts'
import type { LeaveCause } from './Holder.ts'
import { notFound } from './JobFinder.ts'
import type { JobViews } from './JobViews.ts'
import type { AskedRequest, Replicas, Standing } from './Replicas.ts'
import type { SharedHolders } from './SharedHolders.ts'
import type { UnownedJobs } from './UnownedJobs.ts'

export interface RemoteJobsOptions {
  readonly clock: Clock
  readonly logger: Logger
  readonly store: JobStore
  readonly pages: LogPages
  readonly replicas: Replicas
  readonly unowned: UnownedJobs
  readonly holders: SharedHolders
  readonly views: JobViews
}

/** How long an answer waits for the process that runs the job to act on what was asked. */
const ANSWER_PATIENCE_MS = 1000

/** Members of a group that are asked at once. */
const ASKED_AT_ONCE = 100

/** Jobs that have not ended and that another process runs, or none yet, as this process meets them. */
export class RemoteJobs {
  readonly #options: RemoteJobsOptions

  constructor(options: RemoteJobsOptions) {
    this.#options = options
  }

  attach(record: JobRecord, options: AttachOptions): { readonly reader: JobReader; readonly holds: boolean } {
    const { replicas, pages } = this.#options
    const ref = refOf(record)
    const followed = replicas.follow(ref, record.lastSeq)
    const reader = new JobReader({
      ref,
      pages,
      sink: options.sink,
      named: options.named,
      log: followed.log,
      lastSeq: record.lastSeq,
      after: options.after,
      onClosed: () => followed.release(),
    })
    return { reader, holds: options.holder !== undefined && this.join(record, options.holder) }
  }

  /** Makes `holder` one of the job's. `false` where it is too late. */
  join(record: JobRecord, holder: NonNullable<AttachOptions['holder']>): boolean {
    const { status } = record.state
    if (status === 'cancelling' || isTerminal(status)) return false
    const { disconnectGraceMs, leaseMs } = record.policy
    this.#options.holders.of(refOf(record)).join(holder, { graceMs: () => disconnectGraceMs, leaseMs })
    return true
  }

  /** The job once it has ended. Rejects with the signal's reason where that fires first. */
  async outcome(record: JobRecord, signal: AbortSignal | undefined): Promise<JobRecord> {
    const ended = await this.#until(record, hasEnded, signal)
    if (ended === undefined) throw notFound(refOf(record))
    return ended
  }

  /**
   * As `JobEnder.end`. `onOwn`: this process has claimed the job meanwhile.
   * @throws {TetherError} `TETHER_JOB_NOT_FOUND`, `TETHER_JOB_FINISHED`, `TETHER_TOMBSTONES_FULL`
   */
  async end(
    ref: JobRef,
    request: EndRequest,
    asked: CancellationRequest,
    onOwn: () => Promise<EndAnswer> | undefined,
  ): Promise<EndAnswer> {
    const { clock, views, logger } = this.#options
    for (;;) {
      const standing = await this.#ask(ref, asked, request.ifUnknown === 'remember')
      logger.info(
        { jobId: ref.id, kind: asked.kind, cause: asked.cause, by: asked.by, standing: standing.kind },
        'asked',
      )
      switch (standing.kind) {
        case 'unknown':
          throw notFound(ref)
        case 'full':
          throw new TetherError('TETHER_TOMBSTONES_FULL', 'too many requests for unknown jobs are remembered already')
        case 'remembered':
          return {
            kind: 'remembered',
            id: ref.id,
            request: standing.request,
            expiresAt: standing.expiresAt,
            delivery: 'remembered',
          }
        case 'ended':
          return { kind: 'job', view: views.ofFinished(await this.#find(ref), request.kind), delivery: 'none' }
        case 'queued': {
          const ending = this.#endQueued(ref, standing.request)
          // It is asked for, and whoever finds the job ends it: a store that takes no writes now does not hold up the answer.
          if (!(await waitAtMost(ending, ANSWER_PATIENCE_MS, clock, request.signal))) {
            return { kind: 'job', view: views.of(await this.#find(ref)), delivery: 'queued' }
          }
          const record = await ending
          if (record === undefined) throw notFound(ref)
          if (!isTerminal(record.state.status)) continue
          return { kind: 'job', view: views.ofFinished(record, request.kind), delivery: 'queued' }
        }
        case 'owned':
        case 'sealed': {
          const own = onOwn()
          if (own !== undefined) return own
          if (standing.kind === 'owned') request.onAccepted?.()
          return this.#answerOfOwned(await this.#find(ref), request, standing)
        }
        default:
          return unreachable(standing)
      }
    }
  }

  /** Asks for the end of a job anew, of which nobody knows whether it was recorded. Rejects as `request` does. */
  async askAgain(ref: JobRef, asked: CancellationRequest): Promise<void> {
    const standing = await this.#ask(ref, asked, false)
    if (standing.kind === 'queued') await this.#endQueued(ref, standing.request)
  }

  /** Ends a job for a reason of the servers' own. Rejects with a `StoreError` where the others cannot be asked. */
  async request(ref: JobRef, kind: CancelKind, cause: Cause, reason: string): Promise<void> {
    const { clock, logger } = this.#options
    const asked = { kind, cause, reason, requestedAt: clock.now(), requestedAtMs: clock.monotonicMs() }
    const standing = await this.#ask(ref, asked, false)
    logger.info({ jobId: ref.id, kind, cause, standing: standing.kind }, 'asked')
    if (standing.kind === 'queued') await this.#endQueued(ref, standing.request)
  }

  /** The job's last holder anywhere has left. */
  async applyDisconnectPolicy(ref: JobRef, cause: LeaveCause): Promise<void> {
    const found = await this.#options.store.lookup(ref)
    if (found.kind !== 'found') return
    const { policy, state } = found.record
    const { onDisconnect } = policy
    if (onDisconnect === 'continue') return
    const isAsked = state.status === 'queued' || state.status === 'running'
    if (isAsked || (state.status === 'stopping' && onDisconnect === 'cancel')) {
      await this.request(ref, onDisconnect, cause, 'its last holder left')
    }
  }

  /**
   * Asks every member of a group that has not ended. `endOwn` ends one that is this process's now, which it may have come to be
   * at any time; undefined where it is not. `onAsked` is called with each of the others that was asked. Settles with how many have
   * been asked and not ended.
   */
  async endGroup(
    tenant: string,
    group: GroupId,
    asked: CancellationRequest,
    endOwn: (ref: JobRef) => Promise<boolean> | undefined,
    onAsked: (ref: JobRef) => void = () => undefined,
  ): Promise<number> {
    const { store } = this.#options
    let accepted = 0
    let place: { createdAt: number; id: JobRecord['id'] } | undefined
    for (;;) {
      const page = await store.list({
        tenant,
        group,
        statuses: ACTIVE_STATUSES,
        limit: ASKED_AT_ONCE,
        ...(place === undefined ? {} : { before: place }),
      })
      const members = page.map(refOf)
      const standings = await Promise.all(members.map((ref) => endOwn(ref) ?? this.#endMember(ref, asked, onAsked)))
      accepted += standings.filter((isAccepted) => isAccepted).length
      const last = page.at(-1)
      if (last === undefined || page.length < ASKED_AT_ONCE) return accepted
      place = { createdAt: last.createdAt, id: last.id }
    }
  }

  async #endMember(ref: JobRef, asked: CancellationRequest, onAsked: (ref: JobRef) => void): Promise<boolean> {
    const standing = await this.#ask(ref, asked, false)
    if (standing.kind === 'owned' || standing.kind === 'queued') onAsked(ref)
    if (standing.kind !== 'queued') return standing.kind === 'owned' || standing.kind === 'sealed'
    const ending = this.#endQueued(ref, standing.request)
    if (!(await waitAtMost(ending, ANSWER_PATIENCE_MS, this.#options.clock))) return true
    const record = await ending
    return record !== undefined && !isTerminal(record.state.status)
  }

  #ask(ref: JobRef, asked: CancellationRequest, remember: boolean): Promise<Standing> {
    const { requestedAtMs: _, ...told } = asked
    return this.#options.replicas.ask(ref, told, { remember })
  }

  async #endQueued(ref: JobRef, request: AskedRequest): Promise<JobRecord | undefined> {
    const record = await this.#options.unowned.end(ref, request)
    void this.#options.replicas.dequeue(ref)
    return record
  }

  async #answerOfOwned(record: JobRecord, request: EndRequest, standing: Standing): Promise<EndAnswer> {
    const { clock, views } = this.#options
    const isDone = standing.kind === 'sealed' ? hasEnded : request.kind === 'stop' ? hasStopped : hasBeenCancelled
    const over = new AbortController()
    const answered = this.#until(record, isDone, over.signal)
    await waitAtMost(answered.catch(nothing), ANSWER_PATIENCE_MS, clock, request.signal)
    if (request.waitMs > 0) {
      const ended = this.#until(record, hasEnded, over.signal)
      await waitAtMost(ended.catch(nothing), request.waitMs, clock, request.signal)
    }
    over.abort()
    const now = await this.#find(refOf(record))
    const view = isTerminal(now.state.status) ? views.ofFinished(now, request.kind) : views.of(now)
    return { kind: 'job', view, delivery: 'remote' }
  }

  /** The job as soon as `isDone` says so of it; undefined where it is gone. Rejects with the signal's reason where that fires first. */
  async #until(
    record: JobRecord,
    isDone: (record: JobRecord) => boolean,
    signal: AbortSignal | undefined,
  ): Promise<JobRecord | undefined> {
    const { replicas, store } = this.#options
    const ref = refOf(record)
    const followed = replicas.follow(ref, record.lastSeq)
    let changed = newChange()
    let lost: Error | undefined
    const unsubscribe = followed.log.subscribe({
      onBatch: ({ isOfStatus }) => {
        if (isOfStatus) changed.resolve()
      },
      onLost: (error) => {
        lost = error
        changed.reject(error)
      },
    })
    const onAbort = (): void => changed.reject(signal?.reason)
    signal?.addEventListener('abort', onAbort, { once: true })
    try {
      for (;;) {
        signal?.throwIfAborted()
        const found = await store.lookup(ref)
        if (found.kind !== 'found') return undefined
        if (isDone(found.record)) return found.record
        if (lost !== undefined) throw lost
        await changed.promise
        changed = newChange()
      }
    } finally {
      signal?.removeEventListener('abort', onAbort)
      unsubscribe()
      followed.release()
    }
  }

  async #find(ref: JobRef): Promise<JobRecord> {
    const found = await this.#options.store.lookup(ref)
    if (found.kind !== 'found') throw notFound(ref)
    return found.record
  }
}

const ACTIVE_STATUSES = STATUSES.filter((status): status is ActiveStatus => !isTerminal(status))

function refOf({ tenant, id }: JobRecord): JobRef {
  return { tenant, id }
}

function hasEnded({ state }: JobRecord): boolean {
  return isTerminal(state.status)
}

function hasStopped({ state }: JobRecord): boolean {
  return state.status !== 'queued' && state.status !== 'running'
}

function hasBeenCancelled(record: JobRecord): boolean {
  return hasStopped(record) && record.state.status !== 'stopping'
}

/** It may be rejected while nobody waits for it, as while the store is asked. */
function newChange(): PromiseWithResolvers<void> {
  const change = Promise.withResolvers<void>()
  change.promise.catch(nothing)
  return change
}

function nothing(): undefined {
  return undefined
}
