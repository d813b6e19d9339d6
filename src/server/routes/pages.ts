import type { FastifyReply } from 'fastify'
import type { Pages } from '../Pages.ts'
import type { RouteApp } from './RouteApp.ts'

/** Nothing but our own files runs or is shown, nothing of ours is framed, and no form leaves the page. */
export const PAGE_HEADERS = {
  'content-security-policy':
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-cache',
}

/** Protocol, section 3: the dashboard. */
export function addPageRoutes(app: RouteApp, pages: Pages): void {
  const schema = { hide: true }

  app.get('/', { schema }, async (request, reply) => {
    // Its links are relative, so below a prefix its address needs the slash at the end.
    const [path, query] = request.url.split('?', 2)
    if (path === app.prefix) return reply.redirect(`${app.prefix}/${query === undefined ? '' : `?${query}`}`)
    return sendPage(reply, 'text/html', pages.index)
  })
  app.get('/app.js', { schema }, async (_request, reply) => sendPage(reply, 'text/javascript', pages.script))
  app.get('/style.css', { schema }, async (_request, reply) => sendPage(reply, 'text/css', pages.style))
  app.get('/icon.svg', { schema }, async (_request, reply) => sendPage(reply, 'image/svg+xml', pages.icon))
}

function sendPage(reply: FastifyReply, type: string, text: string): FastifyReply {
  return reply.headers(PAGE_HEADERS).type(`${type}; charset=utf-8`).send(text)
}
