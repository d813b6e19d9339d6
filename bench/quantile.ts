/** The value below which `share` (0 to 1) of the values lie, the nearest rank; undefined where there are none. */
export function quantile(values: readonly number[], share: number): number | undefined {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
}

export function median(values: readonly number[]): number | undefined {
  return quantile(values, 0.5)
}

/** The quantiles that the tables here show, as texts in their order: p50, p99, the highest. */
export function spread(values: readonly number[]): readonly [string, string, string] {
  return [figure(quantile(values, 0.5)), figure(quantile(values, 0.99)), figure(quantile(values, 1))]
}

/** Three digits that say something: more would be noise here. */
export function figure(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) return '-'
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en')
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2)
}
