import { RedisServer } from '../test/cluster/RedisServer.ts'
import { Program } from './Program.ts'
import type { QueueFigures, QueueRunnerCalls } from './programs/queueRunner.ts'
import { figure, median, spread } from './quantile.ts'
import { formatTable } from './table.ts'

const ROUNDS = 5
const ORDER = { jobs: 20_000, concurrency: 100, singles: 200 }

/** What the queue of several servers costs beside BullMQ alone, with a Redis of its own. */
export async function queue(): Promise<void> {
  await using redis = await RedisServer.start()
  const sides = { bare: [] as QueueFigures[], tether: [] as QueueFigures[] }
  for (let round = 0; round < ROUNDS; round += 1) {
    // A process each: what one has made of the other's code would count for it.
    for (const side of ['bare', 'tether'] as const) {
      await using runner = Program.start<QueueRunnerCalls>('queueRunner')
      sides[side].push(await runner.call(side, { url: redis.url, ...ORDER }))
    }
  }
  const ranBare = median(sides.bare.map(({ ranPerS }) => ranPerS)) ?? Number.NaN
  const addedBare = median(sides.bare.map(({ addedPerS }) => addedPerS)) ?? Number.NaN
  const rows = Object.entries(sides).map(([name, rounds]) => {
    const ran = median(rounds.map(({ ranPerS }) => ranPerS)) ?? Number.NaN
    const added = median(rounds.map(({ addedPerS }) => addedPerS)) ?? Number.NaN
    const start = spread(rounds.flatMap(({ startMs }) => startMs))
    return [name, figure(added), figure(added / addedBare), figure(ran), figure(ran / ranBare), ...start]
  })
  const head = ['one replica', 'added/s', '× bare', 'run/s', '× bare', 'start ms p50', 'p99', 'highest']
  console.log(formatTable(head, rows))
  console.log('Jobs that do nothing, 100 at once. Bare is BullMQ alone, with priorities and ids of the same length.')
}
