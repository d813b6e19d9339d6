import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { TetherError } from '../../job/error.ts'
import type { ServerLogger } from '../ServerLogger.ts'
import type { Access } from './Access.ts'
import { LOGIN_PAGE_HEADERS, renderLoginPage } from './loginPage.ts'
import type { RequestLimits } from './RequestLimits.ts'
import { sessionCookie, sessionOf } from './sessionCookie.ts'

export interface LoginOptions {
  readonly login: NonNullable<Access['login']>
  readonly limits: RequestLimits
  readonly logger: ServerLogger
}

/** A token has 512 characters at the most, a path of ours not many more. */
const MAX_FORM_BYTES = 8 * 1024

const config = { isPublic: true }
const schema = { hide: true }

/** Protocol, section 6: the page on which a browser shows the API token, for a cookie that it then sends by itself. */
export async function addLoginRoutes(app: FastifyInstance, options: LoginOptions): Promise<void> {
  // Forms are taken here alone.
  await app.register(async (forms) => {
    forms.addContentTypeParser(
      'application/x-www-form-urlencoded',
      { parseAs: 'string' },
      async (_: unknown, text: string) => new URLSearchParams(text),
    )
    addRoutes(forms, options)
  })
}

function addRoutes(app: FastifyInstance, { login, limits, logger }: LoginOptions): void {
  const { sessions, token } = login
  const loginPath = `${app.prefix}/login`
  const logoutPath = `${app.prefix}/logout`

  function sendPage(request: FastifyRequest, reply: FastifyReply, next: string, message?: string): FastifyReply {
    const isLoggedIn = request.tether.identity !== undefined
    const page = { loginPath, logoutPath, next, isLoggedIn, ...(message === undefined ? {} : { message }) }
    return reply.headers(LOGIN_PAGE_HEADERS).type('text/html; charset=utf-8').send(renderLoginPage(page))
  }

  app.get('/login', { config, schema }, async (request, reply) => {
    const { searchParams } = new URL(request.url, 'http://localhost')
    return sendPage(request, reply, nextOf(searchParams.get('next'), app.prefix))
  })

  app.post('/login', { config, schema, bodyLimit: MAX_FORM_BYTES }, async (request, reply) => {
    const form = formOf(request)
    const next = nextOf(form.get('next'), app.prefix)
    try {
      await limits.countLogin(request, reply)
    } catch (error) {
      if (!(error instanceof TetherError)) throw error
      return sendPage(request, reply.code(error.statusCode), next, 'Too many tries. Wait a minute, then try again.')
    }
    if (!token.isToken(form.get('token') ?? '')) {
      logger.warn({ ip: request.ip }, 'a login with a wrong token was refused')
      return sendPage(request, reply.code(401), next, 'This is not the API token of this server.')
    }
    logger.info({ ip: request.ip }, 'a browser has logged in')
    // Whatever session it had is over: nobody goes on with one that they knew before.
    sessions.end(sessionOf(request) ?? '')
    return reply.header('set-cookie', sessionCookie(request, sessions.open())).redirect(next, 303)
  })

  app.post('/logout', { config, schema, bodyLimit: MAX_FORM_BYTES }, async (request, reply) => {
    sessions.end(sessionOf(request) ?? '')
    return reply.header('set-cookie', sessionCookie(request, undefined)).redirect(loginPath, 303)
  })
}

function formOf({ body }: FastifyRequest): URLSearchParams {
  return body instanceof URLSearchParams ? body : new URLSearchParams()
}

/** Where to go after a login: a path of ours, or the dashboard. Never what a browser would take for another host. */
function nextOf(text: string | null, prefix: string): string {
  const base = 'http://localhost'
  const url = text?.startsWith('/') === true ? URL.parse(text, base) : null
  if (url === null || url.origin !== base) return `${prefix}/`
  return url.pathname.startsWith('//') ? `${prefix}/` : url.pathname + url.search + url.hash
}
