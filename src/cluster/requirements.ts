import { StoreError } from '../store/JobStore.ts'
import type { RedisConnection } from './RedisConnection.ts'
import { RedisFailure } from './RedisFailure.ts'

/** The first that knows the flags of scripts by which ends are written also where memory is full. */
const MIN_VERSION = 7

/** Whoever comes when this part of the connections is taken is warned. */
const SCARCE_PART = 0.9

/** A Redis that answers, and that waiting does not make fit. */
export class UnfitRedisError extends StoreError {}

/** @throws {UnfitRedisError} where this Redis is too old, would spread our keys, or may throw them away when its memory is full. */
export async function assertUsable(connection: RedisConnection, prefix: string): Promise<void> {
  const info = await infoOf(connection, 'server')
  // Valkey answers with the version of Redis that it stands for.
  const version = info.get('redis_version')
  if (version !== undefined && Number.parseInt(version, 10) < MIN_VERSION) {
    throw new UnfitRedisError(
      `the Redis at ${connection.address} must be version ${MIN_VERSION} or later, got ${version}`,
    )
  }
  if (info.get('redis_mode') === 'cluster' && !/^[^{]*\{[^}]+\}/.test(prefix)) {
    throw new UnfitRedisError(
      `the Redis at ${connection.address} is a cluster: there the prefix of all keys must have a hash tag, as in {tether}:, got ${prefix}`,
    )
  }
  await assertKeepsKeys(connection)
}

/** @throws {UnfitRedisError} where this Redis may throw away keys when its memory is full: then jobs would vanish without a word. */
export async function assertKeepsKeys(connection: RedisConnection): Promise<void> {
  // INFO says the same as CONFIG GET, which hosts of Redis often do not permit.
  const info = await infoOf(connection, 'memory')
  const policy = info.get('maxmemory_policy')
  if (policy !== undefined && policy !== 'noeviction') {
    throw new UnfitRedisError(
      `the Redis at ${connection.address} must be set to maxmemory-policy noeviction, got ${policy}: it would throw away jobs when its memory is full`,
    )
  }
}

/** How much of this Redis' connections would be left once this process has its own, where that is little; undefined where it is enough. */
export async function scarceConnections(connection: RedisConnection, own: number): Promise<string | undefined> {
  const info = await infoOf(connection, 'clients')
  const [most, used] = [Number(info.get('maxclients')), Number(info.get('connected_clients'))]
  if (!(used + own > most * SCARCE_PART)) return undefined
  return `the Redis at ${connection.address} takes ${most} connections (maxclients) and has ${used}; each server needs ${own}`
}

/** Empty where this user may not ask: what cannot be looked at is taken to be right. */
async function infoOf(connection: RedisConnection, section: string): Promise<ReadonlyMap<string, string>> {
  try {
    const text = String(await connection.call('INFO', [section]))
    return new Map(
      text.split('\r\n').map((line): [string, string] => {
        const colon = line.indexOf(':')
        return [line.slice(0, colon), line.slice(colon + 1)]
      }),
    )
  } catch (error) {
    if (error instanceof RedisFailure && error.code === 'NOPERM') return new Map()
    throw error
  }
}
