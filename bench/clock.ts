/**
 * Milliseconds of the machine's monotonic clock, which all processes share: an instant taken in one of them can be compared with
 * one taken in another. (`performance.timeOrigin + performance.now()` follows the wall clock as it was when each process began.)
 */
export function sharedNowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}

/** An instant at which something ended, by the id of its stream. */
export interface Ended {
  readonly id: string
  readonly atMs: number
}
