import type { AddressInfo } from 'node:net'
import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import { systemClock } from './clock.ts'
import { type Config, ConfigError, readConfig } from './config.ts'
import { type BuiltInTask, type Core, type CoreOptions, mintReplica, openCore } from './core.ts'
import type { TaskDefinition } from './execution/task.ts'
import type { Logger } from './logger.ts'
import { openSharedOf } from './openShared.ts'
import type { Authenticate } from './server/access/Identity.ts'
import { FastifyServer } from './server/FastifyServer.ts'
import { assertLocalPeer } from './server/localPeers.ts'
import { waitAtMost } from './waiting.ts'

export interface TetherPluginOptions {
  /** Where it stands in the app, such as `/tether`. It needs one, of its own or of a plugin around it. */
  readonly prefix?: string
  readonly tasks?: readonly TaskDefinition[]
  /** Which of `ticks`, `command` and `agent` there are. Default: all of them; `command` and `agent` let a caller run commands. */
  readonly builtInTasks?: readonly BuiltInTask[]
  /**
   * Settings by their names, docs/protocol.md, section 6; nothing is read from the environment. Without `API_TOKEN` and
   * `authenticate`, only programs of this machine are answered.
   */
  readonly settings?: Readonly<Record<string, string | undefined>>
  /** Says who sent a request, and what they may. Default: whoever bears the API token may everything. */
  readonly authenticate?: Authenticate
  /** Where commands run that name no folder. Default: the working directory. */
  readonly cwd?: string
  /** Of which commands get the harmless part (PATH, HOME, LANG and the like). Default: the environment of this process. */
  readonly env?: Readonly<Record<string, string | undefined>>
  /** Default: the app's own, `app.log`. */
  readonly logger?: Logger
}

/**
 * Links, redirects and cookies bear the prefix as it is written: a parameter in it would be sent literally, and a cookie for `/a/` or
 * `/a%20b` is not sent to every path that a router takes for the same. What is named `.` or `..` a browser resolves before it asks.
 */
const PREFIX = /^(?:\/(?!\.{1,2}(?:\/|$))[\w.~-]+)+$/

/** What the app decides, and not these settings. */
const OF_THE_APP = ['HOST', 'PORT', 'TRUST_PROXY', 'LOG_LEVEL']

/**
 * Tether as a part of somebody's own Fastify app: `app.register(tether, { prefix: '/tether', tasks })`. Everything is below the
 * prefix and nothing is outside of it. Jobs run from when the app listens, or was asked something. When the app closes, running
 * jobs may finish for `DRAIN_MS` (0 where it is not set), the others are interrupted, and streams get their last event.
 *
 * The app's loading fails with a `ConfigError` where a setting or one of the app's own options does not go with it.
 */
export const tether: FastifyPluginAsync<TetherPluginOptions> = async (app, options) => {
  const config = configOf(options.settings ?? {})
  assertApp(app, config)
  await using opened = new AsyncDisposableStack()
  const replica = mintReplica(config)
  const logger = (options.logger ?? app.log).child({ replica })
  const openShared = openSharedOf(config, logger, systemClock)
  let isClosed = false
  app.addHook('onClose', async () => {
    isClosed = true
  })
  const core = await openCore({
    config,
    replica,
    logger,
    serverEnv: options.env ?? process.env,
    cwd: options.cwd ?? process.cwd(),
    tasks: options.tasks ?? [],
    onStoreAway: waitingFor(logger, () => isClosed),
    ...(options.builtInTasks === undefined ? {} : { builtInTasks: options.builtInTasks }),
    ...(openShared === undefined ? {} : { openShared }),
  })
  opened.defer(() => core.close())
  const { jobs, health, clock } = core
  const { authenticate } = options
  const server: FastifyServer = new FastifyServer({
    config,
    jobs,
    health,
    metrics: core.metricsWith(() => server.figures()),
    logger,
    clock,
    ...(authenticate === undefined ? {} : { authenticate }),
  })
  startWithApp(app, core)
  if (config.apiToken === undefined && authenticate === undefined) app.addHook('onRequest', assertLocalPeer)
  await server.addTo(app)
  endWithApp(app, core, server)
  opened.move()
}

