import type { Clock } from './clock.ts'
import type { Config } from './config.ts'
import type { SharedEngine, SharedTerms } from './jobs/SharedEngine.ts'
import type { Logger } from './logger.ts'

/** What connects a process with others that share its jobs, undefined where it is alone: then nothing of that is loaded. */
export function openSharedOf(
  config: Config,
  logger: Logger,
  clock: Clock,
): ((terms: SharedTerms) => Promise<SharedEngine>) | undefined {
  const { redisUrl } = config
  if (redisUrl === undefined) return undefined
  return async (terms) => {
    const { openRedisEngine } = await import('./cluster/openRedisEngine.ts')
    return openRedisEngine({ ...config, ...terms, url: redisUrl, prefix: config.redisPrefix, logger, clock })
  }
}
