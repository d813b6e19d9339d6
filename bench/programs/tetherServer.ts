import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { readConfig } from '../../src/config.ts'
import { isTerminalEvent } from '../../src/job/event.ts'
import { openTether, type Tether } from '../../src/tether.ts'
import { type Ended, sharedNowMs } from '../clock.ts'
import { answerCalls } from '../Program.ts'
import { readUsage } from '../usage.ts'
import { loadTasks } from './loadTasks.ts'

let tether: Tether | undefined
let folder: string | undefined
let ended: Ended[] = []

const calls = {
  /** Settles with the address. `env` are settings of the server (see config.ts). */
  async open(env: Readonly<Record<string, string>>): Promise<string> {
    folder = await mkdtemp(join(tmpdir(), 'tether-bench-'))
    tether = await openTether({
      config: readConfig({ PORT: '0', DATA_DIR: folder, LOG_LEVEL: 'error', ...env }),
      logger: pino({ level: 'error' }),
      serverEnv: process.env,
      cwd: folder,
      tasks: loadTasks,
    })
    // The function has settled and the event is in the log when a watcher is told of it.
    tether.jobs.watch(({ event, row }) => {
      if (isTerminalEvent(event.type)) ended.push({ id: row.id, atMs: sharedNowMs() })
    })
    return tether.url
  },
  /** The jobs that have ended since this was last asked. */
  takeEnded(): readonly Ended[] {
    const taken = ended
    ended = []
    return taken
  },
  countActive(): number {
    return tether?.jobs.activeCount ?? 0
  },
  usage: readUsage,
}

export type TetherServerCalls = typeof calls

answerCalls(calls, async () => {
  await tether?.stop()
  if (folder !== undefined) await rm(folder, { recursive: true, force: true })
})
