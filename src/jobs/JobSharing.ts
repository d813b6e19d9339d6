import type { RemoteJobs } from './RemoteJobs.ts'
import type { Replicas } from './Replicas.ts'
import type { SharedHolders } from './SharedHolders.ts'
import type { UnownedJobs } from './UnownedJobs.ts'

/** What a process has that shares its jobs with others. */
export interface JobSharing {
  readonly replicas: Replicas
  readonly unowned: UnownedJobs
  readonly remote: RemoteJobs
  readonly holders: SharedHolders
}
