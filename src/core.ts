import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { PendingCancellations } from './cancellation/PendingCancellations.ts'
import { type Clock, systemClock } from './clock.ts'
import { type Config, ConfigError } from './config.ts'
import { EventLog } from './eventlog/EventLog.ts'
import { LogPages } from './eventlog/LogPages.ts'
import { commandEnvironment } from './execution/commandEnvironment.ts'
import { WarmSpare } from './execution/isolation/WarmSpare.ts'
import { SpawnGate } from './execution/SpawnGate.ts'
import { TaskExecutionOrchestrator } from './execution/TaskExecutionOrchestrator.ts'
import { TaskRegistry } from './execution/TaskRegistry.ts'
import type { TaskDefinition } from './execution/task.ts'
import { Watchdog, type WatchdogOptions } from './execution/watchdog/Watchdog.ts'
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
import type { Logger } from './logger.ts'
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
import type { ServerFigures } from './server/ServerFigures.ts'
import { type DirectoryLock, lockDirectory, makeFolder } from './store/DirectoryLock.ts'
import type { JobStore, StoreError } from './store/JobStore.ts'
import { openSqliteJobStore } from './store/sqlite/SqliteJobStore.ts'
import { agent } from './tasks/agent.ts'
import { command } from './tasks/command.ts'
import { loadTasks } from './tasks/loadTasks.ts'
import { ticks } from './tasks/ticks.ts'
import { JobSpans } from './tracing/JobSpans.ts'

export interface CoreOptions {
  readonly config: Config
  /** What this process is called among those that share its jobs: see `mintReplica`. */
  readonly replica: string
  readonly logger: Logger
  /** Of which commands get the harmless part: see `commandEnvironment`. */
  readonly serverEnv: Readonly<Record<string, string | undefined>>
  /** Where commands run that name no folder. */
  readonly cwd: string
  readonly clock?: Clock
  /** Besides the built-in tasks and those of `config.tasksDir`. */
  readonly tasks?: readonly TaskDefinition[]
  /** Which of the built-in tasks there are. Default: all of them. */
  readonly builtInTasks?: readonly BuiltInTask[]
  /** Stands between the server and its store: for tests that hold a commit back or make one fail. */
  readonly wrapStore?: (store: JobStore) => JobStore
  /** Connects this process with others that share its jobs. Default: it has its own. */
  readonly openShared?: (terms: SharedTerms) => Promise<SharedEngine>
  /** Told while the store is not there and the opening waits for it. */
  readonly onStoreAway: (why: StoreError) => Promise<void>
  /** How long the store may fail before running jobs are ended for it (ms). Default 5000. */
  readonly storePatienceMs?: number
  /** Tells of code that blocks the event loop. Default: none does. */
  readonly watchdog?: Pick<WatchdogOptions, 'logger' | 'reportFd'>
}

const BUILT_IN = { ticks, command, agent } as const
export type BuiltInTask = keyof typeof BUILT_IN

/** Long enough for a backup or an operator's tool to let go of the file, and far shorter than what an agent burns in an outage. */
const STORE_PATIENCE_MS = 5000

/** Everything but HTTP: jobs, what runs them, and what they are written down in. */
export interface Core {
  readonly clock: Clock
  readonly logger: Logger
  readonly containment: Containment
  readonly jobs: JobManager
  readonly health: HealthReport
  readonly orchestrator: TaskExecutionOrchestrator
  readonly pending: PendingCancellations
  /** Where the processes of isolated tasks come from. */
  readonly spare: WarmSpare
  /** What a scrape gets. `server`: how the server in front of this stands. */
  metricsWith(server: () => ServerFigures): Metrics
  /** Notes in the folder where its server listens. */
  announce(url: string): void
  /**
   * Lets jobs run, those of an earlier process first. Not before the server listens: one that cannot, because its port is taken,
   * must not have started them. Twice is once.
   */
  start(): Promise<void>
  /** Running jobs may finish for `drainMs` unless `hurry` fires, the rest are interrupted. Twice is once. */
  drain(hurry?: AbortSignal): Promise<void>
  /** Gives back what is left. To be called after `drain`; twice is once. */
  close(): Promise<void>
}

/** Unique to one start of one process. */
export function mintReplica({ replicaId }: Config): string {
  return `${replicaId}-${process.pid}-${randomBytes(4).toString('hex')}`
}

/**
 * Takes the folder, probes the containment, and takes up what an earlier process left.
 * @throws {Error} with one sentence for the operator; what was opened until then is closed again
 */
