import type { JobView } from '../../job/view.ts'
import type { ServerApi } from '../api/ServerApi.ts'
import { Changes } from '../Changes.ts'
import { messageOf } from '../messageOf.ts'
import { byAge, type JobTable } from './JobTable.ts'

export interface ListingFilter {
  /** As the server takes them: separated by commas; undefined: all. */
  readonly status: string | undefined
  readonly task: string | undefined
}

/** How far down the server's list of jobs the table is whole, for one filter. */
export class Listing {
  readonly changes = new Changes()
  readonly #api: ServerApi
  readonly #table: JobTable
  readonly #filter: ListingFilter
  readonly #signal: AbortSignal
  /** The oldest job that was listed; undefined before the first page. */
  #reach: JobView | undefined
  #cursor: string | null = null
  #isWhole = false
  #isLoading = false
  #failure: string | undefined

  constructor(api: ServerApi, table: JobTable, filter: ListingFilter, signal: AbortSignal) {
    this.#api = api
    this.#table = table
    this.#filter = filter
    this.#signal = signal
  }

  /** Whether there is nothing older. */
  get isWhole(): boolean {
    return this.#isWhole
  }

  get isLoading(): boolean {
    return this.#isLoading
  }

  get failure(): string | undefined {
    return this.#failure
  }

  /** Whether all jobs that are newer than this one are known. */
  reaches(job: JobView): boolean {
    return this.#isWhole || (this.#reach !== undefined && byAge(job, this.#reach) <= 0)
  }

  /** The next page. Does nothing while one is on its way, or where there is none. */
  more(): void {
    if (this.#isLoading || this.#isWhole || this.#signal.aborted) return
    this.#isLoading = true
    this.#failure = undefined
    this.changes.note()
    this.#load()
      .catch((error: unknown) => {
        this.#failure = messageOf(error)
      })
      .finally(() => {
        this.#isLoading = false
        this.changes.note()
      })
  }

  async #load(): Promise<void> {
    const { status, task } = this.#filter
    const page = await this.#api.jobs(
      {
        ...(status === undefined ? {} : { status }),
        ...(task === undefined ? {} : { task }),
        ...(this.#cursor === null ? {} : { cursor: this.#cursor }),
      },
      this.#signal,
    )
    this.#table.put(page.jobs)
    this.#cursor = page.nextCursor
    this.#reach = page.jobs.at(-1) ?? this.#reach
    this.#isWhole = page.nextCursor === null
  }
}
