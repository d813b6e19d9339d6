import type { ServerCounters } from '../ServerCounters.ts'
import type { ServerLogger } from '../ServerLogger.ts'
import type { OpenResponses } from './OpenResponses.ts'
import type { ReaderBudget } from './ReaderBudget.ts'

/** What all responses share that stay open. */
export interface StreamContext {
  readonly budget: ReaderBudget
  readonly logger: ServerLogger
  readonly counters: ServerCounters
  readonly open: OpenResponses
}
