#!/usr/bin/env node
import { randomInt } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { spread } from '../bench/quantile.ts'
import { formatTable } from '../bench/table.ts'
import type { JobView } from '../src/job/view.ts'
import { playStream, type Sighting, type Target } from './storm/client.ts'
import { OwnServer } from './storm/OwnServer.ts'
import { HELP, parseOptions, type StormOptions, UsageError } from './storm/options.ts'
import { MOMENTS, type PlannedStream, planStorm } from './storm/plan.ts'
import { randomFrom } from './storm/random.ts'
import { type Descriptors, killNaming, processesNaming, ServerProcess } from './storm/ServerProcess.ts'
import { TetherApi } from './storm/TetherApi.ts'
import { judge, type Verdict } from './storm/verdict.ts'

/** A server of our own runs this share of the clients' jobs at once, so that the others wait. */
const SHARE_OF_SLOTS = 1 / 3

/** How long the server may need, once all clients are gone, to be as it was before. */
const CALM_DEADLINE_MS = 30_000
const LOOK_AGAIN_MS = 50
const STEADY_LOOKS = 10
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
  const ownServer = options.url === undefined ? await OwnServer.start(slotsFor(options)) : undefined
  const url = options.url ?? ownServer?.url
  if (url === undefined) throw new Error('there is neither a URL nor a server of our own')
  // However this ends, a server of ours does not outlive it.
  const onSignal = (): void => void (ownServer?.remove() ?? Promise.resolve()).finally(() => process.exit(130))
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal)
  try {
    const findings = await storm(url, options, ownServer)
    report(findings)
    return findings.leftOver.length === 0 && findings.verdicts.every(isRight) ? 0 : 1
  } finally {
    await ownServer?.remove()
  }
}

function slotsFor({ concurrency }: StormOptions): number {
  return Math.max(2, Math.floor(concurrency * SHARE_OF_SLOTS))
}

async function storm(url: URL, options: StormOptions, ownServer: OwnServer | undefined): Promise<Findings> {
  const { streams, seed, concurrency } = options
  const api = new TetherApi(url)
  // Not from the seed: what an earlier storm has left must not be taken for this one's.
  const run = `storm-${randomInt(1e9, 1e10)}`
  const wordStem = `0.0000${randomInt(1e9, 1e10)}`
  const { containment } = await api.ready()
  const server = await warmUp(api, wordStem)
  await api.disconnect()
  server?.noteOwnChildren()
  const before = server === undefined ? undefined : await steadyDescriptors(server)
  const plan = planStorm(randomFrom(seed), {
    streams,
    run,
    isComplete: containment.complete,
    wordOf: (index) => `${wordStem}${String(index).padStart(5, '0')}`,
  })
  say(
    `${streams} streams, ${concurrency} at once, seed ${seed}; server ${url.origin}, ` +
      `process ${server?.pid ?? 'not seen'}, containment ${containment.level}`,
  )
  const sightings = await playAll(plan, concurrency, { url, api, group: run })
  await calm(api)
  const leftOver = await lookFor(api, server, wordStem)
  const verdicts = await judgeAll(api, run, sightings)
  await api.disconnect()
  if (server !== undefined && before !== undefined) leftOver.push(...(await extraDescriptors(server, before)))
  if (ownServer !== undefined) leftOver.push(...(await endServer(ownServer, server, wordStem)))
  killNaming(wordStem)
  return { verdicts, leftOver }
}

/** What a server opens once is open after a job of each kind and this much output; the jobs also tell which process it is. */
const WARM_UP = { task: 'ticks', input: { count: 1300, intervalMs: 0, bytes: 16 * 1024 } }

async function warmUp(api: TetherApi, word: string): Promise<ServerProcess | undefined> {
  await api.execute({ task: 'command', input: { command: `sleep 0 ${word}` } })
  const job = await api.execute(WARM_UP)
  return ServerProcess.ofJob(job)
}

