import type { ServerConfig } from '../ServerConfig.ts'
import type { ServerCounters } from '../ServerCounters.ts'
import type { ServerLogger } from '../ServerLogger.ts'
import type { OpenResponses } from './OpenResponses.ts'

/** What all responses share that stay open. */
export interface StreamContext {
  readonly config: Pick<ServerConfig, 'maxBufferedBytes'>
  readonly logger: ServerLogger
  readonly counters: ServerCounters
  readonly open: OpenResponses
}
