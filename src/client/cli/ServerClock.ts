/**
 * The server's clock as its events tell it, for durations that are not over: ours may be minutes off. An event is as old as its
 * way here at the least, so the least old one tells best; among old ones alone (a log that is read later) the time since is not
 * known, and counts from when they came.
 */
export class ServerClock {
  #aheadMs = Number.NEGATIVE_INFINITY

  /** To be called with every event. Returns its instant, milliseconds since the epoch. */
  note({ at }: { readonly at: string }): number {
    const atMs = Date.parse(at)
    if (Number.isNaN(atMs)) return this.nowMs()
    this.#aheadMs = Math.max(this.#aheadMs, atMs - performance.now())
    return atMs
  }

  /** Never before an event that was noted; 0 before the first. */
  nowMs(): number {
    return this.#aheadMs === Number.NEGATIVE_INFINITY ? 0 : this.#aheadMs + performance.now()
  }
}
