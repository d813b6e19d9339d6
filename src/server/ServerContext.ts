import type { HealthReport } from '../health/HealthReport.ts'
import type { JobManager } from '../jobs/JobManager.ts'
import type { Metrics } from '../metrics/Metrics.ts'
import type { ServerConfig } from './ServerConfig.ts'
import type { StreamQuota } from './StreamQuota.ts'
import type { JobFeed } from './sse/JobFeed.ts'
import type { StreamContext } from './sse/StreamContext.ts'

/** What the routes work with. Made once, by the server. */
export interface ServerContext extends StreamContext {
  readonly config: ServerConfig
  readonly jobs: JobManager
  readonly health: HealthReport
  readonly metrics: Pick<Metrics, 'scrape'>
  readonly quota: StreamQuota
  readonly feed: JobFeed
}
