import { setTimeout as sleep } from 'node:timers/promises'
import { Program } from './Program.ts'
import type { BareOrder, BareServerCalls } from './programs/bareServer.ts'
import type { ClientCalls, Counted } from './programs/client.ts'
import type { LoadOrder } from './programs/loadTasks.ts'
import type { TetherServerCalls } from './programs/tetherServer.ts'
import { figure, median } from './quantile.ts'
import type { StreamOrder } from './StreamSocket.ts'
import { formatTable } from './table.ts'
import type { Usage } from './usage.ts'

/** Measured in turns, so that what else the machine does falls on all of them. */
const ROUNDS = 3
/** From the last stream's begin to the window that is measured. */
const WARM_UP_MS = 500
const WINDOW_MS = 800
/**
 * Streams hold still until all of them are open: a loop accepts one connection a turn (libuv), so the last of a thousand would
 * wait for seconds behind the turns of those that run.
 */
const HOLD_MS = { one: 0, many: 1000 }
/**
 * Idle streams are counted twice: the first ones make a process grow to its working size, and what the next ones add is their own.
 */
const IDLE_STREAMS = [1000, 1000]
const HOUR_MS = 3_600_000
/** Makes a frame of about 220 bytes. */
const TEXT = '.'.repeat(60)

const TETHER_ENV = { CONCURRENCY: '4000', MAX_STREAMS_PER_CLIENT: '10000' }

/** What a stream does, told to both servers. */
interface Load {
  readonly name: string
  readonly streams: number
  readonly order: LoadOrder
}

const LOADS: readonly Load[] = [
  ticks('1 stream, a tick every 5 ms', 1, 5),
  ticks('1,000 streams, a tick every 50 ms', 1000, 50),
  ticks('1,000 streams, ticks as fast as they go', 1000, 1),
  burst('1 stream, 64 events a turn', 1, 64),
  burst('1,000 streams, 8 events a turn', 1000, 8),
]

function ticks(name: string, streams: number, intervalMs: number): Load {
  return { name, streams, order: { kind: 'ticking', intervalMs } }
}

function burst(name: string, streams: number, perTurn: number): Load {
  return { name, streams, order: { kind: 'bursting', perTurn, text: TEXT } }
}

/** A server, and how it is asked for a load. */
interface Side {
  readonly name: string
  /** `beginAt` is wall time. */
  orderFrom(beginAt: number): StreamOrder
  usage(): Promise<Usage>
  /** Settles when nothing of the streams before is left. */
  calm(): Promise<void>
}

interface Measured {
  readonly eventsPerS: number
  readonly framesPerS: number
  readonly mbPerS: number
  readonly cpuUsPerEvent: number
}

/**
 * Events a second and processor time an event, with the log on, beside a bare `node:http` server that writes the same frames and
 * keeps nothing; and memory an idle stream. The reader is a process of its own which only counts.
 */
export async function streams(): Promise<void> {
  const rows: string[][] = []
  for (const load of LOADS) rows.push(...(await measureLoad(load)))
  console.log(
    formatTable(['load', 'server', 'events/s', '× bare', 'frames/event', 'MB/s', 'CPU µs/event', '× bare'], rows),
  )
  console.log('An event is a tick or an item; ticks that are logged together come in one frame.\n')
  console.log(formatTable(['idle streams', 'server', 'KiB of RSS each', '× bare', 'KiB of heap each'], await idle()))
}

async function measureLoad(load: Load): Promise<readonly string[][]> {
  await using bare = Program.start<BareServerCalls>('bareServer')
  await using tether = Program.start<TetherServerCalls>('tetherServer')
  await using client = Program.start<ClientCalls>('client')
  const sides = await sidesOf(load, bare, tether)
  const measured = new Map<Side, Measured[]>(sides.map((side) => [side, []]))
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [side, all] of measured) all.push(await measure(client, side, load.streams))
  }
  const of = (side: Side, what: keyof Measured): number => median(measured.get(side)?.map((m) => m[what]) ?? []) ?? 0
  const [baseline] = sides
  return sides.map((side) => [
    side === baseline ? load.name : '',
    side.name,
    figure(of(side, 'eventsPerS')),
    figure(of(side, 'eventsPerS') / of(baseline, 'eventsPerS')),
    figure(of(side, 'framesPerS') / of(side, 'eventsPerS')),
    figure(of(side, 'mbPerS')),
    figure(of(side, 'cpuUsPerEvent')),
    figure(of(side, 'cpuUsPerEvent') / of(baseline, 'cpuUsPerEvent')),
  ])
}

