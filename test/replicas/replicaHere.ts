import { pino } from 'pino'
import { onTestFinished } from 'vitest'
import { type Clock, systemClock } from '../../src/clock.ts'
import { openRedisEngine } from '../../src/cluster/openRedisEngine.ts'
import { readConfig } from '../../src/config.ts'
import type { TaskDefinition } from '../../src/execution/task.ts'
import type { SharedEngine } from '../../src/jobs/SharedEngine.ts'
import { openTether, type Tether } from '../../src/tether.ts'
import { temporaryFolder } from '../world.ts'

export interface ReplicaHereOptions {
  readonly settings?: Readonly<Record<string, string>>
  readonly dataDir?: string
  readonly tasks?: readonly TaskDefinition[]
  /** All but what it shares goes by it. */
  readonly clock?: Clock
  /** May change what it shares before it is used. */
  readonly prepare?: (engine: SharedEngine) => void
}

/** A replica in this process, which ends with the test: for what cannot be had from outside. */
export async function openReplicaHere(redisUrl: string, options: ReplicaHereOptions = {}): Promise<Tether> {
  const { settings, clock = systemClock, tasks = [], prepare } = options
  const dataDir = options.dataDir ?? (await temporaryFolder())
  const config = readConfig({ PORT: '0', DATA_DIR: dataDir, CONTAINMENT: 'group', REDIS_URL: redisUrl, ...settings })
  const logger = pino({ level: 'silent' })
  const tether = await openTether({
    config,
    logger,
    clock,
    tasks,
    serverEnv: process.env,
    cwd: dataDir,
    openShared: async (terms) => {
      const engine = await openRedisEngine({ ...config, ...terms, url: redisUrl, logger, clock: systemClock })
      prepare?.(engine)
      return engine
    },
  })
  onTestFinished(() => tether.stop())
  return tether
}
