import type { FastifyReply, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { ANSWER_HEADERS } from '../access/headers.ts'
import { routeNotFound } from '../errors.ts'
import type { BuiltPages, PageFile } from '../Pages.ts'
import type { RouteApp } from './RouteApp.ts'

/**
 * Only files of our own run or are shown, nothing is inline, nothing is made out of text (`trusted-types`), the page talks to this
 * server alone, nothing of ours is framed, and no form leaves the page.
 */
const PAGE_HEADERS = {
  ...ANSWER_HEADERS,
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  'cross-origin-opener-policy': 'same-origin',
  vary: 'accept-encoding',
}

const UNTIL_ASKED = 'no-cache'
const FOR_EVER = 'public, max-age=31536000, immutable'

const NOT_BUILT = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Tether</title>
<h1>The dashboard is not built</h1>
<p>Run <code>scripts/dashboard</code> in the folder of the project, then load this page again. The server needs no restart, and its API needs no dashboard.</p>
</html>
`

/** Protocol, section 3: the dashboard. What it shows it asks for like any other client. */
export function addDashboardRoutes(app: RouteApp, built: BuiltPages): void {
  const schema = { hide: true }

  app.get('/', { schema, config: { isPage: true } }, async (request, reply) => {
    // Its links are relative, so below a prefix its address needs the slash at the end.
    const [path, query] = request.url.split('?', 2)
    if (path === app.prefix) return reply.redirect(`${app.prefix}/${query === undefined ? '' : `?${query}`}`)
    const pages = await built.pages()
    if (pages !== undefined) return send(request, reply, pages.index, UNTIL_ASKED)
    return reply.code(503).headers(PAGE_HEADERS).header('cache-control', 'no-store').type('text/html').send(NOT_BUILT)
  })

  app.get('/icon.svg', { schema }, async (request, reply) => {
    const icon = (await built.pages())?.icon
    if (icon === undefined) throw routeNotFound(request)
    return send(request, reply, icon, UNTIL_ASKED)
  })

  app.get(
    '/assets/:name',
    { schema: { ...schema, params: Type.Object({ name: Type.String() }) } },
    async (request, reply) => {
      const asset = (await built.pages())?.assets.get(request.params.name)
      if (asset === undefined) throw routeNotFound(request)
      return send(request, reply, asset, FOR_EVER)
    },
  )
}

function send(request: FastifyRequest, reply: FastifyReply, file: PageFile, cacheControl: string): FastifyReply {
  reply.headers(PAGE_HEADERS).header('cache-control', cacheControl).type(file.type)
  if (!acceptsGzip(request.headers['accept-encoding'])) return reply.send(file.body)
  return reply.header('content-encoding', 'gzip').send(file.gzipped)
}

function acceptsGzip(accepted: string | string[] | undefined): boolean {
  return /(?:^|,)\s*gzip\s*(?:,|;\s*q=(?!0(?:\.0*)?\s*(?:,|$))|$)/i.test(String(accepted ?? ''))
}
