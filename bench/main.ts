import { availableParallelism, cpus, loadavg, totalmem } from 'node:os'
import { agent } from './agent.ts'
import { cluster } from './cluster.ts'
import { disconnect } from './disconnect.ts'
import { log } from './log.ts'
import { queue } from './queue.ts'
import { stop } from './stop.ts'
import { streams } from './streams.ts'

const BENCHES: Readonly<Record<string, () => Promise<void>>> = { disconnect, streams, stop, log, agent, queue, cluster }

async function main(names: readonly string[]): Promise<number> {
  const unknown = names.find((name) => !(name in BENCHES))
  if (unknown !== undefined) {
    process.stderr.write(`bench: ${JSON.stringify(unknown)} must be one of ${Object.keys(BENCHES).join(', ')}\n`)
    return 2
  }
  console.log(
    `node ${process.version}, ${availableParallelism()} × ${cpus()[0]?.model.trim() ?? 'unknown processor'}, ` +
      `${Math.round(totalmem() / 2 ** 30)} GiB, load ${(loadavg()[0] ?? 0).toFixed(1)}`,
  )
  for (const [name, run] of Object.entries(BENCHES)) {
    if (names.length > 0 && !names.includes(name)) continue
    console.log(`\n${name}\n`)
    await run()
  }
  return 0
}

process.exit(await main(process.argv.slice(2)))
