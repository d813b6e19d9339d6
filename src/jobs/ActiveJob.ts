import { strongerOf } from '../cancellation/PendingCancellations.ts'
import type { Clock } from '../clock.ts'
import type { JobLog } from '../eventlog/JobLog.ts'
import type { RegisteredTask } from '../execution/TaskRegistry.ts'
import type { CancellationRequest } from '../job/cancellation.ts'
import type { StatusEvent } from '../job/event.ts'
import type { Failure } from '../job/failure.ts'
import { type JobKey, type JobRef, keyOf } from '../job/key.ts'
import type { JobPolicy } from '../job/policy.ts'
import type { JobRecord } from '../job/record.ts'
import type { JobState } from '../job/state.ts'
import { isTerminal } from '../job/status.ts'
import { decide, type JobCommand } from '../job/transition.ts'
import { StoreError } from '../store/JobStore.ts'
import type { LeaveCause } from './Holder.ts'
import { JobHolders } from './JobHolders.ts'
import { JobTimers } from './JobTimers.ts'

/** What became of a command. `written` settles with whether the store took it. */
export type Applied =
  | { readonly kind: 'moved'; readonly written: Promise<boolean> }
  | { readonly kind: 'unchanged' }
  | { readonly kind: 'refused' }

export interface ActiveJobOptions {
  readonly clock: Clock
  readonly record: JobRecord
  readonly log: JobLog
  readonly task: RegisteredTask | undefined
  /** Settles with whether the store took the job's record. */
  readonly isRecorded: Promise<boolean>
  readonly onLastHolderLeft: (job: ActiveJob, cause: LeaveCause) => void
  /** Who holds it, where that was known before the job came to this process. */
  readonly holders?: JobHolders
  /** A change of status is in the log now. */
  readonly onWritten: (job: ActiveJob, event: StatusEvent, seq: number) => void
}

/**
 * A job that has not ended, as this process holds it. `decided` is where the job stands by what was decided here; each decision
 * is handed to the store in order, and `record` follows once it is written. What clients are told comes from `record`; what
 * happens next comes from `decided`, so that a store that is slow or away never delays an end.
 */
export class ActiveJob {
  readonly key: JobKey
  readonly ref: JobRef
  readonly log: JobLog
  readonly task: RegisteredTask | undefined
  readonly isRecorded: Promise<boolean>
  readonly holders: JobHolders
  readonly timers: JobTimers
  /** Children that are alive, how far from the top this job is, and what the whole tree has. Written by `ChildJobs` alone. */
  aliveChildren = 0
  depth = 0
  tree = { alive: 1 }
  #decided: JobState
  #record: JobRecord
  readonly #onWritten: ActiveJobOptions['onWritten']
  #storeFailure: Failure | undefined
  #forfeit: Failure | undefined
  #writtenPolicy: JobPolicy
  #askedUnrecorded: CancellationRequest | undefined
  readonly #concluded = Promise.withResolvers<JobState>()
  #ended: PromiseWithResolvers<JobRecord> | undefined
  #hasEnded = false
  #gone: PromiseWithResolvers<void> | undefined
  #isDiscarded = false

  constructor(options: ActiveJobOptions) {
    const { clock, record, log } = options
    this.ref = { tenant: record.tenant, id: record.id }
    this.key = keyOf(this.ref)
    this.log = log
    this.task = options.task
    this.isRecorded = options.isRecorded
    this.holders = options.holders ?? new JobHolders(clock, (cause) => options.onLastHolderLeft(this, cause))
    this.timers = new JobTimers(clock)
    this.#record = record
    this.#decided = record.state
    this.#writtenPolicy = record.policy
    this.#onWritten = options.onWritten
  }

  /** Where the job stands by what was decided. */
  get decided(): JobState {
    return this.#decided
  }

