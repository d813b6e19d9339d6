import { type JobKey, type JobRef, keyOf } from '../job/key.ts'
import type { ActiveJob } from './ActiveJob.ts'

/** The jobs that have not ended, as this process holds them, by all that they are asked for by. */
export class ActiveJobs implements Iterable<ActiveJob> {
  readonly #byKey = new Map<JobKey, ActiveJob>()
  readonly #byIdempotencyKey = new Map<string, ActiveJob>()
  readonly #byGroup = new Map<string, Set<ActiveJob>>()

  get size(): number {
    return this.#byKey.size
  }

  [Symbol.iterator](): IterableIterator<ActiveJob> {
    return this.#byKey.values()
  }

  get(ref: JobRef): ActiveJob | undefined {
    return this.#byKey.get(keyOf(ref))
  }

  /** Undefined also where the job is not this process's any more, though its function may not have settled yet. */
  getOwn(ref: JobRef): ActiveJob | undefined {
    const job = this.get(ref)
    return job?.forfeit === undefined ? job : undefined
  }

  withIdempotencyKey(tenant: string, key: string): ActiveJob | undefined {
    return this.#byIdempotencyKey.get(nameOf(tenant, key))
  }

  /** Those of this process that are in the group now: a copy. */
  inGroup(tenant: string, group: string): readonly ActiveJob[] {
    return [...(this.#byGroup.get(nameOf(tenant, group)) ?? [])].filter(({ forfeit }) => forfeit === undefined)
  }

  add(job: ActiveJob): void {
    const { tenant, idempotencyKey, group } = job.record
    this.#byKey.set(job.key, job)
    if (idempotencyKey !== undefined) this.#byIdempotencyKey.set(nameOf(tenant, idempotencyKey), job)
    if (group === undefined) return
    const name = nameOf(tenant, group)
    const members = this.#byGroup.get(name)
    if (members === undefined) this.#byGroup.set(name, new Set([job]))
    else members.add(job)
  }

  remove(job: ActiveJob): void {
    const { tenant, idempotencyKey, group } = job.record
    if (this.#byKey.get(job.key) !== job) return
    this.#byKey.delete(job.key)
    if (idempotencyKey !== undefined) this.#byIdempotencyKey.delete(nameOf(tenant, idempotencyKey))
    if (group === undefined) return
    const name = nameOf(tenant, group)
    const members = this.#byGroup.get(name)
    members?.delete(job)
    if (members?.size === 0) this.#byGroup.delete(name)
  }
}

function nameOf(tenant: string, name: string): string {
  return `${tenant}/${name}`
}
