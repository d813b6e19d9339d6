import { TetherError } from '../job/error.ts'
import type { JobRef } from '../job/key.ts'
import type { JobRecord } from '../job/record.ts'
import type { JobStore } from '../store/JobStore.ts'
import type { ActiveJob } from './ActiveJob.ts'
import type { ActiveJobs } from './ActiveJobs.ts'

/** Finds a job: as this process holds it while it has not ended, else its record. */
export class JobFinder {
  readonly #active: ActiveJobs
  readonly #store: JobStore

  constructor(options: { readonly active: ActiveJobs; readonly store: JobStore }) {
    this.#active = options.active
    this.#store = options.store
  }

  /** Undefined where there is no such job. One that is being recorded is there once it is. */
  async lookup(ref: JobRef): Promise<ActiveJob | JobRecord | undefined> {
    const active = this.#active.getOwn(ref)
    if (active !== undefined && (await active.isRecorded)) return active
    const found = await this.#store.lookup(ref)
    // A job that is active by the time that the store has answered is not described by the store's answer any more.
    return this.#active.getOwn(ref) ?? (found.kind === 'found' ? found.record : undefined)
  }

  /** @throws {TetherError} `TETHER_JOB_NOT_FOUND` */
  async find(ref: JobRef): Promise<ActiveJob | JobRecord> {
    const found = await this.lookup(ref)
    if (found === undefined) throw notFound(ref)
    return found
  }
}

export function notFound(ref: JobRef): TetherError {
  return new TetherError('TETHER_JOB_NOT_FOUND', `there is no job ${ref.id}`)
}
