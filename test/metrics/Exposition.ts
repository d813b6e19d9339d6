/** One line of a scrape that has a value. */
export interface Series {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/
const SAMPLE = /^([^{\s]+)(?:\{(.*)\})? (\S+)$/
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/y

/**
 * Prometheus' text format, read as strictly as `promtool check metrics` does
 * (https://prometheus.io/docs/instrumenting/exposition_formats/). Throws where something is not as it must be.
 */
export class Exposition {
  readonly series: readonly Series[]
  /** By family. */
  readonly types: ReadonlyMap<string, string>
  readonly helps: ReadonlyMap<string, string>

  constructor(text: string) {
    const series: Series[] = []
    const types = new Map<string, string>()
    const helps = new Map<string, string>()
    const closed = new Set<string>()
    let current = ''
    if (!text.endsWith('\n')) throw new Error('the text must end with a newline')
    for (const line of text.split('\n')) {
      if (line === '') continue
      const [, keyword, family = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? []
      if (keyword === 'HELP') {
        if (helps.has(family)) throw new Error(`${family} has two helps`)
        helps.set(family, rest)
      } else if (keyword === 'TYPE') {
        if (types.has(family)) throw new Error(`${family} has two types`)
        types.set(family, rest)
        closed.add(current)
        current = family
        if (closed.has(family)) throw new Error(`${family} stands in two places`)
        if (rest === 'counter' && !family.endsWith('_total'))
          throw new Error(`the counter ${family} must end in _total`)
        if (rest !== 'counter' && family.endsWith('_total')) throw new Error(`${family} is no counter`)
      } else {
        const sample = sampleOf(line)
        const isOfCurrent =
          sample.name === current ||
          (types.get(current) === 'histogram' && /^_(?:bucket|sum|count)$/.test(sample.name.slice(current.length)))
        if (!sample.name.startsWith(current) || !isOfCurrent) throw new Error(`${line} stands under ${current}`)
        series.push(sample)
      }
    }
    for (const family of types.keys()) if (!helps.has(family)) throw new Error(`${family} has no help`)
    this.series = series
    this.types = types
    this.helps = helps
    this.#assertUnique()
    for (const [family, type] of types) if (type === 'histogram') this.#assertHistogram(family)
  }

  /** Undefined where there is none with exactly these labels. */
  value(name: string, labels: Readonly<Record<string, string>> = {}): number | undefined {
    const key = keyOf({ name, labels })
    return this.series.find((series) => keyOf(series) === key)?.value
  }

  /** Over all series of which these labels are some. */
  sum(name: string, labels: Readonly<Record<string, string>> = {}): number {
    return this.series
      .filter((series) => series.name === name)
      .filter((series) => Object.entries(labels).every(([label, value]) => series.labels[label] === value))
      .reduce((sum, { value }) => sum + value, 0)
  }

  /** The labels of a family's series, without `le`; undefined where it has no series. */
  labelsOf(family: string): readonly string[] | undefined {
    const suffix = this.types.get(family) === 'histogram' ? '_count' : ''
    const found = this.series.find(({ name }) => name === family + suffix)
    return found && Object.keys(found.labels)
  }

  #assertUnique(): void {
    const seen = new Set<string>()
    for (const series of this.series) {
      const key = keyOf(series)
      if (seen.has(key)) throw new Error(`${key} is there twice`)
      seen.add(key)
    }
  }

  #assertHistogram(family: string): void {
    const rows = new Map<string, { readonly le: string; readonly value: number }[]>()
    for (const { name, labels, value } of this.series) {
      if (name !== `${family}_bucket`) continue
      const { le = '', ...rest } = labels
      const key = keyOf({ name: family, labels: rest })
      rows.set(key, [...(rows.get(key) ?? []), { le, value }])
    }
    for (const [key, buckets] of rows) {
      const bounds = buckets.map(({ le }) => Number(le.replace('+Inf', 'Infinity')))
      if (bounds.at(-1) !== Infinity) throw new Error(`${key} has no bucket +Inf`)
      for (const [place, bucket] of buckets.entries()) {
        const before = buckets[place - 1]
        if (before === undefined) continue
        if ((bounds[place - 1] ?? 0) >= (bounds[place] ?? 0)) throw new Error(`the bounds of ${key} must ascend`)
        if (before.value > bucket.value) throw new Error(`the buckets of ${key} must add up`)
      }
      const count = this.series.find((series) => keyOf(series) === key.replace(family, `${family}_count`))
      if (count?.value !== buckets.at(-1)?.value) throw new Error(`${key} must count what is in its buckets`)
      if (!this.series.some((series) => keyOf(series) === key.replace(family, `${family}_sum`))) {
        throw new Error(`${key} has no sum`)
      }
    }
  }
}

function sampleOf(line: string): Series {
  const [, name = '', text = '', number = ''] = SAMPLE.exec(line) ?? []
  if (!NAME.test(name)) throw new Error(`${line} is no sample`)
  const value = /^[+-]?Inf$/.test(number) ? Number(number.replace('Inf', 'Infinity')) : Number(number)
  if (Number.isNaN(value) && number !== 'NaN') throw new Error(`the value of ${line} is no number`)
  const labels: Record<string, string> = {}
  LABEL.lastIndex = 0
  while (LABEL.lastIndex < text.length) {
    const [, label, escaped] = LABEL.exec(text) ?? []
    if (label === undefined || escaped === undefined) throw new Error(`the labels of ${line} are malformed`)
    if (label in labels) throw new Error(`${label} is there twice in ${line}`)
    labels[label] = escaped.replaceAll(/\\(["\\n])/g, (_, escape) => (escape === 'n' ? '\n' : escape))
  }
  return { name, labels, value }
}

function keyOf({ name, labels }: Pick<Series, 'name' | 'labels'>): string {
  return name + JSON.stringify(Object.entries(labels).toSorted(([a], [b]) => (a < b ? -1 : 1)))
}
