import { Backoff } from '../../client/Backoff.ts'
import { isTemporary, TetherApiError } from '../../client/error.ts'
import type { JobEvent } from '../../job/event.ts'
import type { JobView } from '../../job/view.ts'
import { followStream } from '../api/followStream.ts'
import type { ServerApi } from '../api/ServerApi.ts'
import { comeBack } from '../api/visibility.ts'
import { Changes } from '../Changes.ts'
import { byAge, type JobTable } from './JobTable.ts'

export type Connection = 'connecting' | 'live' | 'reconnecting' | 'paused' | 'refused'

/**
 * Keeps the table up to date. The feed has no replay: each time it opens, what may have been missed is listed, down to the newest
 * job that was known and the oldest one that had not ended. What was known as far down as that and is not listed is gone.
 */
export class JobFeed {
  readonly changes = new Changes()
  readonly #api: ServerApi
  readonly #table: JobTable
  #connection: Connection = 'connecting'
  #catchingUp = new AbortController()

  constructor({ api, table }: { readonly api: ServerApi; readonly table: JobTable }) {
    this.#api = api
    this.#table = table
  }

  get connection(): Connection {
    return this.#connection
  }

  /** Until the signal fires. */
  start(signal: AbortSignal): void {
    followStream({
      ask: (life) => this.#api.feed(life),
      onOpen: () => this.#catchUp(signal),
      onEvents: (events) => {
        this.#table.put(events.flatMap(jobOf))
        return false
      },
      onLost: () => this.#lose('reconnecting'),
      onPaused: () => this.#lose('paused'),
      watched: 'feed',
      signal,
    }).catch((error: unknown) => {
      // Refused, and not for now: a token is asked for, which the page shows, or a quota.
      if (!(error instanceof TetherApiError)) throw error
      this.#set('refused')
    })
  }

  #lose(connection: Connection): void {
    this.#catchingUp.abort()
    this.#set(connection)
  }

  #catchUp(signal: AbortSignal): void {
    this.#catchingUp.abort()
    this.#catchingUp = new AbortController()
    const life = AbortSignal.any([signal, this.#catchingUp.signal])
    void this.#listUntilDone(life)
  }

  /** The feed breaks too where the server is gone, and then all begins anew; where a list alone is refused, it does not. */
  async #listUntilDone(life: AbortSignal): Promise<void> {
    const backoff = new Backoff()
    while (!life.aborted) {
      try {
        await this.#list(life)
        this.#set('live')
        return
      } catch (error) {
        if (life.aborted) return
        if (!isTemporary(error)) {
          this.#set('refused')
          return
        }
        this.#set('reconnecting')
        await comeBack(backoff.nextMs(), life)
      }
    }
  }

  async #list(signal: AbortSignal): Promise<void> {
    const reach = [this.#table.newestFirst[0], this.#table.oldestActive].filter((job) => job !== undefined)
    const end = reach.toSorted(byAge).at(-1)
    // Only these: what comes by the feed meanwhile may be too new for the list.
    const missing = new Map(this.#table.newestFirst.map((job) => [job.id, job]))
    let oldest: JobView | undefined
    let cursor: string | null = null
    do {
      const page = await this.#api.jobs(cursor === null ? {} : { cursor }, signal)
      this.#table.put(page.jobs)
      for (const { id } of page.jobs) missing.delete(id)
      const last = page.jobs.at(-1)
      oldest = page.nextCursor === null ? undefined : last
      cursor = end === undefined || last === undefined || byAge(last, end) >= 0 ? null : page.nextCursor
    } while (cursor !== null)
    for (const job of missing.values()) {
      if (oldest === undefined || byAge(job, oldest) < 0) this.#table.remove(job.id)
    }
  }

  #set(connection: Connection): void {
    if (this.#connection === connection) return
    this.#connection = connection
    this.changes.note()
  }
}

/** An event of the feed bears the job's row besides its own data. */
function jobOf(event: JobEvent): readonly JobView[] {
  return 'job' in event && typeof event.job === 'object' ? [event.job] : []
}
