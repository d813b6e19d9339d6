import type { JobView } from '../../job/view.ts'
import { Changes } from '../Changes.ts'

/** A page is no archive: past so many, the oldest that have ended are let go of. */
const MAX_JOBS = 20_000

/** The jobs that the page knows, each as it last heard of it. */
export class JobTable {
  readonly changes = new Changes()
  readonly #jobs = new Map<string, JobView>()
  #newestFirst: JobView[] | undefined

  get(id: string): JobView | undefined {
    return this.#jobs.get(id)
  }

  /** By the time of their making, then by id, as the server lists them. */
  get newestFirst(): readonly JobView[] {
    return (this.#newestFirst ??= [...this.#jobs.values()].sort(byAge))
  }

  /** The oldest of those that have not ended. */
  get oldestActive(): JobView | undefined {
    return this.newestFirst.findLast(({ terminal }) => !terminal)
  }

  childrenOf(id: string): readonly JobView[] {
    return this.newestFirst.filter(({ parentId }) => parentId === id).toReversed()
  }

  /** An answer to a list may be older than what the feed has said already: the later one stays. */
  put(jobs: readonly JobView[]): void {
    for (const job of jobs) {
      const known = this.#jobs.get(job.id)
      if (known !== undefined && known.lastSeq > job.lastSeq) continue
      this.#jobs.set(job.id, job)
    }
    this.#newestFirst = undefined
    if (this.#jobs.size > MAX_JOBS) this.#drop()
    this.changes.note()
  }

  remove(id: string): void {
    if (!this.#jobs.delete(id)) return
    this.#newestFirst = undefined
    this.changes.note()
  }

  #drop(): void {
    const oldest = this.newestFirst.filter(({ terminal }) => terminal).slice(-Math.ceil(MAX_JOBS / 10))
    for (const { id } of oldest) this.#jobs.delete(id)
    this.#newestFirst = undefined
  }
}

/** Whether `a` comes before `b` in a list: it is newer. */
export function byAge(a: Pick<JobView, 'createdAt' | 'id'>, b: Pick<JobView, 'createdAt' | 'id'>): number {
  if (a.createdAt !== b.createdAt) return a.createdAt < b.createdAt ? 1 : -1
  if (a.id === b.id) return 0
  return a.id < b.id ? 1 : -1
}
