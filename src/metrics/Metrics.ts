import type { Registry } from 'prom-client'
import type { Clock } from '../clock.ts'
import { waitAtMost } from '../waiting.ts'
import type { Family, Sample } from './Family.ts'

/**
 * What has not been read by then may never be: it has no figure, and the others are scraped all the same. Longer than Redis is waited
 * for, and half of what Prometheus waits for a scrape (`scrape_timeout`, 10 s).
 */
const PATIENCE_MS = 5000

/** What a scrape gets. Its series are read when somebody scrapes, and prom-client is loaded when somebody first does. */
export class Metrics {
  readonly #clock: Clock
  readonly #families: readonly Family[]
  #registry: Promise<Registry> | undefined

  constructor(clock: Clock, families: readonly Family[]) {
    this.#clock = clock
    // A histogram is counted in this process and read at once: there is nothing to wait for.
    this.#families = families.map((family) =>
      family.kind === 'histogram' ? family : { ...family, read: () => this.#inTime(family.read()) },
    )
  }

  async scrape(): Promise<{ readonly contentType: string; readonly text: string }> {
    this.#registry ??= import('./prometheus.ts').then(({ registryOf }) => registryOf(this.#families))
    const registry = await this.#registry
    return { contentType: registry.contentType, text: await registry.metrics() }
  }

  #inTime(reading: Iterable<Sample> | Promise<Iterable<Sample>>): Iterable<Sample> | Promise<Iterable<Sample>> {
    return reading instanceof Promise ? this.#orNone(reading) : reading
  }

  async #orNone(reading: Promise<Iterable<Sample>>): Promise<Iterable<Sample>> {
    return (await waitAtMost(reading, PATIENCE_MS, this.#clock)) ? reading : []
  }
}
