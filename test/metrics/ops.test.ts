import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parser } from '@prometheus-io/lezer-promql'
import { beforeEach, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { startServer } from '../cluster/world.ts'
import { openReplicaHere } from '../replicas/replicaHere.ts'
import { ask, jobOf, startJob } from '../server/requests.ts'
import { eventually } from '../world.ts'
import type { Exposition } from './Exposition.ts'
import { scrape } from './scrape.ts'

const OPS = join(import.meta.dirname, '..', '..', 'docs', 'ops')

function read(name: string): string {
  return readFileSync(join(OPS, name), 'utf8')
}

/** What Prometheus gives every series that it scrapes, and a histogram's buckets have. */
const GIVEN = ['instance', 'job', 'le']

/** A metric that an expression asks for, with the labels that it asks for it by. */
interface Asked {
  readonly metric: string
  readonly labels: readonly string[]
}

/** @throws {Error} where Prometheus could not read it. */
function askedIn(expression: string): { readonly asked: readonly Asked[]; readonly grouped: readonly string[] } {
  const text = expression.replaceAll('$__rate_interval', '5m')
  const asked: { metric: string; labels: string[] }[] = []
  const grouped: string[] = []
  let isGrouping = false
  parser.parse(text).iterate({
    enter({ name, from, to, type }) {
      const here = text.slice(from, to)
      if (type.isError) throw new Error(`${text} cannot be read at ${from}`)
      if (name === 'GroupingLabels') isGrouping = true
      if (name === 'LabelMatchers') isGrouping = false
      if (name === 'VectorSelector') asked.push({ metric: '', labels: [] })
      const last = asked.at(-1)
      if (name === 'Identifier' && last !== undefined) last.metric = here
      if (name === 'LabelName') (isGrouping ? grouped : last?.labels)?.push(here)
    },
    leave({ name }) {
      if (name === 'GroupingLabels') isGrouping = false
    },
  })
  return { asked, grouped }
}

/** A replica's, which has all there are, and what it had before anything was asked of it. */
let real: Exposition
let fresh: Exposition | undefined

/** Whichever test is first has it, and the others go on with what it was. */
beforeEach(async () => {
  real ??= await scrapeReplica()
})

async function scrapeReplica(): Promise<Exposition> {
  const redis = await startServer()
  const { url } = await openReplicaHere(redis.url)
  fresh = await scrape(url)
  await ask(url, '/execute', { body: { task: 'ticks', input: { count: 1, intervalMs: 0 } } })
  await startJob(url, { task: 'ticks', input: { count: 10_000, intervalMs: 20 }, jobId: 'job-cancelled' })
  await eventually('it runs', async () => (await jobOf(url, 'job-cancelled')).status === 'running')
  await ask(url, '/jobs/job-cancelled/cancel?wait=10', { body: {} })
  return scrape(url)
}

function familyOf(metric: string): string | undefined {
  const family = metric.replace(/_(?:bucket|sum|count)$/, '')
  if (real.types.get(family) === 'histogram' && family !== metric) return family
  return real.types.has(metric) && real.types.get(metric) !== 'histogram' ? metric : undefined
}

/** Why an expression cannot give anything; empty where it can. */
function objectionsTo(expression: string): readonly string[] {
  const { asked, grouped } = askedIn(expression)
  if (asked.length === 0) return [`${expression} asks for nothing`]
  const families = asked.filter(({ metric }) => metric !== 'up')
  const known = new Set<string>(GIVEN)
  const objections = families.flatMap(({ metric, labels }) => {
    const family = familyOf(metric)
    if (family === undefined) return [`there is no metric ${metric}`]
    const own = real.labelsOf(family)
    for (const label of own ?? labels) known.add(label)
    if (own === undefined && !UNSEEN.includes(family)) return [`${family} has no series to compare with`]
    return labels
      .filter((label) => own !== undefined && !own.includes(label) && !GIVEN.includes(label))
      .map((label) => `${metric} has no label ${label}`)
  })
  const isUnseen = families.some(({ metric }) => UNSEEN.includes(familyOf(metric) ?? ''))
  const strangers = isUnseen ? [] : grouped.filter((label) => !known.has(label))
  return [...objections, ...strangers.map((label) => `nothing in ${expression} has a label ${label}`)]
}

/** What does not happen here: nobody takes a job up again. */
const UNSEEN = ['tether_jobs_requeued_total']

interface Panel {
  readonly id: number
  readonly type: string
  readonly title: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[]
}

const DASHBOARD: { readonly panels: readonly Panel[] } = JSON.parse(read('dashboard.json'))

describe('the dashboard', () => {
  const panels = DASHBOARD.panels.filter(({ type }) => type !== 'row')
  const expressions = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))

  test('asks in every panel for what there is', () => {
    expect(panels.length).toBeGreaterThan(25)
    expect(panels.filter(({ targets = [] }) => targets.length === 0)).toEqual([])
    expect(expressions.flatMap(objectionsTo)).toEqual([])
  })

  test('shows every metric', () => {
    const shown = new Set(expressions.flatMap((expr) => askedIn(expr).asked.map(({ metric }) => familyOf(metric))))
    expect([...real.types.keys()].filter((family) => !shown.has(family))).toEqual([])
  })

  test('has its panels beside each other, each with an id of its own', () => {
    expect(new Set(DASHBOARD.panels.map(({ id }) => id)).size).toBe(DASHBOARD.panels.length)
    for (const [place, { title, gridPos: a }] of DASHBOARD.panels.entries()) {
      expect(a.x + a.w, title).toBeLessThanOrEqual(24)
      for (const { title: other, gridPos: b } of DASHBOARD.panels.slice(place + 1)) {
        const isApart = a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y
        expect(isApart, `${title} and ${other}`).toBe(true)
      }
    }
  })

  test('names in a legend only labels that its expression leaves', () => {
    for (const { expr, legendFormat } of panels.flatMap(({ targets = [] }) => targets)) {
      const { asked, grouped } = askedIn(expr)
      const kept = /\b(?:by|without)\b/.test(expr) ? grouped : [...GIVEN, ...asked.flatMap(({ labels }) => labels)]
      for (const [, label = ''] of legendFormat.matchAll(/\{\{(\w+)\}\}/g)) expect(kept, expr).toContain(label)
    }
  })
})

