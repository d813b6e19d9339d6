import { type Core, type CoreOptions, mintReplica, openCore } from './core.ts'
import type { Containment } from './job/receipt.ts'
import { JobManager } from './jobs/JobManager.ts'
import { PQueueJobQueue } from './jobs/PQueueJobQueue.ts'
import type { SharedEngine, SharedTerms } from './jobs/SharedEngine.ts'
import { Workspaces } from './jobs/Workspaces.ts'
import { ModelProviders } from './resources/model/ModelProviders.ts'
import { Guardian } from './resources/processes/Guardian.ts'
import { probeContainment } from './resources/processes/probeContainment.ts'
import { sweepLeftovers } from './resources/processes/sweepLeftovers.ts'
import type { Authenticate } from './server/access/Identity.ts'
import { FastifyServer } from './server/FastifyServer.ts'
import { WaitingServer } from './server/WaitingServer.ts'

export interface TetherOptions {
  readonly config: Config
  readonly logger: Logger
  /** Of which commands get the harmless part: see `commandEnvironment`. */
  readonly serverEnv: Readonly<Record<string, string | undefined>>
  /** Where commands run that name no folder. */
  readonly cwd: string
  readonly clock?: Clock
  /** Besides the built-in tasks and those of `config.tasksDir`. */
  readonly tasks?: readonly TaskDefinition[]
  /** Stands between the server and its store: for tests that hold a commit back or make one fail. */
  readonly wrapStore?: (store: JobStore) => JobStore
  /** Connects this process with others that share its jobs. Default: it has its own. */
  readonly openShared?: (terms: SharedTerms) => Promise<SharedEngine>
  /** Says who sent a request, and what they may. Default: whoever bears the API token may everything. */
  readonly authenticate?: Authenticate
  /** How long the store may fail before running jobs are ended for it (ms). Default 5000. */
  readonly storePatienceMs?: number
  /** Tells of code that blocks the event loop; `reportFd` is the file descriptor that the logger writes to. Default: none does. */
  readonly watchdog?: { readonly reportFd: number }
}

/** Long enough for a backup or an operator's tool to let go of the file, and far shorter than what an agent burns in an outage. */
const STORE_PATIENCE_MS = 5000

/** A server that listens. */
export interface Tether extends Pick<Core, 'jobs' | 'orchestrator' | 'pending' | 'spare'> {
  readonly url: string
  readonly containment: Containment
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
  const engine = await options.openShared?.({ replica, onAway: (why) => waiting.open(why) })
  const ownStore = engine?.store ?? (await openOwnStore(config, clock, logger))
  // An engine says goodbye over the connection of its store, which it then closes.
  opened.defer(() => (engine ?? ownStore).close())
  const store = options.wrapStore?.(ownStore) ?? ownStore
  const tasks = await registryOf(config, options.tasks ?? [])
  const eventLog = new EventLog({
    store,
    clock,
    // What is shared goes on for as long as the others may count with this process.
    patienceMs: options.storePatienceMs ?? (engine === undefined ? STORE_PATIENCE_MS : config.leaseMs),
    onRefused: (change, why) =>
      logger[engine === undefined ? 'error' : 'debug']({ change: change.kind, why }, 'the store refused a change'),
  })
  eventLog.onHealth((health) => {
    if (health.kind === 'ok') logger.info('the store takes writes again')
    else logger.error({ err: health.error }, 'the store did not take a commit; it is tried again')
  })
  const pending = new PendingCancellations({
    clock,
    expiresAfterMs: config.tombstoneMs,
    maxTombstones: config.maxTombstones,
    keep: (name, tombstone) =>
      new Promise((settle) => eventLog.push({ change: { kind: 'tombstone', name, tombstone }, settle })),
  })
  opened.defer(() => pending.close())
  // Those that are shared are found by whoever creates their job.
  if (engine === undefined) pending.load(await store.listTombstones())
  const processes = { containment, commandEnv: commandEnvironment(options.serverEnv), defaultCwd: options.cwd }
  const compileCache = options.serverEnv.NODE_COMPILE_CACHE ?? join(config.dataDir, 'compile-cache')
  const spare = new WarmSpare({
    ...processes,
    compileCache,
    onSpareFailed: (err) => logger.warn({ err }, 'no process for isolated tasks is kept ready'),
  })
  opened.defer(() => spare.close())
  const execution = {
    ...processes,
    clock,
    pending,
    spawnGate: new SpawnGate(),
    tmpRoot,
    workspaceRoot,
    spare,
    models: new ModelProviders(config.models),
  }
  const watchdog = options.watchdog && new Watchdog({ logger, compileCache, ...options.watchdog })
  opened.defer(() => watchdog?.stop())
  const orchestrator = watchdog
    ? new WatchedOrchestrator(execution, watchdog)
    : new TaskExecutionOrchestrator(execution)
  const queue = new PQueueJobQueue(config.concurrency)
  // A server that cannot listen, because its port is taken, must not have started the jobs that wait for the next start.
  queue.pause('not_listening')
  const jobs = new JobManager({
    clock,
    logger,
    store,
    eventLog,
    pages: new LogPages({ store, clock }),
    queue,
    pending,
    orchestrator,
    tasks,
    workspaces: new Workspaces(workspaceRoot),
    containment,
    replica,
    concurrency: config.concurrency,
    maxQueued: config.maxQueued,
    maxAbandoned: config.maxAbandoned,
    killGraceMs: config.killGraceMs,
    retainJobsMs: config.retainJobsMs,
    policyDefaults: { settleMs: config.settleMs, maxRunMs: config.maxRunMs },
    cancelPollMs: config.cancelPollMs,
    ...(engine === undefined ? {} : { engine }),
  })
  const recovered = await jobs.recover()
  if (recovered.interrupted + recovered.queued > 0) logger.info(recovered, 'took up the jobs of an earlier process')
  const server = new FastifyServer({
    config: { ...config, port: waiting.port ?? config.port },
    jobs,
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
    orchestrator,
    pending,
    spare,
    stop: (hurry) => (stopped ??= stop(hurry)),
  }
}