export async function openCore(options: CoreOptions): Promise<Core> {
  await using opened = new AsyncDisposableStack()
  const { config, replica, logger, clock = systemClock } = options
  const lock = opened.use(lockDirectory(config.dataDir, { pid: process.pid }))
  const leftovers = await sweepLeftovers()
  if (leftovers.instances.length > 0) logger.info(leftovers, 'ended what servers that died had left')
  const { containment, cgroupPath, tried } = await probeContainment(config.containment)
  for (const { level, reason } of tried) logger.info({ level, reason }, 'a better containment is not to be had')
  const guardian = new Guardian({
    cgroupPath,
    onDeath: (reason) => logger.warn({ reason }, 'the guardian died; another is started'),
  })
  opened.defer(() => guardian.stop())
  await guardian.start()
  const tmpRoot = join(config.dataDir, 'tmp')
  // The folder is ours alone now: what is in there was left by a process that died.
  rmSync(tmpRoot, { recursive: true, force: true })
  const workspaceRoot = join(config.dataDir, 'workspaces')
  makeFolder(workspaceRoot)
  const engine = await options.openShared?.({ replica, onAway: options.onStoreAway })
  const ownStore = engine?.store ?? (await openOwnStore(config, clock, logger))
  // An engine says goodbye over the connection of its store, which it then closes.
  opened.defer(() => (engine ?? ownStore).close())
  const store = options.wrapStore?.(ownStore) ?? ownStore
  const tasks = await registryOf(options)
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
    if (health.kind === 'ok') logger.info({}, 'the store takes writes again')
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
  const watchdog =
    options.watchdog &&
    new Watchdog({ ...options.watchdog, compileCache, logger: options.watchdog.logger.child({ replica }) })
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
  const shared = new SharedAnswer(clock, () => jobs.countShared())
  const disk = new SharedAnswer(clock, () => diskSpaceOf(config.dataDir))
  const health = new HealthReport({
    standing: () => jobs.standing(),
    shared,
    probes: new SharedProbes(clock, probesOf(store, config.dataDir, engine)),
    loop,
    containment,
    guardianPid: () => guardian.pid,
    maxAbandoned: config.maxAbandoned,
    isLogFailing: () => eventLog.isFailing,
  })
  const metricsWith = (server: () => ServerFigures): Metrics =>
    new Metrics(clock, [
      ...jobFigures.families(engine !== undefined),
      ...standingFamilies({
        standing: () => jobs.standing(),
        countShared: () => shared.get(),
        hints: engine && (() => engine.replicas.hintCounts),
        replica,
        containment,
        concurrency: config.concurrency,
        maxAbandoned: config.maxAbandoned,
        diskSpace: () => disk.get(),
      }),
      ...serverFamilies(server),
      ...logFigures.families(() => eventLog.isFailing),
      ...loop.families(),
      ...processFamilies(),
    ])
  const start = async (): Promise<void> => {
    await engine?.start({
      run: (ref) => jobs.runClaimed(ref),
      onLeaseLost: () => jobs.loseLease(),
    })
    queue.resume('not_listening')
    if (tasks.list().some((task) => task.isolatedModule !== undefined)) spare.prepare()
  }
  let started: Promise<void> | undefined
  let drained: Promise<void> | undefined
  const parts = opened.move()
  return {
    clock,
    logger,
    containment,
    jobs,
    health,
    metricsWith,
    orchestrator,
    pending,
    spare,
    announce: (url) => announce(lock, url, logger),
    start: () => (started ??= start()),
    drain: (hurry) =>
      (drained ??= jobs.drain({ finishWithinMs: config.drainMs, ...(hurry === undefined ? {} : { hurry }) })),
    close: () => parts.disposeAsync(),
  }
}

function probesOf(store: JobStore, dataDir: string, engine: SharedEngine | undefined): readonly Probe[] {
  const redis = async (): Promise<Finding> => {
    const state = await engine?.check()
    const isLost = state?.hasLease !== true
    return { ok: !isLost, ...(isLost ? { detail: 'the others do not count with it' } : {}), figures: { ...state } }
  }
  return [
    { name: 'store', run: () => answered(store.check()) },
    { name: 'disk', run: async () => diskFinding(await diskSpaceOf(dataDir)) },
    ...(engine === undefined
      ? []
      : [
          { name: 'redis', run: redis },
          { name: 'queue', run: () => answered(engine.replicas.checkQueue()) },
        ]),
  ]
}

async function answered(asking: Promise<void>): Promise<Finding> {
  await asking
  return { ok: true }
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

async function registryOf(options: CoreOptions): Promise<TaskRegistry> {
  const { config, tasks: own = [], builtInTasks = ['ticks', 'command', 'agent'] } = options
  const tasks = new TaskRegistry()
  for (const name of builtInTasks) {
    if (!Object.hasOwn(BUILT_IN, name)) {
      const names = Object.keys(BUILT_IN).join(', ')
      throw new ConfigError(`builtInTasks must name some of ${names}, got ${JSON.stringify(name)}`)
    }
    tasks.register(BUILT_IN[name])
  }
  for (const task of own) tasks.register(task)
  if (config.tasksDir !== undefined) for (const task of await loadTasks(config.tasksDir)) tasks.register(task)
  return tasks
}
