import type { Json } from '../job/json.ts'
import type { JobPolicy } from '../job/policy.ts'

/** A job to start (protocol, section 3). What is left out takes the server's default. */
export interface JobSpec extends Partial<JobPolicy> {
  readonly task: string
  readonly input: Json
  /** Minted by the caller, so that the job can be cancelled before the server has answered. */
  readonly jobId?: string
  readonly group?: string
  readonly metadata?: { readonly [key: string]: Json }
}
