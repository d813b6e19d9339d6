import { pino } from 'pino'
import { expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { openRedisEngine } from '../../src/cluster/openRedisEngine.ts'
import { readConfig } from '../../src/config.ts'
import { openTether } from '../../src/tether.ts'
import { temporaryFolder } from '../world.ts'
import { startServer } from './world.ts'

test('a replica that has stopped counts as gone at once', async () => {
  const redis = await startServer()
  const logger = pino({ level: 'silent' })
  const config = readConfig({ PORT: '0', DATA_DIR: await temporaryFolder(), CONTAINMENT: 'group' })
  const tether = await openTether({
    config,
    logger,
    serverEnv: process.env,
    cwd: config.dataDir,
    openShared: (terms) => openRedisEngine({ ...config, ...terms, url: redis.url, logger, clock: systemClock }),
  })
  const living = async (): Promise<unknown> => redis.run('ZRANGE', 'tether:replicas', '1', '+inf', 'BYSCORE')
  expect(await living()).toHaveLength(1)

  await tether.stop()

  expect(await living()).toEqual([])
})