  /** The job as the store has it. */
  get record(): JobRecord {
    return { ...this.#record, lastSeq: this.log.publishedSeq }
  }

  get policy(): JobPolicy {
    return this.#record.policy
  }

  get isDecided(): boolean {
    return isTerminal(this.#decided.status)
  }

  /** Whether the terminal event is in the log. */
  get hasEnded(): boolean {
    return this.#hasEnded
  }

  /** Settles with how it ended as soon as that is decided, whether or not it is written. */
  get concluded(): Promise<JobState> {
    return this.#concluded.promise
  }

  /** Settles when the terminal event is in the log. */
  get ended(): Promise<JobRecord> {
    if (this.#hasEnded) return Promise.resolve(this.record)
    return (this.#ended ??= Promise.withResolvers<JobRecord>()).promise
  }

  /** As `ended`. Rejects with the reason where what follows in the log cannot be written: then nobody knows when it ends. */
  async untilEnded(): Promise<JobRecord> {
    if (this.log.lost !== undefined) throw this.log.lost
    const lost = Promise.withResolvers<never>()
    const unsubscribe = this.log.subscribe({ onBatch: () => undefined, onLost: lost.reject })
    try {
      return await Promise.race([this.ended, lost.promise])
    } finally {
      unsubscribe()
    }
  }

  /** What the job fails with, because its log could not be written, as soon as its function has settled. */
  get storeFailure(): Failure | undefined {
    return this.#storeFailure
  }

  /** Its log cannot be written: output is refused, and the job ends `failed`. `false` where an end was decided before. */
  failForStore(failure: Failure): boolean {
    if (this.#storeFailure !== undefined || this.isDecided || this.#decided.status === 'cancelling') return false
    this.#storeFailure = failure
    this.log.fence()
    return true
  }

  /** Why this process may not go on with the job, whose end is then for others to write, or for this process if nobody has. */
  get forfeit(): Failure | undefined {
    return this.#forfeit
  }

  /** It is no longer this process's: its output is refused, and whoever follows it here is cut off. `false` where an end was decided before. */
  forfeitFor(failure: Failure): boolean {
    if (this.#forfeit !== undefined || this.isDecided) return false
    this.#forfeit = failure
    this.log.fence()
    this.log.lose(new StoreError(`${this.ref.id} is not this process's any more: ${failure.message}`))
    return true
  }

  /** What it was asked to end by while nobody knew yet whether it would be recorded; the first of each kind, a cancel above all. */
  get askedUnrecorded(): CancellationRequest | undefined {
    return this.#askedUnrecorded
  }

  noteAskedUnrecorded(request: CancellationRequest): void {
    this.#askedUnrecorded = strongerOf(this.#askedUnrecorded, request)
  }

  /**
   * Nothing of it goes on here, and whoever follows it is told: it was never recorded, or `goesOn` without this process, and with
   * the holders that it has here.
   */
  discard(error: Error, goesOn = false): void {
    this.log.fence()
    this.log.lose(error)
    this.timers.close()
    if (!goesOn) this.holders.close()
    this.#isDiscarded = true
    this.#gone?.resolve()
  }

  /** Settles when nothing more comes of it in this process: it has ended, or was discarded. */
  get gone(): Promise<void> {
    if (this.#hasEnded || this.#isDiscarded) return Promise.resolve()
    return (this.#gone ??= Promise.withResolvers<void>()).promise
  }

  /** Decides `command` and hands the change to the store; output is fenced from a cancel or an end on. */
  apply(command: JobCommand): Applied {
    const { status: from } = this.#decided
    const decision = decide(this.#decided, command)
    if (decision.kind !== 'moved') return decision
    if (isTerminal(from)) return { kind: 'refused' }
    const { state, event } = decision
    this.#decided = state
    if (isTerminal(state.status)) this.#concluded.resolve(state)
    if (state.status === 'cancelling' || isTerminal(state.status)) this.log.fence()
    // Only a job that waits needs the secrets in its record; a task that is gone cannot say which of its fields were secret.
    const input = from === 'queued' ? (this.task?.redact(this.#record.input) ?? null) : undefined
    const written = this.log.move(from, state, event, input)
    const seq = this.log.lastSeq
    return {
      kind: 'moved',
      written: written.then((isWritten) => {
        if (isWritten) {
          this.#record = { ...this.#record, state, ...(input === undefined ? {} : { input }) }
          this.#onWritten(this, event, seq)
          if (isTerminal(state.status)) this.#end()
        }
        return isWritten
      }),
    }
  }

  /** The policy in force from here on, which may not be written yet. */
  setPolicy(policy: JobPolicy): void {
    this.#record = { ...this.#record, policy }
  }

  get writtenPolicy(): JobPolicy {
    return this.#writtenPolicy
  }

  notePolicyWritten(policy: JobPolicy): void {
    this.#writtenPolicy = policy
  }

  #end(): void {
    this.#hasEnded = true
    this.timers.close()
    this.holders.close()
    this.#ended?.resolve(this.record)
    this.#gone?.resolve()
  }
}
