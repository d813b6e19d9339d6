import type { JobManager } from '../jobs/JobManager.ts'
import type { ServerConfig } from './ServerConfig.ts'
import type { ServerCounters } from './ServerCounters.ts'
import type { ServerLogger } from './ServerLogger.ts'
import type { StreamQuota } from './StreamQuota.ts'
import type { JobFeed } from './sse/JobFeed.ts'
import type { OpenResponses } from './sse/OpenResponses.ts'

/** What the routes work with. Made once, by the server. */
export interface ServerContext {
  readonly config: ServerConfig
  readonly jobs: JobManager
  readonly logger: ServerLogger
  readonly counters: ServerCounters
  readonly quota: StreamQuota
  readonly open: OpenResponses
  readonly feed: JobFeed
}
