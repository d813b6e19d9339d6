import type { Registry } from 'prom-client'
import type { Family } from './Family.ts'

/** What a scrape gets. Its series are read when somebody scrapes, and prom-client is loaded when somebody first does. */
export class Metrics {
  readonly #families: readonly Family[]
  #registry: Promise<Registry> | undefined

  constructor(families: readonly Family[]) {
    this.#families = families
  }

  async scrape(): Promise<{ readonly contentType: string; readonly text: string }> {
    this.#registry ??= import('./prometheus.ts').then(({ registryOf }) => registryOf(this.#families))
    const registry = await this.#registry
    return { contentType: registry.contentType, text: await registry.metrics() }
  }
}