async function playAll(
  plan: readonly PlannedStream[],
  concurrency: number,
  target: Target,
): Promise<readonly Sighting[]> {
  const sightings: Sighting[] = []
  const rest = plan.values()
  const progress = showProgress(() => `${sightings.length} of ${plan.length} streams are over`)
  const client = async (): Promise<void> => {
    // One iterator for all clients: each takes the next stream that nobody has.
    for (const planned of rest) sightings.push(await playStream(planned, target))
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

/** Waits until the server says that nothing runs and nothing waits; what does not come about is found by who looks next. */
async function calm(api: TetherApi): Promise<void> {
  await within(CALM_DEADLINE_MS, async () => {
    const { running, queued, stuck } = await api.ready()
    return running === 0 && queued === 0 && stuck.length === 0
  })
}

async function lookFor(api: TetherApi, server: ServerProcess | undefined, word: string): Promise<string[]> {
  const { running, queued, stuck, ready } = await api.ready()
  const leftOver: string[] = []
  if (!ready) leftOver.push('the server is not ready')
  if (running > 0) leftOver.push(`${running} functions run`)
  if (queued > 0) leftOver.push(`${queued} jobs are queued`)
  for (const { id } of stuck) leftOver.push(`job ${id} is stuck`)
  // At once, not after a while: a job that has ended has no processes.
  const processes = server === undefined ? processesNaming(word) : server.processesOf(word)
  leftOver.push(...processes.map((line) => `process ${line}`))
  for (const line of server?.children() ?? []) leftOver.push(`child of the server ${line}`)
  for (const path of server?.controlGroups() ?? []) leftOver.push(`control group ${path}`)
  return leftOver
}

async function judgeAll(api: TetherApi, group: string, sightings: readonly Sighting[]): Promise<readonly Verdict[]> {
  const jobsByStream = Map.groupBy(await api.jobsOf(group), streamOf)
  const verdicts: Verdict[] = []
  const rest = sightings.values()
  const worker = async (): Promise<void> => {
    for (const sighting of rest) {
      const jobs = jobsByStream.get(sighting.planned.index) ?? []
      const log = jobs[0]?.terminal === true ? await api.logOf(jobs[0].id) : []
      verdicts.push(judge(sighting, jobs, log))
    }
  }
  await Promise.all(Array.from({ length: LOGS_AT_ONCE }, worker))
  return verdicts
}

function streamOf(job: JobView): number {
  return Number(job.metadata['stream'])
}

/** The count once it has been the same for a while: connections that we closed are closed on the other side a moment later. */
async function steadyDescriptors(server: ServerProcess): Promise<Descriptors> {
  let last = server.descriptors()
  let sameLooks = 0
  await within(CALM_DEADLINE_MS, async () => {
    await sleep(LOOK_AGAIN_MS)
    const now = server.descriptors()
    sameLooks = isDeepStrictEqual(now, last) ? sameLooks + 1 : 0
    last = now
    return sameLooks === STEADY_LOOKS
  })
  return last
}

/** Closed connections are closed on the other side a moment later, so this waits for the count to come back. */
async function extraDescriptors(server: ServerProcess, before: Descriptors): Promise<readonly string[]> {
  const extra = (): string[] =>
    Object.entries(server.descriptors()).flatMap(([kind, count]) =>
      count > (before[kind] ?? 0) ? [`${count - (before[kind] ?? 0)} descriptors of the server: ${kind}`] : [],
    )
  await within(CALM_DEADLINE_MS, () => Promise.resolve(extra().length === 0))
  return extra()
}

async function endServer(
  ownServer: OwnServer,
  server: ServerProcess | undefined,
  word: string,
): Promise<readonly string[]> {
  const files = await ownServer.temporaryFiles()
  const exit = await ownServer.stop()
  server?.forgetOwnChildren()
  const processes = (): readonly string[] => server?.processesOf(word) ?? processesNaming(word)
  // What watches over a server's processes learns of its end a moment later.
  await within(CALM_DEADLINE_MS, () => Promise.resolve(processes().length === 0))
  return [
    ...files.map((file) => `temporary file ${file}`),
    ...(exit === '0' ? [] : [`the server exited with ${exit}`]),
    ...ownServer.complaints.map((line) => `the server said: ${line}`),
    ...processes().map((line) => `process ${line} after the server's end`),
    ...(server?.controlGroups() ?? []).map((path) => `control group ${path} after the server's end`),
  ]
}

async function within(deadlineMs: number, holds: () => Promise<boolean>): Promise<void> {
  const endsMs = performance.now() + deadlineMs
  while (!(await holds()) && performance.now() < endsMs) await sleep(LOOK_AGAIN_MS)
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
