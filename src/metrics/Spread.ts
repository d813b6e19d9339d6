import type { Distribution, Labels } from './Family.ts'

interface Series {
  readonly labels: Labels
  readonly counts: number[]
  count: number
  sum: number
}

/** What a histogram is made of: values counted by bounds, which ascend, and by labels with few values. */
export class Spread<L extends string = never> {
  readonly bounds: readonly number[]
  readonly labelNames: readonly L[]
  readonly #series = new Map<string, Series>()

  constructor(bounds: readonly number[], labelNames: readonly L[] = []) {
    this.bounds = bounds
    this.labelNames = labelNames
    // One that has no labels is there before its first value.
    if (labelNames.length === 0) this.#seriesOf({})
  }

  observe(value: number, labels: Readonly<Record<L, string>>): void {
    const series = this.#seriesOf(labels)
    series.count += 1
    series.sum += value
    const place = this.bounds.findIndex((bound) => value <= bound)
    if (place !== -1) series.counts[place] = (series.counts[place] ?? 0) + 1
  }

  *read(): Iterable<Distribution> {
    for (const { labels, counts, count, sum } of this.#series.values()) {
      let below = 0
      yield { labels, counts: counts.map((here) => (below += here)), count, sum }
    }
  }

  #seriesOf(labels: Labels): Series {
    const key = this.labelNames.map((name) => labels[name]).join('\n')
    const known = this.#series.get(key)
    if (known !== undefined) return known
    const series = { labels, counts: this.bounds.map(() => 0), count: 0, sum: 0 }
    this.#series.set(key, series)
    return series
  }
}