/** What is told of a store that is not there, once for each reason. An app that was closed waits for none. */
function waitingFor(logger: Logger, isClosed: () => boolean): CoreOptions['onStoreAway'] {
  let told = ''
  return async (why) => {
    if (isClosed()) throw why
    if (why.message !== told) logger.warn({ why: why.message }, 'the store is not there; it is waited for')
    told = why.message
  }
}

/**
 * An app that cannot listen must not have started the jobs of an earlier process. One that never does, because requests are handed
 * to it in another way, starts them with the first.
 */
function startWithApp(app: FastifyInstance, core: Core): void {
  const start = (): void => {
    core.start().catch((err: unknown) => core.logger.error({ err }, 'jobs could not be started'))
  }
  app.addHook('onListen', async () => {
    const address = app.server.address()
    if (address !== null) core.announce(`${placeOf(address)}${app.prefix}`)
    start()
  })
  app.addHook('onRequest', (_request, _reply, done) => {
    start()
    done()
  })
}

/** Of Fastify's patience with a hook, how much is used. */
const PATIENCE_PART = 0.9

/**
 * It begins before `onClose`: by then the app waits for its connections, which are those of our streams. But Fastify gives up a
 * `preClose` that takes longer than the app's `pluginTimeout`, fails the closing for it, and runs no other, so that whatever those
 * would have ended is waited for without end. So this one returns before that; the connections are waited for, and then the rest is.
 */
function endWithApp(app: FastifyInstance, core: Core, server: FastifyServer): void {
  const end = async (): Promise<void> => {
    await core.drain()
    await server.close()
    // The app has closed those that were idle then, and nobody closes those that have become so since.
    if (!app.server.listening) app.server.closeIdleConnections()
  }
  app.addHook('preClose', async () => {
    const { pluginTimeout = 0 } = app.initialConfig
    const ended = end()
    await (pluginTimeout === 0 ? ended : waitAtMost(ended, pluginTimeout * PATIENCE_PART, core.clock))
  })
  app.addHook('onClose', async () => {
    await end()
    await core.close()
  })
}

function placeOf(address: AddressInfo | string): string {
  if (typeof address === 'string') return address
  return `${address.address.includes(':') ? `[${address.address}]` : address.address}:${address.port}`
}

/** @throws {ConfigError} */
function configOf(settings: Readonly<Record<string, string | undefined>>): Config {
  for (const name of OF_THE_APP) {
    if (settings[name] !== undefined) throw new ConfigError(`${name} is the app's to say: it must not be in settings`)
  }
  const known = new Set<string>()
  const config = readConfig(
    new Proxy(settings, {
      get: (_, name) => {
        if (typeof name !== 'string') return undefined
        known.add(name)
        return settings[name]
      },
    }),
  )
  // In an environment other names are other programs'; here it can only be a mistake.
  const unknown = Object.keys(settings).find((name) => !known.has(name))
  if (unknown !== undefined) throw new ConfigError(`${unknown} is not a setting, see docs/protocol.md, section 6`)
  return config
}

/** What of the app's own options would break streams, or what holds them. @throws {ConfigError} */
function assertApp(app: FastifyInstance, { heartbeatMs }: Config): void {
  const { connectionTimeout = 0, http2 } = app.initialConfig
  // Not in Fastify's types.
  const handlerTimeout: unknown = Reflect.get(app.initialConfig, 'handlerTimeout') ?? 0
  if (!PREFIX.test(app.prefix)) {
    throw new ConfigError(
      `tether must be registered with a prefix, such as app.register(tether, { prefix: '/tether' }), of letters, digits and . _ ~ - without parameters, a segment . or .. and a slash at its end, got ${JSON.stringify(app.prefix)}`,
    )
  }
  if (http2 === true) {
    throw new ConfigError(
      'the app must speak HTTP/1.1, got http2: true: a stream of HTTP/2 has no socket to be seen to close',
    )
  }
  if (connectionTimeout !== 0 && connectionTimeout <= heartbeatMs) {
    throw new ConfigError(
      `the app's connectionTimeout must be 0 or more than HEARTBEAT_MS (${heartbeatMs}), got ${connectionTimeout}: it would cut silent streams`,
    )
  }
  if (handlerTimeout !== 0) {
    throw new ConfigError(`the app's handlerTimeout must be 0, got ${String(handlerTimeout)}: it would cut streams`)
  }
}
