export type Labels = Readonly<Record<string, string>>

export interface Sample {
  readonly labels: Labels
  readonly value: number
}

/** How many values were at most each of a histogram's bounds; `count` is of all, `sum` of their values. */
export interface Distribution {
  readonly labels: Labels
  /** One for each bound, each with those of the bounds before. */
  readonly counts: readonly number[]
  readonly count: number
  readonly sum: number
}

interface Named {
  /** As Prometheus has it: `_total` at the end of a counter, the unit in the name. */
  readonly name: string
  readonly help: string
  readonly labelNames?: readonly string[]
}

/** One metric with all its series. What it has is asked for when somebody scrapes, and not before. */
export type Family =
  | (Named & {
      readonly kind: 'counter' | 'gauge'
      readonly read: () => Iterable<Sample> | Promise<Iterable<Sample>>
    })
  | (Named & {
      readonly kind: 'histogram'
      readonly bounds: readonly number[]
      readonly read: () => Iterable<Distribution>
    })

/** A metric of one series without labels. */
export function one(value: number): readonly Sample[] {
  return [{ labels: {}, value }]
}
