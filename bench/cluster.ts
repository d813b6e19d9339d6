import { setTimeout as sleep } from 'node:timers/promises'
import { RedisServer } from '../test/cluster/RedisServer.ts'
import type { Ended } from './clock.ts'
import { Program } from './Program.ts'
import type { BareRedisCalls } from './programs/bareRedis.ts'
import type { ClientCalls } from './programs/client.ts'
import type { ReaderCalls } from './programs/readers.ts'
import type { ReplicaCalls } from './programs/replica.ts'
import { figure, median, quantile, spread } from './quantile.ts'
import type { StreamOrder } from './StreamSocket.ts'
import { formatTable } from './table.ts'

const CANCELS = 300
/** Measured in turns, so that what else the machine does falls on all of them. */
const ROUNDS = 3
/** The first ones find code that was never run before. */
const WARM_UP = 30
const STARTS = 50
const WINDOW_MS = 1500
const JOBS = 4000
const JOBS_AT_ONCE = 100
const STREAMS = [0, 100, 1000]
const DEADLINE_MS = 30_000
/** Makes a frame of about 220 bytes. */
const TEXT = '.'.repeat(60)
const EVENTS_A_TURN = 64
const LOAD = { count: 0, text: TEXT, perTurn: EVENTS_A_TURN, everyMs: 0 }

const GOALS = { cancelP50: 0.5, cancelP99: 2, cut: 300, jobsShare: 0.7 }

const ENV = { CONCURRENCY: '4000', MAX_STREAMS_PER_CLIENT: '10000', MAX_QUEUED: '1000000' }

/** Two servers that are one: A takes requests and runs nothing, so that all jobs run on B. */
interface Pair {
  readonly redis: RedisServer
  readonly a: Program<ReplicaCalls>
  readonly b: Program<ReplicaCalls>
  readonly urlOfA: string
  readonly urlOfB: string
}

/** What it costs that the request comes to one server and the job runs on another, beside Redis, pub/sub and BullMQ alone. */
export async function cluster(): Promise<void> {
  await using redis = await RedisServer.start({ args: REDIS_ARGS })
  {
    await using a = Program.start<ReplicaCalls>('replica')
    await using b = Program.start<ReplicaCalls>('replica')
    const urlOfA = await a.call('open', { url: redis.url, runsJobs: false, env: ENV })
    const urlOfB = await b.call('open', { url: redis.url, runsJobs: true, env: ENV })
    const pair = { redis, a, b, urlOfA, urlOfB }
    console.log(
      formatTable(
        ['from one process to another', 'measured', 'p50 ms', 'p99 ms', 'max ms', 'goal'],
        await cancelling(pair),
      ),
    )
    console.log('Cancelled on A, where the call begins, to aborted on B, where the signal fires.\n')
    console.log(
      formatTable(['started, to its first output', 'p50 ms', 'p99 ms', 'max ms', '× own'], await starting(pair)),
    )
    console.log(
      'Over HTTP, from the request to the event, read from the server that runs the job or from the other one.\n',
    )
    console.log(formatTable(['relayed as fast as it goes', 'events/s', '× bare'], await relaying(pair)))
    console.log(
      `Bare: XADD and PUBLISH of ${EVENTS_A_TURN} events of the same length at once, heard in another process.\n`,
    )
    console.log(
      formatTable(['streams of jobs on B, read from A', 'Redis connections of each process'], await connecting(pair)),
    )
    console.log('Two for the queue (BullMQ), one each for commands, for hints and for what is followed.\n')
  }
  console.log(formatTable(['two processes that start and run jobs', 'jobs/s', '× bare', 'goal'], await running(redis)))
  console.log('Jobs that do nothing, 100 starts at once in each. Bare BullMQ keeps no record, no log and no outcome.')
}

/** As Redis is to be run with Tether. */
const REDIS_ARGS = ['--maxmemory-policy', 'noeviction', '--appendonly', 'yes', '--appendfsync', 'everysec']

