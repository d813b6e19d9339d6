import { outcomeOfEvent } from '../../client/terminal.ts'
import type { JobEvent } from '../../job/event.ts'
import type { JobView } from '../../job/view.ts'
import { followStream } from '../api/followStream.ts'
import type { ServerApi } from '../api/ServerApi.ts'
import { Changes } from '../Changes.ts'
import { Trace } from '../trace/Trace.ts'
import type { Connection } from './JobFeed.ts'
import type { JobTable } from './JobTable.ts'

/** One job and its stream, watched as an observer: it never keeps the job alive, and its leaving never ends one. */
export class JobWatch {
  readonly id: string
  readonly changes = new Changes()
  readonly trace = new Trace()
  readonly #api: ServerApi
  readonly #table: JobTable
  readonly #signal: AbortSignal
  #job: JobView | undefined
  #connection: Connection | 'ended' = 'connecting'
  #failure: unknown
  #isAsking = false
  #isAskedAgain = false

  constructor(id: string, options: { api: ServerApi; table: JobTable; signal: AbortSignal }) {
    this.id = id
    this.#api = options.api
    this.#table = options.table
    this.#signal = options.signal
  }

  /** Undefined until it was asked for. */
  get job(): JobView | undefined {
    return this.#job
  }

  get connection(): Connection | 'ended' {
    return this.#connection
  }

  /** Why there is nothing to show, or no more. */
  get failure(): unknown {
    return this.#failure
  }

  start(): void {
    this.refresh()
    followStream({
      ask: (life) => this.#api.events(this.id, { after: this.trace.lastSeq }, life),
      onOpen: () => this.#set('live'),
      onEvents: (events) => this.#take(events),
      onLost: () => this.#set('reconnecting'),
      onPaused: () => this.#set('paused'),
      watched: 'job',
      signal: this.#signal,
    }).then(
      () => this.#set('ended'),
      (error: unknown) => this.#fail(error),
    )
  }

  /** An answer to a request of ours. */
  put(job: JobView): void {
    if (this.#job !== undefined && this.#job.lastSeq > job.lastSeq) return
    // An answer may be a row, without what may be long.
    this.#job = { ...(this.#job?.input === undefined ? {} : { input: this.#job.input }), ...job }
    this.#table.put([job])
    this.changes.note()
  }

  /** Asks for the job as it is now. */
  refresh(): void {
    if (this.#isAsking) {
      this.#isAskedAgain = true
      return
    }
    this.#isAsking = true
    this.#api
      .job(this.id, this.#signal)
      .then(
        (job) => this.put(job),
        // What there is to say about the job, its stream says: it is asked for as long as it takes.
        () => undefined,
      )
      .finally(() => {
        this.#isAsking = false
        if (this.#isAskedAgain && !this.#signal.aborted) {
          this.#isAskedAgain = false
          this.refresh()
        }
      })
  }

  #take(events: readonly JobEvent[]): boolean {
    for (const event of events) this.trace.take(event)
    this.changes.note()
    if (events.some(({ type }) => type.startsWith('job.'))) this.refresh()
    return events.some(({ type }) => outcomeOfEvent(type) !== undefined)
  }

  #fail(error: unknown): void {
    this.#failure = error
    this.#connection = 'ended'
    this.changes.note()
  }

  #set(connection: Connection | 'ended'): void {
    this.#connection = connection
    this.changes.note()
  }
}
