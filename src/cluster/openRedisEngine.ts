import type { Clock } from '../clock.ts'
import type { JobRef } from '../job/key.ts'
import type { ReplicaDuties, SharedEngine } from '../jobs/SharedEngine.ts'
import type { Logger } from '../logger.ts'
import { StoreError } from '../store/JobStore.ts'
import { BullJobQueue } from './BullJobQueue.ts'
import { Hints } from './Hints.ts'
import { Lease } from './Lease.ts'
import { openRedisJobs } from './RedisJobStore.ts'
import { RedisReplicas } from './RedisReplicas.ts'
import { Relay } from './Relay.ts'
import { scarceConnections, UnfitRedisError } from './requirements.ts'

export interface RedisEngineOptions {
  /** `redis://[USER:PASSWORD@]HOST:PORT[/DB]`, or `rediss:` for TLS. */
  readonly url: string
  /** What all keys begin with. Default `tether:`. */
  readonly prefix?: string
  /** Of this process: unique to one start of it. */
  readonly replica: string
  readonly clock: Clock
  readonly logger: Logger
  readonly concurrency: number
  readonly maxLogBytes: number
  readonly leaseMs: number
  /** Told why Redis could not be reached, each time that it was tried in vain; it is tried again when this has settled. */
  readonly onAway: (why: StoreError) => Promise<void>
  readonly tombstoneMs: number
  readonly maxTombstones: number
}

/** Of requests for unknown jobs, one client may keep this part. */
const CLIENTS_PART = 10

/** The store's, the relay's, the one that hints are read on, and two of the queue. */
const CONNECTIONS = 5

const RETRY_MS = 500
const SAME_TROUBLE_MS = 5000

/**
 * Connects to Redis, and waits for it where it is away. Rejects as `onAway` does.
 * @throws {StoreError} where what answers there may not be used
 */
export async function openRedisEngine(options: RedisEngineOptions): Promise<SharedEngine> {
  const onTrouble = troubleLog(options.clock, options.logger)
  for (;;) {
    try {
      return await connect(options, onTrouble)
    } catch (error) {
      if (!(error instanceof StoreError) || error instanceof UnfitRedisError) throw error
      await options.onAway(error)
      await new Promise<void>((resolve) => void options.clock.schedule(RETRY_MS, resolve))
    }
  }
}

async function connect(options: RedisEngineOptions, onTrouble: (error: Error) => void): Promise<SharedEngine> {
  await using opened = new AsyncDisposableStack()
  const { url, prefix = 'tether:', replica, clock, logger, concurrency, maxLogBytes, leaseMs } = options
  const { store, shared, connection } = await openRedisJobs({ url, prefix, replica, maxLogBytes, onTrouble })
  opened.defer(() => store.close())
  const scarcity = await scarceConnections(connection, CONNECTIONS)
  if (scarcity !== undefined) logger.warn({ reason: scarcity }, 'Redis has few connections left')
  const relay = await Relay.open({ url, prefix, clock, connection, onTrouble })
  opened.defer(() => relay.close())
  const hints = await Hints.open({ url, prefix, clock, connection, replica, onTrouble })
  opened.defer(() => hints.close())
  let duties: ReplicaDuties | undefined
  const queue = await BullJobQueue.open({
    url,
    prefix,
    concurrency,
    leaseMs,
    onSlot: (ref: JobRef) => duties?.run(ref) ?? Promise.resolve(),
    onStalled: (ref) => shared.noteUnqueued(ref),
    onError: onTrouble,
  })
  queue.pause('not_listening')
  opened.defer(() => queue.close())
  const remember = {
    keepMs: options.tombstoneMs,
    maxInAll: options.maxTombstones,
    maxOfClient: Math.ceil(options.maxTombstones / CLIENTS_PART),
  }
  const replicas = new RedisReplicas({ shared, queue, hints, relay, remember })
  const parts = opened.move()
  let lease: Lease | undefined
  return {
    store,
    replicas,
    start: async (given) => {
      duties = given
      lease = await Lease.take({ shared, clock, leaseMs, onTrouble }, given.onLeaseLost)
      queue.resume('not_listening')
    },
    check: async () => {
      await connection.call('PING', [])
      const leaseLeftMs = lease?.leftMs ?? 0
      return { hasLease: leaseLeftMs > 0, leaseLeftMs, unheardForMs: Math.round(hints.unreadForMs) }
    },
    stopClaiming: () => queue.pause('draining'),
    close: async () => {
      lease?.close()
      await shared.retire().catch(onTrouble)
      await parts.disposeAsync()
    },
  }
}

/** Each connection tells of each try: the same is said once a while. */
function troubleLog(clock: Clock, logger: Logger): (error: Error) => void {
  let last = ''
  let lastMs = Number.NEGATIVE_INFINITY
  return ({ message }) => {
    const nowMs = clock.monotonicMs()
    if (message === last && nowMs - lastMs < SAME_TROUBLE_MS) return
    last = message
    lastMs = nowMs
    logger.warn({ reason: message }, 'trouble with Redis')
  }
}
