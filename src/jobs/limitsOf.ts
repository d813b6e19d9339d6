import type { RegisteredTask } from '../execution/TaskRegistry.ts'
import type { JobRecord } from '../job/record.ts'
import type { RunLimit } from '../store/JobStore.ts'

/** The limits that the job shares with others: that of its key, and that of its task. */
export function limitsOf({ tenant, policy }: JobRecord, task: RegisteredTask | undefined): readonly RunLimit[] {
  const { concurrencyKey, concurrencyLimit } = policy
  const ofTask = task?.concurrencyLimit
  return [
    ...(concurrencyKey !== '' && concurrencyLimit > 0
      ? [{ name: `key/${tenant}/${concurrencyKey}`, limit: concurrencyLimit }]
      : []),
    ...(task !== undefined && ofTask !== undefined ? [{ name: `task/${task.name}`, limit: ofTask }] : []),
  ]
}
