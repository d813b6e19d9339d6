import type { Clock } from '../clock.ts'
import type { Family } from './Family.ts'
import { one } from './Family.ts'
import { Spread } from './Spread.ts'

const SAMPLE_MS = 50
/** What is looked back on: ten seconds. */
const WINDOW = 200
const DELAY_BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]

export interface RecentDelay {
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
}

/**
 * How long what comes to the event loop waits for it, as somebody finds it who comes at any time: a timer that is late by two seconds
 * stands for all who came in these two seconds, not for one. (Node's own `monitorEventLoopDelay` counts a stall once, however long,
 * and forgets one that ends with a `reset`.)
 */
export class LoopDelay {
  readonly #clock: Clock
  readonly #spread = new Spread(DELAY_BOUNDS)
  /** The newest delays in ms, in a ring. */
  readonly #recent: number[] = []
  #next = 0
  #cancel: (() => void) | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  start(): void {
    const dueMs = this.#clock.monotonicMs() + SAMPLE_MS
    this.#cancel = this.#clock.schedule(SAMPLE_MS, () => {
      this.#note(this.#clock.monotonicMs() - dueMs)
      this.start()
    })
  }

  stop(): void {
    this.#cancel?.()
  }

  /** Of the last ten seconds in which the loop ran; undefined where nothing was measured yet. */
  recent(): RecentDelay | undefined {
    const sorted = this.#recent.toSorted((a, b) => a - b)
    const at = (quantile: number): number => Math.round(sorted[Math.floor((sorted.length - 1) * quantile)] ?? 0)
    return sorted.length === 0 ? undefined : { p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) }
  }

  families(): readonly Family[] {
    return [
      {
        kind: 'histogram',
        name: 'tether_event_loop_delay_seconds',
        help: 'How long the event loop kept what came to it waiting.',
        bounds: this.#spread.bounds,
        read: () => this.#spread.read(),
      },
      {
        kind: 'counter',
        name: 'tether_event_loop_busy_seconds_total',
        help: 'Time in which the event loop was not waiting for something to do.',
        read: () => one(performance.eventLoopUtilization().active / 1000),
      },
    ]
  }

  #note(lateMs: number): void {
    // After a suspend the loop is late by hours; nobody waited for it.
    let left = WINDOW
    for (let delayMs = Math.max(0, lateMs); left > 0; delayMs -= SAMPLE_MS, left -= 1) {
      this.#spread.observe(delayMs / 1000, {})
      this.#recent[this.#next] = delayMs
      this.#next = (this.#next + 1) % WINDOW
      if (delayMs < SAMPLE_MS) return
    }
  }
}
