import type { FastifyReply } from 'fastify'
import { PAGE_HEADERS } from '../access/headers.ts'
import { renderDocs } from '../docsPage.ts'
import type { Pages } from '../Pages.ts'
import type { RouteApp } from './RouteApp.ts'

/** Protocol, section 3: the dashboard, the description of the API and its pages. */
export function addPageRoutes(app: RouteApp, pages: Pages): void {
  const schema = { hide: true }
  const page = { schema, config: { isPage: true } }
  let docs: string | undefined

  app.get('/', page, async (_request, reply) => sendPage(reply, 'text/html', pages.index))
  app.get('/app.js', { schema }, async (_request, reply) => sendPage(reply, 'text/javascript', pages.script))
  app.get('/style.css', { schema }, async (_request, reply) => sendPage(reply, 'text/css', pages.style))
  app.get('/icon.svg', { schema }, async (_request, reply) => sendPage(reply, 'image/svg+xml', pages.icon))
  app.get('/openapi.json', { schema }, async () => app.swagger())
  app.get('/docs', page, async (_request, reply) => {
    docs ??= renderDocs(app.swagger())
    return sendPage(reply, 'text/html', docs)
  })
}

function sendPage(reply: FastifyReply, type: string, text: string): FastifyReply {
  return reply.headers(PAGE_HEADERS).type(`${type}; charset=utf-8`).send(text)
}
