import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { FastifyReply } from 'fastify'
import { PAGE_HEADERS } from '../access/headers.ts'
import { renderDocs } from '../docsPage.ts'
import type { RouteApp } from './RouteApp.ts'

/** Nothing but our own files runs or is shown, nothing of ours is framed, and no form leaves the page. */
const PAGE_HEADERS = {
  'content-security-policy':
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-cache',
}

const STYLE = join(import.meta.dirname, '..', 'docs.css')

/** Protocol, section 3: the description of the API and its page. */
export function addPageRoutes(app: RouteApp): void {
  const schema = { hide: true }
  const page = { schema, config: { isPage: true } }
  let docs: string | undefined

  app.get('/docs.css', { schema }, async (_request, reply) =>
    sendPage(reply, 'text/css', await readFile(STYLE, 'utf8')),
  )
  app.get('/openapi.json', { schema }, async () => app.swagger())
  app.get('/docs', page, async (_request, reply) => {
    docs ??= renderDocs(app.swagger())
    return sendPage(reply, 'text/html', docs)
  })
}

function sendPage(reply: FastifyReply, type: string, text: string): FastifyReply {
  return reply.headers(PAGE_HEADERS).type(`${type}; charset=utf-8`).send(text)
}