async function sidesOf(
  load: Load,
  bare: Program<BareServerCalls>,
  tether: Program<TetherServerCalls>,
): Promise<[Side, ...Side[]]> {
  const bareUrl = await bare.call('open', undefined)
  const tetherUrl = await tether.call('open', TETHER_ENV)
  const bareSide = (name: string, joined: boolean): Side => ({
    name,
    orderFrom: (beginAt) => ({
      url: bareUrl,
      path: '/',
      body: JSON.stringify({ ...load.order, beginAt, joined } satisfies BareOrder),
      begunBy: 'event: job.started',
    }),
    usage: () => bare.call('usage', undefined),
    calm: () => sleep(100),
  })
  const tetherSide: Side = {
    name: 'tether',
    orderFrom: (beginAt) => ({
      url: tetherUrl,
      path: '/execute/stream',
      body: JSON.stringify({ task: load.order.kind, input: { ...load.order, beginAt } }),
      begunBy: 'event: job.started',
    }),
    usage: () => tether.call('usage', undefined),
    async calm() {
      while ((await tether.call('countActive', undefined)) > 0) await sleep(20)
    },
  }
  return [
    bareSide('bare, a write a frame', false),
    // What a tick alone in its turn would be joined with, there is not.
    ...(load.order.kind === 'bursting' ? [bareSide('bare, a write a turn', true)] : []),
    tetherSide,
  ]
}

async function measure(client: Program<ClientCalls>, side: Side, streamCount: number): Promise<Measured> {
  const beginAt = Date.now() + (streamCount === 1 ? HOLD_MS.one : HOLD_MS.many)
  await client.call('open', { order: side.orderFrom(beginAt), streams: streamCount })
  await sleep(Math.max(0, beginAt - Date.now()) + WARM_UP_MS)
  const usedBefore = await side.usage()
  const before = await client.call('count', undefined)
  await sleep(WINDOW_MS)
  const after = await client.call('count', undefined)
  const usedAfter = await side.usage()
  await client.call('drop', 'rst')
  await side.calm()
  const seconds = (after.atMs - before.atMs) / 1000
  const events = eventsOf(after) - eventsOf(before)
  return {
    eventsPerS: events / seconds,
    framesPerS: (after.frames - before.frames) / seconds,
    mbPerS: (after.bytes - before.bytes) / 1e6 / seconds,
    cpuUsPerEvent: ((usedAfter.cpuMs - usedBefore.cpuMs) * 1000) / events,
  }
}

/** Ticks may share a frame; other events have one each. */
function eventsOf({ ticks: tickCount, frames }: Counted): number {
  return tickCount > 0 ? tickCount : frames
}

async function idle(): Promise<readonly string[][]> {
  const bare = await idleKib(0)
  const tether = await idleKib(1)
  return IDLE_STREAMS.flatMap((streamCount, step) => {
    const name = `${step === 0 ? 'the first' : 'the next'} ${streamCount.toLocaleString('en')}`
    const bareKib = bare[step]?.rss ?? Number.NaN
    return [
      [name, 'bare', figure(bareKib), figure(1), figure(bare[step]?.heap)],
      [
        '',
        'tether',
        figure(tether[step]?.rss),
        figure((tether[step]?.rss ?? Number.NaN) / bareKib),
        figure(tether[step]?.heap),
      ],
    ]
  })
}

/** KiB that a stream of each step adds to the server that stands at this place of `sidesOf`. */
async function idleKib(place: number): Promise<readonly { readonly rss: number; readonly heap: number }[]> {
  await using bare = Program.start<BareServerCalls>('bareServer', ['--expose-gc'])
  await using tether = Program.start<TetherServerCalls>('tetherServer', ['--expose-gc'])
  await using clients = new AsyncDisposableStack()
  const side = (await sidesOf(ticks('', 0, HOUR_MS), bare, tether))[place]
  if (side === undefined) throw new Error(`there is no side ${place}`)
  const steps: { rss: number; heap: number }[] = []
  let before = await side.usage()
  for (const streamCount of IDLE_STREAMS) {
    const client = clients.use(Program.start<ClientCalls>('client'))
    await client.call('open', { order: side.orderFrom(Date.now()), streams: streamCount })
    await sleep(SETTLE_MS)
    const after = await side.usage()
    steps.push({
      rss: (after.rssBytes - before.rssBytes) / 1024 / streamCount,
      heap: (after.heapBytes - before.heapBytes) / 1024 / streamCount,
    })
    before = after
  }
  return steps
}

const SETTLE_MS = 1000
