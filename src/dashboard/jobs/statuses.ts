import type { JobStatus } from '../../job/status.ts'

/** What each status is called. A status that this page does not know is shown by its own name. */
export const STATUS_NAMES = {
  queued: 'Queued',
  running: 'Running',
  stopping: 'Stopping',
  cancelling: 'Cancelling',
  succeeded: 'Succeeded',
  failed: 'Failed',
  cancelled: 'Cancelled',
  stopped: 'Stopped',
  timed_out: 'Timed out',
  interrupted: 'Interrupted',
  abandoned: 'Abandoned',
} as const satisfies Record<JobStatus, string>

export function isKnownStatus(status: string): status is JobStatus {
  return Object.hasOwn(STATUS_NAMES, status)
}

/** What a list can be narrowed to, with the statuses that each stands for. */
export const STATUS_FILTERS = [
  { name: 'All', value: '' },
  { name: 'Active', value: 'queued,running,stopping,cancelling' },
  { name: 'Succeeded', value: 'succeeded' },
  { name: 'Failed', value: 'failed' },
  { name: 'Stopped', value: 'stopped' },
  { name: 'Cancelled', value: 'cancelled' },
  { name: 'Timed out', value: 'timed_out' },
  { name: 'Interrupted', value: 'interrupted' },
  { name: 'Abandoned', value: 'abandoned' },
] as const

/** Statuses in a filter's text. */
export function statusesIn(value: string): readonly string[] {
  return value.split(',').filter((status) => status !== '')
}
