import type { Socket } from 'node:net'
import { fastifySSE } from '@fastify/sse'
import { fastifySwagger } from '@fastify/swagger'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { type FastifyInstance, fastify } from 'fastify'
import type { Clock } from '../clock.ts'
import type { HealthReport } from '../health/HealthReport.ts'
import type { JobManager } from '../jobs/JobManager.ts'
import type { Metrics } from '../metrics/Metrics.ts'
import { noteAsked } from './Asked.ts'
import { Access } from './access/Access.ts'
import { addAccess } from './access/addAccess.ts'
import type { Authenticate } from './access/Identity.ts'
import { describeApi, finishDocument } from './apiDocument.ts'
import { setUpConnection } from './connections.ts'
import { errorBody, routeNotFound, sendError } from './errors.ts'
import { refuseHead } from './headRoutes.ts'
import { addJsonParser } from './jsonBody.ts'
import { listenAt } from './listen.ts'
import { BuiltPages } from './Pages.ts'
import { traceRequest } from './requestSpans.ts'
import { addDashboardRoutes } from './routes/dashboard.ts'
import { addDocsRoutes } from './routes/docs.ts'
import { addEndingRoutes } from './routes/ending.ts'
import { addEventRoutes } from './routes/events.ts'
import { addExecuteRoutes } from './routes/execute.ts'
import { addFileRoutes } from './routes/files.ts'
import { addHealthRoutes } from './routes/health.ts'
import { addJobRoutes } from './routes/jobs.ts'
import { addMetricsRoute } from './routes/metrics.ts'
import type { RouteApp } from './routes/RouteApp.ts'
import { addTaskRoutes } from './routes/tasks.ts'
import type { ServerConfig } from './ServerConfig.ts'
import type { ServerContext } from './ServerContext.ts'
import { type ServerCounters, zeroCounters } from './ServerCounters.ts'
import type { ServerFigures } from './ServerFigures.ts'
import type { ServerLogger } from './ServerLogger.ts'
import { StreamQuota } from './StreamQuota.ts'
import { JobFeed } from './sse/JobFeed.ts'
import { OpenResponses } from './sse/OpenResponses.ts'
import { ReaderBudget } from './sse/ReaderBudget.ts'
import { UnansweredWrites } from './UnansweredWrites.ts'
import { validatorCompiler } from './validation.ts'

export interface FastifyServerOptions {
  readonly config: ServerConfig
  readonly jobs: JobManager
  readonly health: HealthReport
  /** What `GET /metrics` answers with. */
  readonly metrics: Pick<Metrics, 'scrape'>
  readonly logger: ServerLogger
  readonly clock: Clock
  /** Says who sent a request. Default: the API token does. */
  readonly authenticate?: Authenticate
  /** How slow a client may be. Default: `REQUEST_TIMES`. */
  readonly requestTimes?: RequestTimes
}

export interface RequestTimes {
  /** From the connection, or the end of the request before, to the end of a request's head. */
  readonly headersMs: number
  /** To the end of its body. Its answer may take as long as it likes. */
  readonly requestMs: number
  /** How often connections are looked at. */
  readonly checkMs: number
}

/** Protocol, section 3. */
const MAX_BODY_BYTES = 1024 * 1024

/** Who sends more slowly is cut: a body of 1 MiB at 18 KiB/s is just in time. */
const REQUEST_TIMES: RequestTimes = { headersMs: 20_000, requestMs: 60_000, checkMs: 5000 }

/** Of a request's first line and headers together. */
const MAX_HEADER_BYTES = 16 * 1024

/** Longer path segments are answered with 404 before anyone looks at them; a file's path may be long. */
const MAX_PARAM_LENGTH = 4096

/** How long clients may take to read what they were sent when the server closes. */
const CLOSE_GRACE_MS = 1000
const IDLE_POLL_MS = 20

/**
 * The HTTP edge: everything between a socket and `JobManager`. It listens by itself, on an app of its own, or is put on somebody
 * else's (`addTo`): the same routes, streams and rules.
 */
export class FastifyServer {
  readonly counters: ServerCounters = zeroCounters()
  readonly #context: ServerContext
  readonly #clock: Clock
  readonly #unanswered: UnansweredWrites
  readonly #access: Access
  readonly #requestTimes: RequestTimes
  /** Only where it listens by itself. */
  #ownApp: FastifyInstance | undefined
  #closing: Promise<void> | undefined

