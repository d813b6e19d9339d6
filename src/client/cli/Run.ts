import type { ChildStreams } from './ChildStreams.ts'
import type { Screen } from './Screen.ts'
import type { ServerClock } from './ServerClock.ts'
import type { UsageTally } from './UsageTally.ts'

/** What of a run the user wants to read. */
export interface TextDetail {
  /** All that tools print, and what each came to. */
  readonly isVerbose: boolean
  readonly showsReasoning: boolean
}

/** A child that is shown and whose end has not come. */
export interface OpenChild {
  /** Nothing more of it is shown; its open tools end as `word` says. */
  settle(word: string): Promise<void>
  /** The same at once. */
  settleNow(word: string): void
}

/** What there is once for a job and all its children while they are shown. */
export interface Run {
  readonly screen: Screen
  readonly streams: ChildStreams
  readonly tally: UsageTally
  readonly clock: ServerClock
  readonly detail: TextDetail
  readonly children: Set<OpenChild>
}
