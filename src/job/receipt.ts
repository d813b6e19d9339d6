/** How processes of a job are held: a control group, a pid namespace, or a process group with a sweep for a marker. */
export type ContainmentLevel = 'cgroup' | 'pidns' | 'group'

/** `complete` says that no process can leave the level by itself, so that its own check is proof. */
export interface Containment {
  readonly level: ContainmentLevel
  readonly complete: boolean
}

/** A process that was still there when its job ended. */
export interface Survivor {
  readonly pid: number
  readonly command: string
}

/** What was held and is gone, counted. `processes` are those seen alive and then gone. */
export interface Released {
  readonly processes: number
  readonly requests: number
  readonly files: number
  readonly children: number
  readonly other: number
}

export interface Usage {
  readonly inputTokens?: number
  readonly outputTokens?: number
  readonly totalTokens?: number
}

/** What is known of only one of the two counts as that. */
export function sumOf(a: Usage, b: Usage): Usage {
  const sum = (of: keyof Usage): Usage => {
    const [first, second] = [a[of], b[of]]
    return first === undefined && second === undefined ? {} : { [of]: (first ?? 0) + (second ?? 0) }
  }
  return { ...sum('inputTokens'), ...sum('outputTokens'), ...sum('totalTokens') }
}

/**
 * What a job that was asked to end gave back. Every figure is measured; milliseconds are null where the step was not taken.
 * `confirmed` means that the function settled and that the containment's own check found nothing.
 */
export interface Receipt {
  readonly confirmed: boolean
  readonly containment: Containment
  readonly requestedToAbortedMs: number | null
  readonly abortedToKilledMs: number | null
  readonly killedToVerifiedMs: number | null
  readonly abortedToSettledMs: number | null
  readonly released: Released
  readonly survivors: readonly Survivor[]
  readonly usage?: Usage
  /** `false` while the request to end the job is not in the log yet, because the store failed or is slow. */
  readonly recorded?: false
}

const NOTHING_RELEASED: Released = { processes: 0, requests: 0, files: 0, children: 0, other: 0 }

/** The receipt of a job that never ran: nothing was held, so there is nothing to look for. */
export function emptyReceipt(containment: Containment): Receipt {
  return {
    confirmed: true,
    containment: { level: containment.level, complete: containment.complete },
    requestedToAbortedMs: null,
    abortedToKilledMs: null,
    killedToVerifiedMs: null,
    abortedToSettledMs: null,
    released: NOTHING_RELEASED,
    survivors: [],
  }
}
