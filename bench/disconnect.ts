import { setTimeout as sleep } from 'node:timers/promises'
import type { Ended } from './clock.ts'
import { Program } from './Program.ts'
import type { BareOrder, BareServerCalls } from './programs/bareServer.ts'
import type { ClientCalls } from './programs/client.ts'
import type { TetherServerCalls } from './programs/tetherServer.ts'
import { spread } from './quantile.ts'
import type { StreamOrder } from './StreamSocket.ts'
import { formatTable } from './table.ts'

/** How many streams are dropped one after the other, for a figure of one stream alone. */
const ALONE = { ticks: 150, command: 60 }
const AT_ONCE = 1000
const ROUNDS = 3
/** A thousand process trees take seconds to start. */
const ROUNDS_OF_COMMANDS = 1
const END_DEADLINE_MS = 30_000

const HOUR_MS = 3_600_000

/** The program that begins streams of one kind and says when each was over. */
interface Side {
  readonly name: string
  readonly order: StreamOrder
  takeEnded(): Promise<readonly Ended[]>
}

/**
 * From the instant at which a client leaves to the instant at which its job's function has settled and the terminal event is in
 * the log, beside what a bare `node:http` server needs to see that the same socket was closed.
 */
export async function disconnect(): Promise<void> {
  await using bare = Program.start<BareServerCalls>('bareServer')
  await using tether = Program.start<TetherServerCalls>('tetherServer')
  await using client = Program.start<ClientCalls>('client')
  const bareUrl = await bare.call('open', undefined)
  const tetherUrl = await tether.call('open', { CONCURRENCY: '2000', MAX_STREAMS_PER_CLIENT: '10000' })
  const takeFromTether = () => tether.call('takeEnded', undefined)
  const idleBare: Side = {
    name: 'bare node:http',
    order: {
      url: bareUrl,
      path: '/',
      body: JSON.stringify({ kind: 'ticking', intervalMs: HOUR_MS, beginAt: 0, joined: false } satisfies BareOrder),
      begunBy: 'event: job.started',
    },
    takeEnded: () => bare.call('takeEnded', undefined),
  }
  const ticks: Side = {
    name: 'ticks',
    order: {
      url: tetherUrl,
      path: '/execute/stream',
      body: JSON.stringify({ task: 'ticks', input: { count: 1, intervalMs: HOUR_MS } }),
      begunBy: 'event: job.started',
    },
    takeEnded: takeFromTether,
  }
  const command: Side = {
    name: 'command',
    order: {
      url: tetherUrl,
      path: '/execute/stream',
      body: JSON.stringify({ task: 'command', input: { command: 'echo up; exec sleep 600' } }),
      begunBy: 'event: output',
    },
    takeEnded: takeFromTether,
  }
  const rows: string[][] = []
  for (const how of ['fin', 'rst'] as const) {
    for (const side of [idleBare, ticks, command]) {
      // The first ones find code that was never run before.
      await alone(client, side, 20, how)
      const times = await alone(client, side, side === command ? ALONE.command : ALONE.ticks, how)
      rows.push(['one alone', how, side.name, String(times.length), ...spread(times)])
    }
  }
  for (const how of ['fin', 'rst'] as const) {
    const times = new Map<Side, number[]>([idleBare, ticks, command].map((side) => [side, []]))
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const [side, all] of times) {
        if (side === command && (round >= ROUNDS_OF_COMMANDS || how === 'rst')) continue
        all.push(...(await atOnce(client, side, how)))
      }
    }
    for (const [side, all] of times) {
      if (all.length > 0) rows.push([`${AT_ONCE} at once`, how, side.name, String(all.length), ...spread(all)])
    }
  }
  console.log(formatTable(['streams', 'left by', 'server', 'measured', 'p50 ms', 'p99 ms', 'max ms'], rows))
  console.log('Left to ended: for ticks and command the terminal event in the log, for bare the close of the response.')
}

async function alone(client: Program<ClientCalls>, side: Side, streams: number, how: 'fin' | 'rst') {
  await side.takeEnded()
  return timesOf(await client.call('dropEach', { order: side.order, streams, how }), side)
}

async function atOnce(client: Program<ClientCalls>, side: Side, how: 'fin' | 'rst') {
  await client.call('open', { order: side.order, streams: AT_ONCE })
  await sleep(500)
  await side.takeEnded()
  return timesOf(await client.call('drop', how), side)
}

async function timesOf(dropped: readonly Ended[], side: Side): Promise<readonly number[]> {
  const endedAtMs = new Map<string, number>()
  const latestMs = performance.now() + END_DEADLINE_MS
  while (endedAtMs.size < dropped.length) {
    if (performance.now() > latestMs) throw new Error(`${side.name}: ${endedAtMs.size} of ${dropped.length} have ended`)
    for (const { id, atMs } of await side.takeEnded()) endedAtMs.set(id, atMs)
    await sleep(20)
  }
  return dropped.map(({ id, atMs }) => (endedAtMs.get(id) ?? Number.NaN) - atMs)
}