async function cancelling({ redis, a, b }: Pair): Promise<readonly string[][]> {
  await using publisher = Program.start<BareRedisCalls>('bareRedis')
  await using subscriber = Program.start<BareRedisCalls>('bareRedis')
  await publisher.call('connect', redis.url)
  await subscriber.call('subscribe', redis.url)
  const publish = async (times: number) =>
    timesOf(await publisher.call('publishEach', times), () => subscriber.call('takeHeard', undefined))
  const cancel = async (times: number, cut = false) => {
    const ids = await a.call('startWaiting', times)
    await until('the jobs run on B', () => b.call('haveBegun', ids))
    return timesOf(await a.call('cancelEach', { ids, cut }), () => b.call('takeAborted', undefined))
  }
  await publisher.call('ping', WARM_UP)
  await publish(WARM_UP)
  await cancel(WARM_UP)
  const trips: number[] = []
  const heard: number[] = []
  const aborted: number[] = []
  const afterCut: number[] = []
  for (let round = 0; round < ROUNDS; round += 1) {
    trips.push(...(await publisher.call('ping', CANCELS / ROUNDS)))
    heard.push(...(await publish(CANCELS / ROUNDS)))
    aborted.push(...(await cancel(CANCELS / ROUNDS)))
    afterCut.push(...(await cancel(CANCELS / ROUNDS, true)))
  }
  const row = (name: string, values: readonly number[], goal: string) => [
    name,
    String(values.length),
    ...spread(values),
    goal,
  ]
  const overP50 = (quantile(aborted, 0.5) ?? Number.NaN) - (quantile(heard, 0.5) ?? Number.NaN)
  const overP99 = (quantile(aborted, 0.99) ?? Number.NaN) - (quantile(heard, 0.99) ?? Number.NaN)
  return [
    row('Redis, there and back', trips, ''),
    row('bare pub/sub', heard, ''),
    row('cancelled on A to aborted on B', aborted, ''),
    [
      '  over bare pub/sub',
      '',
      figure(overP50),
      figure(overP99),
      '',
      `p50 < ${GOALS.cancelP50}: ${met(overP50 < GOALS.cancelP50)}, p99 < ${GOALS.cancelP99}: ${met(overP99 < GOALS.cancelP99)}`,
    ],
    row(
      'the same, B cut off just before',
      afterCut,
      `max < ${GOALS.cut}: ${met((quantile(afterCut, 1) ?? Number.NaN) < GOALS.cut)}`,
    ),
  ]
}

async function starting({ urlOfA, urlOfB }: Pair): Promise<readonly string[][]> {
  await using reader = Program.start<ReaderCalls>('readers')
  const own: number[] = []
  const other: number[] = []
  const read = async (url: string, times: number, all: number[]) => {
    for (let n = 0; n < times; n += 1) {
      const body = JSON.stringify({ task: 'speaking', input: {} })
      const order = { url, path: '/execute/stream', body, begunBy: 'id: ' }
      all.push((await reader.call('read', { order, last: 'event: output' })).wholeMs)
    }
  }
  await read(urlOfB, WARM_UP, [])
  await read(urlOfA, WARM_UP, [])
  for (let round = 0; round < ROUNDS; round += 1) {
    await read(urlOfB, STARTS, own)
    await read(urlOfA, STARTS, other)
  }
  const ownP50 = median(own) ?? Number.NaN
  return [
    ['read from the server that runs it', ...spread(own), figure(1)],
    ['read from the other one', ...spread(other), figure((median(other) ?? Number.NaN) / ownP50)],
  ]
}

async function relaying({ redis, urlOfA, urlOfB }: Pair): Promise<readonly string[][]> {
  const bare: number[] = []
  const own: number[] = []
  const other: number[] = []
  for (let round = 0; round < ROUNDS; round += 1) {
    bare.push(await relayedBare(redis))
    own.push(await relayed(urlOfA, urlOfB))
    other.push(await relayed(urlOfA, urlOfA))
  }
  const baseline = median(bare) ?? Number.NaN
  return [
    ['bare', bare],
    ['read from the server that runs it', own],
    ['read from the other one', other],
  ].map(([name, rates]) => {
    const rate = median(rates as readonly number[]) ?? Number.NaN
    return [String(name), figure(rate), figure(rate / baseline)]
  })
}

async function relayedBare(redis: RedisServer): Promise<number> {
  await using publisher = Program.start<BareRedisCalls>('bareRedis')
  await using subscriber = Program.start<BareRedisCalls>('bareRedis')
  await publisher.call('connect', redis.url)
  await subscriber.call('subscribe', redis.url)
  await publisher.call('publishOn', '.'.repeat(EVENT_BYTES * EVENTS_A_TURN))
  await sleep(WINDOW_MS / 3)
  const before = await subscriber.call('countHeard', undefined)
  await sleep(WINDOW_MS)
  const after = await subscriber.call('countHeard', undefined)
  await publisher.call('stopPublishing', undefined)
  return (((after.messages - before.messages) * EVENTS_A_TURN) / (after.atMs - before.atMs)) * 1000
}

/** As an event stands in the log. */
const EVENT_BYTES = 170

async function relayed(startUrl: string, readUrl: string): Promise<number> {
  await using client = Program.start<ClientCalls>('client')
  const id = await start(startUrl, 'filling', LOAD)
  const order: StreamOrder = { url: readUrl, path: `/jobs/${id}/events`, begunBy: 'id: ' }
  await client.call('open', { order, streams: 1 })
  await sleep(WINDOW_MS / 3)
  const before = await client.call('count', undefined)
  await sleep(WINDOW_MS)
  const after = await client.call('count', undefined)
  await client.call('drop', 'rst')
  await fetch(`${startUrl}/jobs/${id}/cancel?wait=10`, { method: 'POST' })
  return ((after.frames - before.frames) / (after.atMs - before.atMs)) * 1000
}

