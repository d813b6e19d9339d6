import type { GroupId, JobId } from '../job/id.ts'
import type { Json } from '../job/json.ts'
import type { JobPolicy } from '../job/policy.ts'

/** What a client asks for when it starts a job, parsed: what it left out is absent. */
export interface JobSpec {
  readonly task: string
  readonly input: Json
  readonly jobId?: JobId
  readonly group?: GroupId
  readonly policy: Partial<JobPolicy>
  readonly metadata: { readonly [key: string]: Json }
}

/** Who asks. `subject` is what limits and `by` count by: the authenticated subject, else the address. */
export interface Caller {
  readonly tenant: string
  readonly subject: string
}
