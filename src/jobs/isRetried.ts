import type { RegisteredTask } from '../execution/TaskRegistry.ts'
import type { JobRecord } from '../job/record.ts'

/** A job that takes its server with it each time must not go on doing so. */
const MAX_ATTEMPTS = 3

/** Whether a job that ran when its process died is to run again. */
export function isRetried({ state, parentId }: JobRecord, task: RegisteredTask | undefined): boolean {
  if (task?.retriesOnInterrupt !== true || parentId !== undefined) return false
  return state.status === 'running' && state.attempt < MAX_ATTEMPTS
}
