import type { RedisJobs } from '../../src/cluster/RedisJobStore.ts'
import type { RememberOptions, SharedJobs } from '../../src/cluster/SharedJobs.ts'
import type { CancelKind, StoredRequest } from '../../src/job/cancellation.ts'
import type { JobId } from '../../src/job/id.ts'
import type { JobRef } from '../../src/job/key.ts'
import type { JobRecord } from '../../src/job/record.ts'
import { type ActiveStatus, isTerminal, type JobStatus } from '../../src/job/status.ts'
import type { ChangeResult, JobStore, StoreChange } from '../../src/store/JobStore.ts'
import { append, refTo, stateOf, statusBatch } from '../store/records.ts'
import { LEASE_MS, requestFor } from './replicas.ts'

/** What the replicas were told, by which the ends of the jobs are judged. */
export class Told {
  /** Jobs whose cancel was accepted. */
  readonly cancelled = new Set<JobId>()
  /** Jobs of which it was said that their own outcome stands. */
  readonly sealed = new Set<JobId>()
  /** What a job had ended as when somebody looked. */
  readonly ended = new Map<JobId, JobStatus>()
  /** How many of the writes of each job's end were taken. */
  readonly ends = new Map<JobId, number>()
  /** Jobs whose owner died. */
  readonly orphaned = new Set<JobId>()
}

interface Run {
  readonly ref: JobRef
  status: ActiveStatus
  lastSeq: number
  isSealed: boolean
}

const REMEMBER: RememberOptions = { client: 'anna', keepMs: 600_000, maxInAll: 1000, maxOfClient: 1000 }

/** A replica that keeps to the rules: it runs what it claims, follows what is asked, and seals before an end of the job's own. */
export class RandomReplica {
  readonly store: JobStore
  readonly shared: SharedJobs
  readonly #told: Told
  readonly #runs = new Map<JobId, Run>()

  constructor({ store, shared }: RedisJobs, told: Told) {
    this.store = store
    this.shared = shared
    this.#told = told
  }

  async create(record: JobRecord): Promise<void> {
    const events = statusBatch(1, 'queued')
    const result = await this.#commit({ kind: 'create', record, events, owner: '' })
    if (result.ok && result.isAsked) await this.#endWaiting(record)
  }

