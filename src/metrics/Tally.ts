import type { Sample } from './Family.ts'

/** Counts by labels. Where the labels have few values so does it: whoever adds sees to that. */
export class Tally<L extends string> implements Iterable<Sample> {
  readonly labelNames: readonly L[]
  readonly #counts = new Map<string, { readonly labels: Readonly<Record<L, string>>; value: number }>()

  /** `known`: what is there before it was counted once, so that Prometheus sees the first count as one. */
  constructor(labelNames: readonly L[], known: readonly Readonly<Record<L, string>>[] = []) {
    this.labelNames = labelNames
    for (const labels of known) this.add(labels, 0)
  }

  add(labels: Readonly<Record<L, string>>, by = 1): void {
    const key = this.labelNames.map((name) => labels[name]).join('\n')
    const count = this.#counts.get(key)
    if (count === undefined) this.#counts.set(key, { labels, value: by })
    else count.value += by
  }

  [Symbol.iterator](): IterableIterator<Sample> {
    return this.#counts.values()
  }
}
