import type { ServerCounters } from './ServerCounters.ts'

/** What a response is that stays open: the events of one job, the changes of all jobs, or an answer that waits for an outcome. */
export type ResponseKind = 'job' | 'all_jobs' | 'outcome'

/** Of all responses of one kind since the start. `bytes` are those that the kernel took, `events` those that were written. */
export interface Sent {
  readonly bytes: number
  readonly events: number
}

/** How the HTTP edge stands, and what it has done since the start. */
export interface ServerFigures {
  readonly counters: Readonly<ServerCounters>
  readonly open: Readonly<Record<ResponseKind, number>>
  readonly sent: Readonly<Record<ResponseKind, Sent>>
  /** Streams of which the kernel has not taken all that they were given. */
  readonly slow: number
}