  constructor(options: FastifyServerOptions) {
    const { config, jobs, health, metrics, logger, clock, authenticate, requestTimes = REQUEST_TIMES } = options
    this.#clock = clock
    this.#access = new Access({ config, clock, ...(authenticate === undefined ? {} : { authenticate }) })
    this.#requestTimes = requestTimes
    this.#context = {
      config,
      jobs,
      health,
      metrics,
      logger,
      counters: this.counters,
      budget: new ReaderBudget(config.maxBufferedBytes),
      quota: new StreamQuota(config.maxStreamsPerClient),
      open: new OpenResponses(clock, config),
      feed: new JobFeed(jobs, this.counters, config.maxBufferedBytes),
    }
    this.#unanswered = new UnansweredWrites({ open: this.#context.open, clock, logger, counters: this.counters })
  }

  /** How many responses are open that may stay so: streams, and requests that wait for an outcome. */
  get openCount(): number {
    return this.#context.open.size
  }

  figures(): ServerFigures {
    const { open, budget } = this.#context
    return { counters: { ...this.counters }, ...open.figures(), slow: budget.behind }
  }

  /** Settles when connections are taken. `url` is the address that was given, with the port that was picked. */
  async listen(): Promise<{ readonly url: string }> {
    const { config, logger } = this.#context
    const app = fastify({
      logger: false,
      trustProxy: config.trustProxy,
      return503OnClosing: false,
      requestTimeout: this.#requestTimes.requestMs,
      http: {
        headersTimeout: this.#requestTimes.headersMs,
        connectionsCheckingInterval: this.#requestTimes.checkMs,
        maxHeaderSize: MAX_HEADER_BYTES,
      },
      routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
      frameworkErrors: (error, _request, reply) => sendError(error, reply, logger),
      clientErrorHandler: refuseMalformed,
    })
    app.server.on('connection', setUpConnection)
    this.#ownApp = app
    await this.addTo(app)
    await app.ready()
    return { url: await listenAt(app, config) }
  }

  /**
   * Puts everything on `app`, and touches nothing outside of its scope. Whoever does so for an app that listens by itself calls
   * `close` before it closes its connections.
   */
  async addTo(scope: FastifyInstance): Promise<void> {
    const app = scope.withTypeProvider<TypeBoxTypeProvider>()
    const { logger } = this.#context
    app.addHook('onRoute', (route) => {
      route.bodyLimit ??= MAX_BODY_BYTES
      if (route.method === 'HEAD') refuseHead(route)
    })
    app.setValidatorCompiler(validatorCompiler)
    // The schemas of answers describe them; serializing by them would drop what they do not name.
    app.setSerializerCompiler(() => (data) => JSON.stringify(data))
    // Else that of an app around ours would be asked instead.
    app.setReplySerializer((data) => JSON.stringify(data))
    app.setErrorHandler((error, _request, reply) => sendError(error, reply, logger))
    app.setNotFoundHandler((request) => {
      throw routeNotFound(request)
    })
    addJsonParser(app)
    app.addHook('onRequest', noteAsked)
    app.addHook('onRequest', traceRequest)
    const { config, jobs } = this.#context
    const isClosing = (): boolean => this.#closing !== undefined
    await addAccess(app, { access: this.#access, config, jobs, logger, isClosing })
    await app.register(fastifySwagger, {
      openapi: describeApi(app.prefix),
      convertConstToEnum: false,
      decorator: 'tetherApi',
      transformObject: (document) => ('openapiObject' in document ? finishDocument({ ...document.openapiObject }) : {}),
    })
    await app.register(fastifySSE, { heartbeatInterval: 0 })
    this.#addRoutes(app)
    this.#unanswered.start(() => app.addresses().filter((address) => typeof address !== 'string'))
  }

  /**
   * Ends every response that is open, and where it listens by itself closes every connection. Jobs are not ended by it: whoever
   * wants that drains the `JobManager` first, which ends the streams of jobs after their last event. Settles within about two
   * seconds.
   */
  close(): Promise<void> {
    return (this.#closing ??= this.#close())
  }

  async #close(): Promise<void> {
    // Before the socket stops listening: closing it also destroys connections whose last bytes still wait for the kernel.
    await this.#context.open.shutDown(CLOSE_GRACE_MS)
    await this.#unanswered.stop()
    const app = this.#ownApp
    if (app === undefined) return
    const stopPolling = this.#closeConnectionsOf(app)
    await app.close()
    stopPolling()
  }

  /** Connections that become idle while the others finish are closed too, and in the end all that are left. */
  #closeConnectionsOf({ server }: FastifyInstance): () => void {
    const cancelGrace = this.#clock.schedule(CLOSE_GRACE_MS, () => server.closeAllConnections())
    let cancelPoll = (): void => undefined
    const poll = (): void => {
      server.closeIdleConnections()
      cancelPoll = this.#clock.schedule(IDLE_POLL_MS, poll)
    }
    poll()
    return () => {
      cancelGrace()
      cancelPoll()
    }
  }

  #addRoutes(app: RouteApp): void {
    const context = this.#context
    addExecuteRoutes(app, context)
    addJobRoutes(app, context)
    addEventRoutes(app, context)
    addEndingRoutes(app, context)
    addFileRoutes(app, context)
    addTaskRoutes(app, context)
    addHealthRoutes(app, context)
    addMetricsRoute(app, context)
    addDocsRoutes(app)
    addDashboardRoutes(app, new BuiltPages())
  }
}

/** What was sent is not HTTP, or its head is too long or too late. There is no request, so no route and no hook runs. */
function refuseMalformed(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  const body = JSON.stringify(errorBody('TETHER_INVALID_REQUEST', 'the request is not valid HTTP'))
  const head = `HTTP/1.1 400 Bad Request\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n`
  socket.end(head + body)
  socket.destroySoon()
}
