import { type FastifyInstance, fastify } from 'fastify'

/** The page that shows the description of the API. Its links are relative, to where it stands. */
export const DOCS_PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Tether API</title>
<link rel="icon" href="icon.svg">
</head>
<body>
<div id="app"></div>
<noscript><p>This page needs JavaScript. The same as a file: <a href="openapi.json">openapi.json</a>.</p></noscript>
<script src="docs/start.js"></script>
<script src="docs/scalar.js"></script>
</body>
</html>
`

/** Nothing is fetched from elsewhere, and nothing is sent there. */
export const DOCS_SCRIPT = `'use strict'
// What checks settings in there else tries whether it may make functions out of text, and the page's policy complains of it.
globalThis.__zod_globalConfig = { jitless: true }
addEventListener('load', () => {
  Scalar.createApiReference('#app', {
    url: 'openapi.json',
    withDefaultFonts: false,
    telemetry: false,
    showDeveloperTools: 'never',
    hideClientButton: true,
    agent: { disabled: true },
    mcp: { disabled: true },
    persistAuth: false,
    defaultHttpClient: { targetKey: 'shell', clientKey: 'curl' },
  })
})
`

let script: Promise<Buffer> | undefined

/** Scalar itself, 5 MB. Loaded when somebody looks, since most servers are never asked for it. */
export function scalarScript(): Promise<Buffer> {
  script ??= loadScalar()
  script.catch(() => {
    script = undefined
  })
  return script
}

/** The package gives its script to a Fastify app alone, so one is made for it that nobody else can ask. */
async function loadScalar(): Promise<Buffer> {
  const { default: apiReference } = await import('@scalar/fastify-api-reference')
  const app: FastifyInstance = fastify()
  try {
    await app.register(apiReference, { routePrefix: '/docs', configuration: { content: {} } })
    const { statusCode, rawPayload } = await app.inject('/docs/js/scalar.js')
    if (statusCode !== 200) throw new Error(`the pages of the API have no script: ${statusCode}`)
    return rawPayload
  } finally {
    await app.close()
  }
}
