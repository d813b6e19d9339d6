import type { Clock } from '../clock.ts'
import { type JobKey, type JobRef, keyOf } from '../job/key.ts'
import { graceOf, type JobPolicy } from '../job/policy.ts'
import { StoreError } from '../store/JobStore.ts'
import type { LeaveCause } from './Holder.ts'
import { JobHolders } from './JobHolders.ts'
import type { Replicas } from './Replicas.ts'

/** Where the others cannot be asked, they are asked again after this. */
const RETRY_MS = 250

interface HeldJob {
  readonly ref: JobRef
  readonly holders: JobHolders
  /** Whether this process has a holder, and whether the others know. */
  isPresent: boolean
  isTold: boolean
  /** Why the last one left: whether it was the last of all is not known yet. */
  leftBy: LeaveCause | undefined
  isTelling: boolean
}

export interface SharedHoldersOptions {
  readonly clock: Clock
  readonly replicas: Replicas
  /** Whether this process runs the job: then a last holder that leaves while the others cannot be asked is the last of all. */
  readonly isOwn: (ref: JobRef) => boolean
  /** The policy of a job, of which `recorded` is in Redis: a change that was made here may not be there yet. */
  readonly policyOf: (ref: JobRef, recorded: JobPolicy) => JobPolicy
  /** Rejects with a `StoreError` where the others cannot be asked. */
  readonly onLastLeft: (ref: JobRef, cause: LeaveCause) => Promise<void> | undefined
}

/**
 * Who holds jobs through this process, whichever process runs them. Each process waits out the grace of its own last holder; at
 * its end the others are asked whether they have one, and where none has, the last one has left.
 */
export class SharedHolders {
  readonly #options: SharedHoldersOptions
  readonly #held = new Map<JobKey, HeldJob>()
  /** Of what the others know: what they were told before is nothing to them any more. */
  #generation = 0
  #isClosed = false

  constructor(options: SharedHoldersOptions) {
    this.#options = options
  }

  /** The holders of a job, of which there may be none. */
  of(ref: JobRef): JobHolders {
    return this.#of(ref).holders
  }

  /** Undefined where the job has none here. */
  find(ref: JobRef): JobHolders | undefined {
    return this.#held.get(keyOf(ref))?.holders
  }

  /** Whoever held the job through a process that is gone has as long as the grace, or 10 s, to come to this one. */
  takeOver(ref: JobRef, graceMs: number, atLeastMs: number): void {
    const job = this.#of(ref)
    this.#note(ref, job, true)
    if (job.holders.count === 0) job.holders.expect({ graceMs, atLeastMs }, () => undefined)
  }

  /** The others may have taken this process for gone, and its holders over: they are told of them anew. */
  tellAgain(): void {
    this.#generation += 1
    for (const job of this.#held.values()) {
      if (!job.isPresent) continue
      job.isTold = false
      if (!job.isTelling) void this.#tell(job.ref, job)
    }
  }

  /** Forgets the job where nobody holds it here and it does not run here. */
  release(ref: JobRef): void {
    const job = this.#held.get(keyOf(ref))
    if (job === undefined || job.isTelling || job.isPresent || job.holders.count > 0) return
    if (!this.#options.isOwn(ref)) this.#held.delete(keyOf(ref))
  }

  /** Nothing is told any more. */
  close(): void {
    this.#isClosed = true
  }

  #of(ref: JobRef): HeldJob {
    const known = this.#held.get(keyOf(ref))
    if (known !== undefined) return known
    const holders = new JobHolders(
      this.#options.clock,
      (cause) => this.#note(ref, job, false, cause),
      (isPresent) => this.#note(ref, job, isPresent),
    )
    const job: HeldJob = { ref, holders, isPresent: false, isTold: false, leftBy: undefined, isTelling: false }
    this.#held.set(keyOf(ref), job)
    return job
  }

  #note(ref: JobRef, job: HeldJob, isPresent: boolean, leftBy?: LeaveCause): void {
    job.isPresent = isPresent
    job.leftBy = leftBy
    if (!job.isTelling) void this.#tell(ref, job)
  }

  /** One call at a time, so that the last word that others have is the last that was said here. */
  async #tell(ref: JobRef, job: HeldJob): Promise<void> {
    job.isTelling = true
    while ((job.isTold !== job.isPresent || job.leftBy !== undefined) && !this.#isClosed) {
      const { isPresent, leftBy } = job
      const generation = this.#generation
      try {
        const { replicas, policyOf, onLastLeft } = this.#options
        if (isPresent) await replicas.hold(ref)
        const recorded = isPresent ? undefined : await replicas.leave(ref)
        job.isTold = isPresent && generation === this.#generation
        if (job.isPresent !== isPresent) continue
        if (recorded !== undefined && leftBy !== undefined) {
          // Another process may have changed it, and the hint that says so may still be on its way.
          const graceMs = graceOf(policyOf(ref, recorded))
          if (graceMs !== undefined && job.holders.prolongGrace(leftBy, graceMs)) {
            this.#note(ref, job, true)
            continue
          }
          await onLastLeft(ref, leftBy)
        }
        if (recorded !== undefined) await replicas.letGo(ref)
        if (job.leftBy === leftBy) job.leftBy = undefined
      } catch (error) {
        if (!(error instanceof StoreError)) throw error
        if (leftBy !== undefined && !job.isPresent && this.#options.isOwn(ref))
          void this.#options.onLastLeft(ref, leftBy)
        await new Promise<void>((resolve) => void this.#options.clock.schedule(RETRY_MS, resolve))
      }
    }
    job.isTelling = false
    this.release(ref)
  }
}
