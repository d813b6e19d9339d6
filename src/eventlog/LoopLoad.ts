import { performance } from 'node:perf_hooks'

type Utilization = ReturnType<typeof performance.eventLoopUtilization>

/** How busy the event loop is, as far as it may sleep: while an immediate is pending it never does, and nobody can tell. */
export interface LoopLoad {
  /** Begins to look. */
  begin(): void
  /** The share of the time since `begin` in which the loop had nothing to do, 0 to 1. */
  idleShare(): number
}

/** By libuv's own count of the time in which it waited (Node's `eventLoopUtilization`). */
export class MeasuredLoopLoad implements LoopLoad {
  #since: Utilization = performance.eventLoopUtilization()

  begin(): void {
    this.#since = performance.eventLoopUtilization()
  }

  idleShare(): number {
    return 1 - performance.eventLoopUtilization(this.#since).utilization
  }
}
