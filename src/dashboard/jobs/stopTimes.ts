import type { JobView } from '../../job/view.ts'

/** How long it took until jobs had ended that were asked to, of one kind and while they were doing one thing. */
export interface StopTimes {
  readonly kind: 'stop' | 'cancel'
  readonly phase: string
  readonly count: number
  readonly p50Ms: number
  readonly p99Ms: number
}

/** From the receipts of these jobs, cancels first, the most frequent phase first. */
export function stopTimesOf(jobs: readonly JobView[]): readonly StopTimes[] {
  const groups = new Map<string, { kind: 'stop' | 'cancel'; phase: string; times: number[] }>()
  for (const job of jobs) {
    const asked = job.cancellation ?? job.stop
    const tookMs = stopMsOf(job)
    if (asked === undefined || tookMs === undefined) continue
    const kind = job.cancellation === undefined ? 'stop' : 'cancel'
    // A tool's name is the author's, and there may be many.
    const phase = asked.phase.split(':')[0] ?? ''
    const key = `${kind} ${phase}`
    const group = groups.get(key) ?? { kind, phase, times: [] }
    groups.set(key, group)
    group.times.push(tookMs)
  }
  return [...groups.values()]
    .map(({ kind, phase, times }) => {
      const sorted = times.toSorted((a, b) => a - b)
      return { kind, phase, count: sorted.length, p50Ms: quantile(sorted, 0.5), p99Ms: quantile(sorted, 0.99) }
    })
    .toSorted((a, b) => (a.kind === b.kind ? b.count - a.count : a.kind < b.kind ? -1 : 1))
}

/**
 * From the request to the end: what was held is gone and the function has settled. Undefined without a receipt. A stop has no
 * steps that a receipt times, since nothing is aborted: its time is that between the request and the terminal event.
 */
function stopMsOf({ receipt, cancellation, stop, endedAt }: JobView): number | undefined {
  const asked = cancellation ?? stop
  if (receipt === undefined || asked === undefined) return undefined
  const { requestedToAbortedMs, abortedToKilledMs, killedToVerifiedMs, abortedToSettledMs } = receipt
  if (requestedToAbortedMs !== null) {
    const goneMs = (abortedToKilledMs ?? 0) + (killedToVerifiedMs ?? 0)
    return requestedToAbortedMs + Math.max(goneMs, abortedToSettledMs ?? 0)
  }
  // Nothing ran, so nothing had to be ended.
  if (asked.phase === 'queued') return 0
  return endedAt === undefined ? undefined : Math.max(0, Date.parse(endedAt) - Date.parse(asked.requestedAt))
}

/** The smallest value that so large a part of all does not exceed. */
function quantile(sorted: readonly number[], part: number): number {
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] ?? 0
}