interface Rule {
  readonly alert: string
  readonly expr: string
  readonly for?: string
  readonly labels: { readonly severity: string }
  readonly annotations: { readonly summary: string; readonly description?: string }
}

describe('the alert rules', () => {
  const { groups }: { groups: readonly { readonly name: string; readonly rules: readonly Rule[] }[] } = parse(
    read('alerts.yml'),
  )
  const rules = groups.flatMap((group) => group.rules)

  test('ask for what there is', () => {
    expect(rules.length).toBeGreaterThan(10)
    expect(rules.flatMap(({ expr }) => objectionsTo(expr))).toEqual([])
  })

  test('see the first count too, of which `increase` tells only where the series was there before', () => {
    const increases = rules.flatMap(({ expr }) =>
      [...expr.matchAll(/increase\(((\w+)(?:\{(\w+)="(\w+)"\})?)\[(\w+)\]\)/g)].map(
        ([, selector = '', metric = '', label = '', value = '', range = '']) => ({
          isThere: fresh?.series.some(
            ({ name, labels }) => name === metric && (label === '' || labels[label] === value),
          ),
          isAdded: expr.includes(`${selector} unless ${selector} offset ${range}`),
        }),
      ),
    )
    expect(increases.length).toBe(rules.flatMap(({ expr }) => expr.match(/increase/g) ?? []).length)
    expect(increases.filter(({ isAdded }) => isAdded).length).toBeGreaterThan(0)
    for (const { isThere, isAdded } of increases) expect(isThere === true || isAdded).toBe(true)
  })

  test.each(rules)('$alert is a rule as Prometheus takes it', (rule) => {
    expect(rule.alert).toMatch(/^Tether[A-Za-z]+$/)
    if (rule.for !== undefined) expect(rule.for).toMatch(/^\d+[smh]$/)
    expect(['info', 'warning', 'critical']).toContain(rule.labels.severity)
    const { grouped } = askedIn(rule.expr)
    const isAggregate = /^(?:sum|max|histogram_quantile)\b/.test(rule.expr)
    for (const [, label = ''] of JSON.stringify(rule.annotations).matchAll(/\$labels\.(\w+)/g)) {
      if (isAggregate) expect(grouped, rule.alert).toContain(label)
      else expect(['instance'], rule.alert).toContain(label)
    }
  })
})

test('docs/ops/README.md lists every metric with its labels and what it is', () => {
  const rows = read('README.md')
    .split('\n')
    .filter((line) => /^\| `(?:tether|process|nodejs)_/.test(line))
    .map((line) => line.split('|').map((cell) => cell.trim().replaceAll('`', '')))
    .map(([, name, labels, what]) => ({ name, labels, what }))
  const families = [...real.helps].map(([name, what]) => ({ name, what }))
  expect(rows.map(({ name, what }) => ({ name, what }))).toEqual(families)
  for (const { name = '', labels = '' } of rows) {
    const own = real.labelsOf(name)
    if (own !== undefined) expect(labels, name).toBe(own.join(', '))
  }
})

describe('an expression is objected to', () => {
  test.each([
    'tether_no_such_metric',
    'tether_jobs_ended_total{color="red"}',
    'sum by (color) (tether_jobs_ended_total)',
    'tether_stop_seconds',
    'tether_jobs_running_bucket',
    '1',
  ])('%s', (expression) => {
    expect(objectionsTo(expression)).not.toEqual([])
  })

  test('that Prometheus cannot read', () => {
    expect(() => objectionsTo('sum by (x (')).toThrow()
  })
})
