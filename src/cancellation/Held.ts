import type { Survivor } from '../job/receipt.ts'

export type HeldKind = 'processes' | 'requests' | 'files' | 'children' | 'other'

/** How something is to be given back. `hard`: now, whatever it is doing; otherwise at the ordinary end of its job. */
export interface ReleaseOptions {
  readonly hard: boolean
  readonly graceMs: number
  readonly deadlineMs: number
}

/** What giving something back came to. Instants are monotonic milliseconds; null or absent where the step was not taken. */
export interface ReleaseReport {
  /** How many of its kind were there and are gone. */
  readonly count: number
  readonly survivors?: readonly Survivor[]
  readonly killedAtMs?: number | null
  readonly verifiedAtMs?: number | null
}

/**
 * Something that a job holds and must give back. `release` is called once. What is `prompt` is released the moment that the
 * job is cancelled, while the function still runs; the rest in reverse order once the function has settled.
 */
export interface Held {
  readonly kind: HeldKind
  readonly isPrompt: boolean
  release(options: ReleaseOptions): Promise<ReleaseReport>
}
