/**
 * The status table: from each status, those that may follow. The table is the machine: terminal statuses are computed from
 * it, `decide` (transition.ts) is the one function that moves along it, and the store repeats the check where it writes.
 * `docs/states.md` is written out from it and a test compares the two.
 */
export const STATUS_TABLE = {
  queued: ['running', 'cancelled', 'stopped', 'timed_out', 'interrupted'],
  running: ['succeeded', 'failed', 'stopping', 'cancelling', 'interrupted', 'queued'],
  stopping: ['stopped', 'succeeded', 'failed', 'cancelling', 'interrupted'],
  cancelling: ['cancelled', 'timed_out', 'interrupted', 'abandoned', 'failed'],
  succeeded: [],
  failed: [],
  cancelled: [],
  stopped: [],
  timed_out: [],
  interrupted: [],
  abandoned: [],
} as const

export type JobStatus = keyof typeof STATUS_TABLE

type Terminal<S extends JobStatus> = S extends JobStatus
  ? (typeof STATUS_TABLE)[S] extends readonly []
    ? S
    : never
  : never

/** A status that nothing leaves. */
export type TerminalStatus = Terminal<JobStatus>
export type ActiveStatus = Exclude<JobStatus, TerminalStatus>

export const STATUSES = Object.keys(STATUS_TABLE) as readonly JobStatus[]

export function isTerminal(status: JobStatus): status is TerminalStatus {
  return STATUS_TABLE[status].length === 0
}

export function isStatus(text: string): text is JobStatus {
  return Object.hasOwn(STATUS_TABLE, text)
}

/** The statuses from which `to` may be reached: what a store's compare-and-set asks for. */
export function sourcesOf(to: JobStatus): readonly JobStatus[] {
  return STATUSES.filter((from) => (STATUS_TABLE[from] as readonly JobStatus[]).includes(to))
}
