#!/usr/bin/env node
import { randomInt } from 'node:crypto'
import { spread } from '../bench/quantile.ts'
import { formatTable } from '../bench/table.ts'
import type { JobView } from '../src/job/view.ts'
import { playStream, type Sighting, type Target } from './storm/client.ts'
import { HELP, parseOptions, type StormOptions, UsageError } from './storm/options.ts'
import { MOMENTS, type PlannedStream, planStorm } from './storm/plan.ts'
import { randomFrom } from './storm/random.ts'
import { killNaming } from './storm/ServerProcess.ts'
import { Stormed } from './storm/Stormed.ts'
import { judge, type Verdict } from './storm/verdict.ts'
import { CALM_DEADLINE_MS, within } from './storm/within.ts'

/** How long between lines of progress where nobody watches, and where somebody does. */
const PROGRESS_MS = { lines: 5000, terminal: 200 }
const LOGS_AT_ONCE = 8
const MAX_LINES_SHOWN = 20

interface Findings {
  readonly verdicts: readonly Verdict[]
  /** What should not be there any more. */
  readonly leftOver: readonly string[]
}

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2))
  if (options === undefined) {
    say(HELP)
    return 0
  }
  const stormed = await Stormed.open(options)
  // However this ends, servers of ours do not outlive it.
  const onSignal = (): void => void stormed.remove().finally(() => process.exit(130))
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal)
  try {
    const findings = await storm(stormed, options)
    report(findings)
    return findings.leftOver.length === 0 && findings.verdicts.every(isRight) ? 0 : 1
  } finally {
    await stormed.remove()
  }
}

async function storm(stormed: Stormed, { streams, seed, concurrency, kills }: StormOptions): Promise<Findings> {
  const { api, url, replicas } = stormed
  // Not from the seed: what an earlier storm has left must not be taken for this one's.
  const run = `storm-${randomInt(1e9, 1e10)}`
  const wordStem = `0.0000${randomInt(1e9, 1e10)}`
  const { containment } = await api.ready()
  await api.disconnect()
  await stormed.warmUp(wordStem)
  const plan = planStorm(randomFrom(seed), {
    streams,
    run,
    isComplete: containment.complete,
    wordOf: (index) => `${wordStem}${String(index).padStart(5, '0')}`,
  })
  say(
    `${streams} streams, ${concurrency} at once, seed ${seed}; server ${url.origin}, ` +
      `process ${replicas.map(({ pid }) => pid ?? 'not seen').join(', ')}, containment ${containment.level}`,
  )
  const killOne = once(() => stormed.killOne())
  const sightings = await playAll(plan, concurrency, { url, api, group: run }, async (over) => {
    if (kills && over * 2 >= streams) await killOne()
  })
  await calm(stormed, run)
  const leftOver: string[] = []
  for (const replica of replicas) leftOver.push(...(await replica.leftOver(wordStem)))
  const verdicts = await judgeAll(stormed, run, sightings)
  await api.disconnect()
  for (const replica of replicas) leftOver.push(...(await replica.extraDescriptors()))
  leftOver.push(...(await stormed.end(wordStem)))
  killNaming(wordStem)
  return { verdicts, leftOver }
}

async function playAll(
  plan: readonly PlannedStream[],
  concurrency: number,
  target: Target,
  onOver: (over: number) => Promise<void>,
): Promise<readonly Sighting[]> {
  const sightings: Sighting[] = []
  const rest = plan.values()
  const progress = showProgress(() => `${sightings.length} of ${plan.length} streams are over`)
  const client = async (): Promise<void> => {
    // One iterator for all clients: each takes the next stream that nobody has.
    for (const planned of rest) {
      sightings.push(await playStream(planned, target))
      await onOver(sightings.length)
    }
  }
  await Promise.all(Array.from({ length: Math.min(concurrency, plan.length) }, client))
  progress.end()
  return sightings
}

function showProgress(lineOf: () => string): { end(): void } {
  const { isTTY } = process.stdout
  const show = (): void => void process.stdout.write(isTTY ? `\r${lineOf()}` : `${lineOf()}\n`)
  const timer = setInterval(show, isTTY ? PROGRESS_MS.terminal : PROGRESS_MS.lines)
  return {
    end() {
      clearInterval(timer)
      show()
      if (isTTY) process.stdout.write('\n')
    },
  }
}

/** Waits until nothing runs and nothing waits, wherever; what does not come about is found by who looks next. */
async function calm({ api, replicas }: Stormed, group: string): Promise<void> {
  await within(CALM_DEADLINE_MS, async () => {
    for (const replica of replicas) if (!(await replica.isCalm())) return false
    return (await api.jobsOf(group)).every(({ terminal }) => terminal)
  })
}

async function judgeAll(stormed: Stormed, group: string, sightings: readonly Sighting[]): Promise<readonly Verdict[]> {
  const { api } = stormed
  const jobsByStream = Map.groupBy(await api.jobsOf(group), streamOf)
  const verdicts: Verdict[] = []
  const rest = sightings.values()
  const worker = async (): Promise<void> => {
    for (const sighting of rest) {
      const jobs = jobsByStream.get(sighting.planned.index) ?? []
      const log = jobs[0]?.terminal === true ? await api.logOf(jobs[0].id) : []
      verdicts.push(judge(sighting, jobs, log, stormed.excuseFor(sighting, jobs[0])))
    }
  }
  await Promise.all(Array.from({ length: LOGS_AT_ONCE }, worker))
  return verdicts
}

function streamOf(job: JobView): number {
  return Number(job.metadata['stream'])
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined
  return () => (made ??= { value: make() }).value
}

function isRight(verdict: Verdict): boolean {
  return verdict.isAllowed && verdict.problems.length === 0
}

function report({ verdicts, leftOver }: Findings): void {
  say(`\n${formatTable(['moment', 'outcome', 'allowed', 'streams', 'p50 ms', 'p99 ms', 'max ms'], rowsOf(verdicts))}\n`)
  say('Milliseconds: from the leaving or the request to the end of the job, its processes looked for and gone.')
  const problems = verdicts.flatMap((verdict) => verdict.problems)
  sayList(`${verdicts.filter(({ isAllowed }) => !isAllowed).length} outcomes that are not allowed`, [])
  sayList(`${problems.length} other objections`, problems)
  sayList(`${leftOver.length} things left over`, leftOver)
}

function rowsOf(verdicts: readonly Verdict[]): readonly (readonly string[])[] {
  return Object.keys(MOMENTS).flatMap((moment) => {
    const ofMoment = verdicts.filter((verdict) => verdict.moment === moment)
    const groups = Map.groupBy(ofMoment, ({ outcome, isAllowed }) => `${outcome}\0${isAllowed ? 'yes' : 'NO'}`)
    return [...groups]
      .sort(([a], [b]) => a.localeCompare(b))
      .map(([key, group]) => {
        const times = group.flatMap(({ endedAfterMs }) => (endedAfterMs === undefined ? [] : [endedAfterMs]))
        return [moment, ...key.split('\0'), String(group.length), ...spread(times)]
      })
  })
}

function sayList(title: string, lines: readonly string[]): void {
  say(title)
  for (const line of lines.slice(0, MAX_LINES_SHOWN)) say(`  ${line}`)
  if (lines.length > MAX_LINES_SHOWN) say(`  and ${lines.length - MAX_LINES_SHOWN} more`)
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    if (error instanceof UsageError) {
      process.stderr.write(`storm: ${error.message}\n`)
      process.exit(2)
    }
    process.stderr.write(`storm: ${error instanceof Error ? error.stack : String(error)}\n`)
    process.exit(1)
  },
)