  async claim(ref: JobRef): Promise<void> {
    if (this.#runs.has(ref.id)) return
    const claim = await this.shared.claim(ref)
    if (claim.kind === 'asked') await this.#endWaiting(ref)
    if (claim.kind !== 'claimed') return
    const run: Run = { ref: refTo(ref), status: 'queued', lastSeq: claim.record.lastSeq, isSealed: false }
    this.#runs.set(ref.id, run)
    await this.#move(run, 'running')
  }

  async emit(ref: JobRef): Promise<void> {
    const run = this.#runs.get(ref.id)
    if (run === undefined || run.status === 'queued' || run.status === 'cancelling') return
    const result = await this.#commit(append(ref, run.lastSeq + 1))
    if (!result.ok) this.#runs.delete(ref.id)
    else run.lastSeq += 1
    if (result.ok && result.isAsked) await this.follow(ref)
  }

  /** Puts a job back into the queue. */
  async requeue(ref: JobRef): Promise<void> {
    const run = this.#runs.get(ref.id)
    if (run?.status !== 'running' || run.isSealed) return
    await this.#move(run, 'queued')
    this.#runs.delete(ref.id)
  }

  async follow(ref: JobRef): Promise<void> {
    const run = this.#runs.get(ref.id)
    const request = run && (await this.shared.asked(ref))
    if (run !== undefined && request !== undefined) await this.#follow(run, request)
  }

  async seal(ref: JobRef): Promise<void> {
    const run = this.#runs.get(ref.id)
    if (run === undefined || run.status === 'queued' || run.status === 'cancelling') return
    const seal = await this.shared.seal(ref)
    if (seal.kind === 'fenced') this.#runs.delete(ref.id)
    else if (seal.kind === 'asked') await this.#follow(run, seal.request)
    else run.isSealed = true
  }

  /** Ends a job: by itself, or as it was asked to. */
  async finish(ref: JobRef, outcome: 'succeeded' | 'failed'): Promise<void> {
    await this.seal(ref)
    const run = this.#runs.get(ref.id)
    if (run?.status === 'cancelling') await this.#move(run, 'cancelled')
    else if (run?.isSealed) await this.#move(run, run.status === 'stopping' ? 'stopped' : outcome)
  }

  async ask(ref: JobRef, kind: CancelKind): Promise<void> {
    const asked = await this.shared.askOrRemember(ref, requestFor(kind, this.shared.replica), REMEMBER)
    switch (asked.kind) {
      case 'queued':
      case 'owned':
      case 'remembered':
        if (kind === 'cancel') this.#told.cancelled.add(ref.id)
        if (asked.kind === 'queued') await this.#endWaiting(ref)
        return
      case 'sealed':
        this.#told.sealed.add(ref.id)
        return
      case 'ended':
        await this.#noteEnd(ref)
        return
      default:
    }
  }

  /** Clears up after whoever is dead. */
  async takeDead(): Promise<void> {
    for (const id of await this.shared.takeDead(0)) {
      for (const ref of await this.shared.ownedBy(id)) await this.#interrupt(ref, id)
      for (const ref of await this.shared.heldBy(id)) await this.shared.hold(ref, id)
      await this.shared.forgetReplica(id)
    }
  }

  async hold(ref: JobRef): Promise<void> {
    await this.shared.hold(ref)
  }

  async leave(ref: JobRef): Promise<void> {
    const record = await this.shared.leave(ref)
    if (record === undefined) return
    await this.ask(ref, 'cancel')
    await this.shared.letGo(ref)
  }

  async beat(): Promise<void> {
    await this.shared.beat(LEASE_MS)
  }

  /** It counts as dead, and knows nothing of it. */
  async lapse(): Promise<void> {
    for (const id of this.#runs.keys()) this.#told.orphaned.add(id)
    await this.shared.beat(0)
  }

  async #interrupt(ref: JobRef, owner: string): Promise<void> {
    for (;;) {
      const record = await this.#lookup(ref)
      if (record === undefined || isTerminal(record.state.status)) return
      this.#told.orphaned.add(ref.id)
      const change = changeTo(ref, record.state.status, 'interrupted', record.lastSeq + 1)
      const result = await this.#commit({ ...change, owner })
      if (result.ok || result.why === 'fenced') return
    }
  }

  /** Ends a job that waits, as was asked; whoever else does that, or takes it, may be faster. */
  async #endWaiting(ref: JobRef): Promise<void> {
    for (;;) {
      const [record, request] = [await this.#lookup(ref), await this.shared.asked(ref)]
      if (record?.state.status !== 'queued' || request === undefined) return
      const end = request.kind === 'cancel' ? 'cancelled' : 'stopped'
      const result = await this.#commit(changeTo(ref, 'queued', end, record.lastSeq + 1))
      if (result.ok || result.why === 'fenced') return
    }
  }

  async #follow(run: Run, { kind }: StoredRequest): Promise<void> {
    if (run.status === 'queued') await this.#move(run, kind === 'cancel' ? 'cancelled' : 'stopped')
    else if (run.status !== 'cancelling') await this.#move(run, kind === 'cancel' ? 'cancelling' : 'stopping')
  }

  async #move(run: Run, to: JobStatus): Promise<void> {
    const result = await this.#commit(changeTo(run.ref, run.status, to, run.lastSeq + 1))
    if (!result.ok || isTerminal(to)) {
      this.#runs.delete(run.ref.id)
      return
    }
    run.status = to
    run.lastSeq += 1
    if (result.isAsked) await this.follow(run.ref)
  }

  async #commit(change: StoreChange): Promise<ChangeResult> {
    const [result] = await this.store.commit([change])
    if (result === undefined) throw new Error('a commit must have a result for each change')
    if (result.ok && change.kind === 'move' && isTerminal(change.state.status)) {
      this.#told.ends.set(change.ref.id, (this.#told.ends.get(change.ref.id) ?? 0) + 1)
    }
    return result
  }

  async #noteEnd(ref: JobRef): Promise<void> {
    const record = await this.#lookup(ref)
    if (record !== undefined) this.#told.ended.set(ref.id, record.state.status)
  }

  async #lookup(ref: JobRef): Promise<JobRecord | undefined> {
    const found = await this.store.lookup(ref)
    return found.kind === 'found' ? found.record : undefined
  }
}

function changeTo(ref: JobRef, from: ActiveStatus, to: JobStatus, seq: number): StoreChange & { kind: 'move' } {
  return { kind: 'move', ref: refTo(ref), from, state: stateOf(to), events: statusBatch(seq, to) }
}
