import { fastifyCors } from '@fastify/cors'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { TetherError } from '../../job/error.ts'
import { isJobId } from '../../job/id.ts'
import type { RequestKind } from '../../job/request.ts'
import type { JobManager } from '../../jobs/JobManager.ts'
import type { ServerConfig } from '../ServerConfig.ts'
import type { ServerLogger } from '../ServerLogger.ts'
import { type Access, isSafe } from './Access.ts'
import { ANSWER_HEADERS } from './headers.ts'
import type { Scope } from './Identity.ts'
import { addLoginRoutes } from './login.ts'
import { openRequestLimits } from './RequestLimits.ts'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What who asks must be allowed. Needed on every route that changes something; `read` is the default of the others. */
    scope?: Scope
    /** Exempt from Host and token: what a load balancer asks. */
    isHealth?: boolean
    /** Exempt from the token: where it is shown. */
    isPublic?: boolean
    /** Never limited in how often it is asked: what ends work, or keeps it from being ended. */
    isUnlimited?: boolean
    /** A page, for which a browser that is not logged in is sent to the login. */
    isPage?: boolean
    /** What it asks of the job `:id`: refusals stand among the job's requests too. */
    asks?: RequestKind
  }
}

export interface AccessHooks {
  readonly access: Access
  readonly config: Pick<ServerConfig, 'allowedOrigins' | 'rateLimitPerMinute'>
  readonly jobs: JobManager
  readonly logger: ServerLogger
  readonly isClosing: () => boolean
}

/**
 * Everything that is asked of a request before its body is read. The order matters: where it comes from and who sent it; a preflight,
 * which bears no token; how often; whether they may. What waits for nothing is done in the turn of the request's head.
 */
export async function addAccess(app: FastifyInstance, hooks: AccessHooks): Promise<void> {
  const { access, config, jobs, logger, isClosing } = hooks
  app.addHook('onRoute', ({ method, url, config: route }) => {
    const isExempt = route?.scope !== undefined || route?.isPublic === true || route?.isHealth === true
    if (!isExempt && ![method].flat().every(isSafe)) throw new Error(`the route ${url} must say which scope it needs`)
  })
  app.addHook('onRequest', (request, reply, done) => {
    reply.headers(ANSWER_HEADERS)
    if (isClosing()) throw new TetherError('TETHER_DRAINING', 'the server is closing')
    return goOn(access.admit(request), done)
  })
  // Where the app has CORS of its own, that answers the preflights of all of its routes, these too.
  if (config.allowedOrigins.length > 0 && !app.hasRequestDecorator('corsPreflightEnabled')) {
    await app.register(fastifyCors, {
      origin: [...config.allowedOrigins],
      methods: ['GET', 'POST', 'PATCH', 'DELETE'],
      allowedHeaders: ['Authorization', 'Content-Type', 'Idempotency-Key', 'Last-Event-ID'],
      exposedHeaders: ['X-Tether-Job-Id', 'X-Tether-Holder', 'X-Tether-Delivery', 'Location', 'Retry-After'],
      maxAge: 600,
    })
  }
  const limits =
    config.rateLimitPerMinute === 0 && access.login === undefined
      ? undefined
      : await openRequestLimits(app, config.rateLimitPerMinute)
  app.addHook('onRequest', (request, reply, done) => goOn(limits?.count(request, reply), done))
  app.addHook('onRequest', (request, reply, done) => {
    if (access.login !== undefined && isStrangersPage(request)) {
      sendToLogin(app, request, reply)
      return
    }
    try {
      access.assertMay(request)
    } catch (error) {
      noteRefusal(jobs, request, error)
      throw error
    }
    done()
  })
  if (access.login !== undefined && limits !== undefined) {
    await addLoginRoutes(app, { login: access.login, limits, logger })
  }
}

/** Fastify goes on where `done` was called, or with the promise that a hook gives: the first is in the same turn. */
function goOn(waiting: Promise<void> | undefined, done: () => void): Promise<void> | undefined {
  if (waiting === undefined) done()
  return waiting
}

/** A browser asks for a page, and is not logged in. */
function isStrangersPage({ tether, routeOptions, headers }: FastifyRequest): boolean {
  return (
    tether.identity === undefined &&
    routeOptions.config.isPage === true &&
    headers.accept?.includes('text/html') === true
  )
}

function sendToLogin(app: FastifyInstance, { url }: FastifyRequest, reply: FastifyReply): void {
  void reply.header('cache-control', 'no-store').redirect(`${app.prefix}/login?next=${encodeURIComponent(url)}`, 303)
}

function noteRefusal(jobs: JobManager, { tether, routeOptions, params }: FastifyRequest, error: unknown): void {
  const { asks } = routeOptions.config
  if (tether.identity === undefined || asks === undefined || !(error instanceof TetherError)) return
  const id = typeof params === 'object' && params !== null && 'id' in params ? String(params.id) : ''
  if (isJobId(id)) jobs.noteRefused({ tenant: tether.caller.tenant, id }, asks, tether.caller, error.code)
}
