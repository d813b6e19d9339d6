import type { JobStatus } from '../../job/status.ts'
import type { JobManager, StatusChange } from '../../jobs/JobManager.ts'
import type { ServerCounters } from '../ServerCounters.ts'
import type { SseStream } from './SseStream.ts'

/** Which jobs a feed is about; what is undefined is not asked for. */
export interface FeedFilter {
  readonly tenant: string
  readonly statuses: readonly JobStatus[] | undefined
  readonly task: string | undefined
  readonly group: string | undefined
}

/**
 * Status changes of all jobs, for lists that live on them. There is nothing to replay: a list attaches first and then lists. So a
 * stream that falls behind by more than its budget is destroyed; an EventSource comes back by itself, and lists again.
 */
export class JobFeed {
  readonly #jobs: Pick<JobManager, 'watch'>
  readonly #counters: ServerCounters
  readonly #streams = new Map<SseStream, FeedFilter>()
  readonly #maxBufferedBytes: number
  #unwatch: (() => void) | undefined
  #isCheckDue = false

  constructor(jobs: Pick<JobManager, 'watch'>, counters: ServerCounters, maxBufferedBytes: number) {
    this.#jobs = jobs
    this.#counters = counters
    this.#maxBufferedBytes = maxBufferedBytes
  }

  /** Sends `stream` what matches from now on. Returns its undo. */
  subscribe(stream: SseStream, filter: FeedFilter): () => void {
    this.#streams.set(stream, filter)
    this.#unwatch ??= this.#jobs.watch(
      (change) => this.#publish(change),
      () => this.#dropAll(),
    )
    return () => {
      this.#streams.delete(stream)
      if (this.#streams.size > 0) return
      this.#unwatch?.()
      this.#unwatch = undefined
    }
  }

  /** Each comes back, and lists again. */
  #dropAll(): void {
    for (const stream of this.#streams.keys()) stream.drop()
  }

  #publish(change: StatusChange): void {
    let frame: string | undefined
    for (const [stream, filter] of this.#streams) {
      if (!matches(filter, change)) continue
      frame ??= frameOf(change)
      stream.push(frame)
    }
    // Not at once: what is written in a turn is offered to the kernel at its end.
    if (this.#isCheckDue) return
    this.#isCheckDue = true
    setImmediate(() => this.#dropBehind())
  }

  #dropBehind(): void {
    this.#isCheckDue = false
    for (const stream of this.#streams.keys()) {
      if (stream.bufferedBytes <= this.#maxBufferedBytes) continue
      this.#counters.droppedFeeds += 1
      stream.drop()
    }
  }
}

function matches(filter: FeedFilter, { tenant, row }: StatusChange): boolean {
  return (
    filter.tenant === tenant &&
    (filter.statuses === undefined || filter.statuses.includes(row.status)) &&
    (filter.task === undefined || filter.task === row.task) &&
    (filter.group === undefined || filter.group === row.group)
  )
}

function frameOf({ event, seq, at, row }: StatusChange): string {
  const data = { type: event.type, jobId: row.id, seq, at: new Date(at).toISOString(), job: row }
  return `event: ${event.type}\ndata: ${JSON.stringify(data)}\n\n`
}
