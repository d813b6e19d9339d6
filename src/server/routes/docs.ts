import { PAGE_HEADERS } from '../access/headers.ts'
import { DOCS_PAGE, DOCS_SCRIPT, scalarScript } from '../docsPage.ts'
import type { RouteApp } from './RouteApp.ts'

/**
 * Of this page alone: Scalar writes styles into the page, as elements and as attributes, and of those a policy takes no nonce.
 * Scripts are files of ours all the same, never inline or evaluated, and nothing is fetched from or sent to anybody else.
 */
const POLICY = [
  "default-src 'self'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self' data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "object-src 'none'",
].join('; ')

/** Long enough for one visit; the file is 5 MB. */
const SCRIPT_MAX_AGE_S = 3600

/** Protocol, section 3: the description of the API, as a document and as a page. */
export function addDocsRoutes(app: RouteApp): void {
  const schema = { hide: true }

  app.get('/openapi.json', { schema }, async () => app.getDecorator<() => object>('tetherApi')())

  app.get('/docs', { schema, config: { isPage: true } }, async (_request, reply) =>
    reply
      .headers({ ...PAGE_HEADERS, 'content-security-policy': POLICY })
      .type('text/html; charset=utf-8')
      .send(DOCS_PAGE),
  )

  app.get('/docs/start.js', { schema }, async (_request, reply) =>
    reply.headers(PAGE_HEADERS).type('text/javascript; charset=utf-8').send(DOCS_SCRIPT),
  )

  app.get('/docs/scalar.js', { schema }, async (_request, reply) => {
    const script = await scalarScript()
    return reply
      .headers({ ...PAGE_HEADERS, 'cache-control': `private, max-age=${SCRIPT_MAX_AGE_S}` })
      .type('text/javascript; charset=utf-8')
      .send(script)
  })
}
