import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Family, Sample } from './Family.ts'

/** A registry of their own for `families`, which are read at each scrape. */
export function registryOf(families: readonly Family[]): Registry {
  const registry = new Registry()
  const registers = [registry]
  for (const family of families) {
    const { name, help, labelNames = [] } = family
    const named = { name, help, labelNames: [...labelNames], registers }
    switch (family.kind) {
      case 'counter':
        void new Counter({
          ...named,
          async collect() {
            const samples = await family.read()
            clear(this, family)
            for (const { labels, value } of samples) this.inc(labels, value)
          },
        })
        break
      case 'gauge':
        void new Gauge({
          ...named,
          async collect() {
            const samples: Iterable<Sample> = await family.read()
            clear(this, family)
            for (const { labels, value } of samples) this.set(labels, value)
          },
        })
        break
      default:
        void new ReadHistogram({ ...named, family })
    }
  }
  return registry
}

/** prom-client's `reset` gives a metric without labels the value 0, which nobody has read. */
function clear(metric: Counter | Gauge, { labelNames = [] }: Family): void {
  metric.reset()
  if (labelNames.length === 0) metric.remove()
}

/** A histogram that was counted elsewhere: prom-client's own can only count by itself. */
class ReadHistogram extends Histogram {
  readonly #family: Family & { kind: 'histogram' }

  constructor(options: {
    name: string
    help: string
    labelNames: string[]
    registers: Registry[]
    family: Family & { kind: 'histogram' }
  }) {
    const { family, ...named } = options
    super({ ...named, buckets: [...family.bounds] })
    this.#family = family
  }

  /** What a registry calls to write a histogram (prom-client, lib/registry.js). */
  async getForPromString(): Promise<object> {
    const { name, help, bounds } = this.#family
    const values = [...this.#family.read()].flatMap(({ labels, counts, count, sum }) => [
      ...bounds.map((le, place) => ({ metricName: `${name}_bucket`, labels: { ...labels, le }, value: counts[place] })),
      { metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: count },
      { metricName: `${name}_sum`, labels, value: sum },
      { metricName: `${name}_count`, labels, value: count },
    ])
    return { name, help, type: 'histogram', values }
  }
}
