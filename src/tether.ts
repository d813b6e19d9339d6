import { type Core, type CoreOptions, mintReplica, openCore } from './core.ts'
import type { Containment } from './job/receipt.ts'
import type { Metrics } from './metrics/Metrics.ts'
import type { Authenticate } from './server/access/Identity.ts'
import { FastifyServer } from './server/FastifyServer.ts'
import { WaitingServer } from './server/WaitingServer.ts'

export interface TetherOptions extends Omit<CoreOptions, 'replica' | 'onStoreAway'> {
  /** Says who sent a request, and what they may. Default: whoever bears the API token may everything. */
  readonly authenticate?: Authenticate
}

/** A server that listens. */
export interface Tether extends Pick<Core, 'jobs' | 'health' | 'orchestrator' | 'pending' | 'spare'> {
  readonly url: string
  readonly containment: Containment
  readonly metrics: Metrics
  /**
   * Ends everything: running jobs may finish for `drainMs` unless `hurry` fires, the rest are interrupted, streams get their
   * terminal event, and when it settles nothing of this server is left. Twice is once.
   */
  stop(hurry?: AbortSignal): Promise<void>
}

/**
 * Builds a server and starts it: takes the folder, probes the containment, takes up what an earlier process left, listens.
 * @throws {Error} with one sentence for the operator; what was opened until then is closed again
 */
export async function openTether(options: TetherOptions): Promise<Tether> {
  await using opened = new AsyncDisposableStack()
  const { config } = options
  const replica = mintReplica(config)
  const logger = options.logger.child({ replica })
  const waiting = new WaitingServer({ config, logger })
  opened.defer(() => waiting.close())
  const core = await openCore({ ...options, replica, logger, onStoreAway: (why) => waiting.open(why) })
  opened.defer(() => core.close())
  const { containment, jobs, health, orchestrator, pending, spare, clock } = core
  const metrics = core.metricsWith(() => server.figures())
  const server: FastifyServer = new FastifyServer({
    config: { ...config, port: waiting.port ?? config.port },
    jobs,
    health,
    metrics,
    logger,
    clock,
    ...(options.authenticate === undefined ? {} : { authenticate: options.authenticate }),
  })
  await waiting.close()
  const { url } = await server.listen()
  core.announce(url)
  await core.start()
  opened.move()
  let stopped: Promise<void> | undefined
  const stop = async (hurry: AbortSignal | undefined): Promise<void> => {
    await core.drain(hurry)
    await server.close()
    await core.close()
  }
  return {
    url,
    containment,
    jobs,
    health,
    metrics,
    orchestrator,
    pending,
    spare,
    stop: (hurry) => (stopped ??= stop(hurry)),
  }
}
