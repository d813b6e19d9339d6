import { RedisServer } from '../../test/cluster/RedisServer.ts'
import { OwnServer } from './OwnServer.ts'
import { RoundRobinProxy } from './RoundRobinProxy.ts'

/** What a Redis must be that Tether is to use; its files go with it. */
const REDIS_ARGS = ['--maxmemory-policy', 'noeviction', '--appendonly', 'yes', '--appendfsync', 'everysec']

export interface OwnClusterOptions {
  readonly replicas: number
  /** Of the proxy; 0: a free one. */
  readonly port: number
  /** Of each replica, besides what makes it one. */
  readonly env: Readonly<Record<string, string | undefined>>
  /** Where the replicas run. Default: each in a folder of its own. */
  readonly cwd?: string
  readonly onLine?: (name: string, line: string) => void
}

/** Servers that are one, each with a folder of its own, their Redis, and a proxy before them. */
export class OwnCluster {
  readonly proxy: RoundRobinProxy
  readonly replicas: readonly OwnServer[]
  readonly #redis: RedisServer

  private constructor(proxy: RoundRobinProxy, replicas: readonly OwnServer[], redis: RedisServer) {
    this.proxy = proxy
    this.replicas = replicas
    this.#redis = redis
  }

  /**
   * Settles when all listen; what was started until then is gone where it rejects, or where `signal` fires meanwhile.
   */
  static async start(options: OwnClusterOptions, signal?: AbortSignal): Promise<OwnCluster> {
    await using opened = new AsyncDisposableStack()
    const redis = opened.use(await RedisServer.start({ args: REDIS_ARGS, isDetached: true }))
    const starting = Array.from({ length: options.replicas }, async (_, index) => {
      const name = nameOf(index)
      const replica = await OwnServer.start({
        env: { ...options.env, PORT: '0', REDIS_URL: redis.url, REPLICA_ID: name },
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
        onLine: (line) => options.onLine?.(name, line),
      })
      opened.defer(() => replica.remove())
      return replica
    })
    // All of them, also where one fails: none may come up behind our back.
    await Promise.allSettled(starting)
    const replicas = await Promise.all(starting)
    const ports = replicas.map(({ url }) => Number(url.port))
    const proxy = await RoundRobinProxy.listen(options.port, ports)
    opened.defer(() => proxy.close())
    signal?.throwIfAborted()
    opened.move()
    return new OwnCluster(proxy, replicas, redis)
  }

  /** Ends the replicas as an operator would, then the rest. Settles with how each of them exited: `0` is in order. */
  async stop(): Promise<readonly string[]> {
    const exits = await Promise.all(this.replicas.map((replica) => replica.stop()))
    await this.remove()
    return exits
  }

  /** For every way out: nothing of it is left when this settles. Twice is harmless. */
  async remove(): Promise<void> {
    await this.proxy.close()
    await Promise.all(this.replicas.map((replica) => replica.remove()))
    await this.#redis[Symbol.asyncDispose]()
  }
}

export function nameOf(index: number): string {
  return `replica-${index + 1}`
}
