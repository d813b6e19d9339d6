import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { PendingCancellations } from './cancellation/PendingCancellations.ts'
import { type Clock, systemClock } from './clock.ts'
import type { Config } from './config.ts'
import { EventLog } from './eventlog/EventLog.ts'
import { LogPages } from './eventlog/LogPages.ts'
import { commandEnvironment } from './execution/commandEnvironment.ts'
import { WarmSpare } from './execution/isolation/WarmSpare.ts'
import { SpawnGate } from './execution/SpawnGate.ts'
import { TaskExecutionOrchestrator } from './execution/TaskExecutionOrchestrator.ts'
import { TaskRegistry } from './execution/TaskRegistry.ts'
import type { TaskDefinition } from './execution/task.ts'
import { Watchdog } from './execution/watchdog/Watchdog.ts'
import { WatchedOrchestrator } from './execution/watchdog/WatchedOrchestrator.ts'
import type { Finding, Probe } from './health/Check.ts'
import { diskFinding, diskSpaceOf } from './health/diskSpace.ts'
import { HealthReport } from './health/HealthReport.ts'
import { SharedAnswer } from './health/SharedAnswer.ts'
import { SharedProbes } from './health/SharedProbes.ts'
import type { Containment } from './job/receipt.ts'
import { JobManager } from './jobs/JobManager.ts'
import { PQueueJobQueue } from './jobs/PQueueJobQueue.ts'
import type { SharedEngine, SharedTerms } from './jobs/SharedEngine.ts'
import { Workspaces } from './jobs/Workspaces.ts'
import { JobFigures } from './metrics/JobFigures.ts'
import { LogFigures } from './metrics/LogFigures.ts'
import { LoopDelay } from './metrics/LoopDelay.ts'
import { Metrics } from './metrics/Metrics.ts'
import { processFamilies } from './metrics/processFamilies.ts'
import { serverFamilies } from './metrics/serverFamilies.ts'
import { standingFamilies } from './metrics/standingFamilies.ts'
import { ModelProviders } from './resources/model/ModelProviders.ts'
import { Guardian } from './resources/processes/Guardian.ts'
import { probeContainment } from './resources/processes/probeContainment.ts'
import { sweepLeftovers } from './resources/processes/sweepLeftovers.ts'
import type { Authenticate } from './server/access/Identity.ts'
import { FastifyServer } from './server/FastifyServer.ts'
import { WaitingServer } from './server/WaitingServer.ts'
import { type DirectoryLock, lockDirectory, makeFolder } from './store/DirectoryLock.ts'
import type { JobStore } from './store/JobStore.ts'
import { openSqliteJobStore } from './store/sqlite/SqliteJobStore.ts'
import { agent } from './tasks/agent.ts'
import { command } from './tasks/command.ts'
import { loadTasks } from './tasks/loadTasks.ts'
import { ticks } from './tasks/ticks.ts'
import { JobSpans } from './tracing/JobSpans.ts'

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
  readonly jobs: JobManager
  readonly health: HealthReport
  readonly metrics: Metrics
  readonly orchestrator: TaskExecutionOrchestrator
  readonly pending: PendingCancellations
  /** Where the processes of isolated tasks come from. */
  readonly spare: WarmSpare
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
  const jobFigures = new JobFigures((name) => tasks.find(name) !== undefined)
  const logFigures = new LogFigures()
  const spans = new JobSpans()
  const eventLog = new EventLog({
    store,
    clock,
    // What is shared goes on for as long as the others may count with this process.
    patienceMs: options.storePatienceMs ?? (engine === undefined ? STORE_PATIENCE_MS : config.leaseMs),
    onRefused: (change, why) =>
      logger[engine === undefined ? 'error' : 'debug']({ change: change.kind, why }, 'the store refused a change'),
    onCommit: logFigures.onCommit,
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
    observers: [jobFigures, spans],
    spans,
    ...(engine === undefined ? {} : { engine }),
  })
  const recovered = await jobs.recover()
  if (recovered.interrupted + recovered.queued > 0) logger.info(recovered, 'took up the jobs of an earlier process')
  // What it measures is the loop of this process, whose time nobody sets.
  const loop = new LoopDelay(systemClock)
  loop.start()
  opened.defer(() => loop.stop())
  const health = new HealthReport({
    standing: () => jobs.standing(),
    shared: new SharedAnswer(clock, () => jobs.countShared()),
    probes: new SharedProbes(clock, probesOf(store, config.dataDir, engine)),
    loop,
    containment,
    guardianPid: () => guardian.pid,
    maxAbandoned: config.maxAbandoned,
    isLogFailing: () => eventLog.isFailing,
  })
  const metrics = new Metrics([
    ...jobFigures.families(engine !== undefined),
    ...standingFamilies({
      standing: () => jobs.standing(),
      countShared: () => jobs.countShared(),
      hints: engine && (() => engine.replicas.hintCounts),
      replica,
      containment,
      concurrency: config.concurrency,
      maxAbandoned: config.maxAbandoned,
      diskFreeBytes: async () => (await diskSpaceOf(config.dataDir)).freeBytes,
    }),
    ...serverFamilies(() => server.figures()),
    ...logFigures.families(() => eventLog.isFailing),
    ...loop.families(),
    ...processFamilies(),
  ])
  const server: FastifyServer = new FastifyServer({
    config: { ...config, port: waiting.port ?? config.port },
    jobs,
    health,
    metrics,
    logger,
    clock,
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

function probesOf(store: JobStore, dataDir: string, engine: SharedEngine | undefined): readonly Probe[] {
  const redis = async (): Promise<Finding> => {
    const state = await engine?.check()
    const isLost = state?.hasLease !== true
    return { ok: !isLost, ...(isLost ? { detail: 'the others do not count with it' } : {}), figures: { ...state } }
  }
  return [
    {
      name: 'store',
      run: async () => {
        await store.check()
        return { ok: true }
      },
    },
    { name: 'disk', run: async () => diskFinding(await diskSpaceOf(dataDir)) },
    ...(engine === undefined ? [] : [{ name: 'redis', run: redis }]),
  ]
}

function openOwnStore(config: Config, clock: Clock, logger: Logger): Promise<JobStore> {
  return openSqliteJobStore({
    path: join(config.dataDir, 'tether.db'),
    durability: config.durability,
    maxLogBytes: config.maxLogBytes,
    clock,
    onBackgroundError: (err) => logger.error({ err }, 'the store failed in the background'),
  })
}

/** The address is for whoever finds the folder taken; a disk that is full must not end a server that listens. */
function announce(lock: DirectoryLock, url: string, logger: Logger): void {
  try {
    lock.announce(url)
  } catch (err) {
    logger.warn({ err }, 'the address could not be noted in DATA_DIR')
  }
}

async function registryOf(config: Config, more: readonly TaskDefinition[]): Promise<TaskRegistry> {
  const tasks = new TaskRegistry()
  tasks.register(ticks)
  tasks.register(command)
  tasks.register(agent)
  for (const task of more) tasks.register(task)
  if (config.tasksDir !== undefined) for (const task of await loadTasks(config.tasksDir)) tasks.register(task)
  return tasks
}