async function connecting({ redis, urlOfA }: Pair): Promise<readonly string[][]> {
  const rows: string[][] = []
  for (const streams of STREAMS) {
    await using client = Program.start<ClientCalls>('client')
    const body = JSON.stringify({ task: 'speaking', input: {} })
    const order = { url: urlOfA, path: '/execute/stream', body, begunBy: 'event: output' }
    await client.call('open', { order, streams })
    const connections = String(await redis.run('CLIENT', 'LIST'))
      .split('\n')
      .filter((line) => line.startsWith('id=') && !line.includes(' cmd=client'))
    rows.push([streams.toLocaleString('en'), figure(connections.length / 2)])
    await client.call('drop', 'rst')
    await until('the jobs have ended', async () => (await redis.run('ZCARD', 'tether:active')) === 0)
  }
  return rows
}

async function running(redis: RedisServer): Promise<readonly string[][]> {
  const bare: number[] = []
  const tether: number[] = []
  for (let round = 0; round < ROUNDS; round += 1) {
    bare.push(await bareJobsPerS(redis))
    tether.push(await jobsPerS(redis))
  }
  const baseline = median(bare) ?? Number.NaN
  const share = (median(tether) ?? Number.NaN) / baseline
  return [
    ['bare BullMQ', figure(baseline), figure(1), ''],
    ['tether', figure(median(tether)), figure(share), `≥ ${GOALS.jobsShare}: ${met(share >= GOALS.jobsShare)}`],
  ]
}

async function bareJobsPerS({ url }: RedisServer): Promise<number> {
  await using one = Program.start<BareRedisCalls>('bareRedis')
  await using other = Program.start<BareRedisCalls>('bareRedis')
  const both = [one, other]
  for (const program of both) await program.call('openQueue', { url, concurrency: JOBS_AT_ONCE })
  const run = async (jobs: number, name: string): Promise<number> => {
    const counts = () => Promise.all(both.map((program) => program.call('countRan', undefined)))
    const before = sum(await counts())
    const beganMs = performance.now()
    const added = both.map((program, index) =>
      program.call('addMany', { jobs: jobs / 2, atOnce: JOBS_AT_ONCE, name: `${name}${index}` }),
    )
    await until('all have run', async () => sum(await counts()) - before >= jobs)
    const tookMs = performance.now() - beganMs
    await Promise.all(added)
    return (jobs / tookMs) * 1000
  }
  await run(JOBS / 4, 'warm')
  // Awaited here: the programs must not be gone before.
  return await run(JOBS, 'job')
}

async function jobsPerS(redis: RedisServer): Promise<number> {
  await using one = Program.start<ReplicaCalls>('replica')
  await using other = Program.start<ReplicaCalls>('replica')
  const both = [one, other]
  const env = { ...ENV, CONCURRENCY: String(JOBS_AT_ONCE) }
  for (const program of both) await program.call('open', { url: redis.url, runsJobs: true, env })
  const run = async (jobs: number): Promise<number> => {
    const before = Number(await redis.run('ZCARD', 'tether:ended'))
    const beganMs = performance.now()
    const started = both.map((program) => program.call('startMany', { jobs: jobs / 2, atOnce: JOBS_AT_ONCE }))
    await until('all have ended', async () => Number(await redis.run('ZCARD', 'tether:ended')) - before >= jobs)
    const tookMs = performance.now() - beganMs
    await Promise.all(started)
    return (jobs / tookMs) * 1000
  }
  await run(JOBS / 4)
  // Awaited here: the programs must not be gone before.
  return await run(JOBS)
}

async function start(url: string, task: string, input: object): Promise<string> {
  const answer = await fetch(`${url}/jobs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ task, input }),
  })
  const { id }: { readonly id: string } = JSON.parse(await answer.text())
  return id
}

async function timesOf(began: readonly Ended[], take: () => Promise<readonly Ended[]>): Promise<readonly number[]> {
  const endedAtMs = new Map<string, number>()
  await until('all have come', async () => {
    for (const { id, atMs } of await take()) endedAtMs.set(id, atMs)
    return began.every(({ id }) => endedAtMs.has(id))
  })
  return began.map(({ id, atMs }) => (endedAtMs.get(id) ?? Number.NaN) - atMs)
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const latestMs = performance.now() + DEADLINE_MS
  while (!(await holds())) {
    if (performance.now() > latestMs) throw new Error(`not within ${DEADLINE_MS} ms: ${what}`)
    await sleep(LOOK_AGAIN_MS)
  }
}

const LOOK_AGAIN_MS = 10

function sum(values: readonly number[]): number {
  return values.reduce((all, value) => all + value, 0)
}

function met(isMet: boolean): string {
  return isMet ? 'met' : 'NOT MET'
}
