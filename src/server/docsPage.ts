import { escapeHtml } from './escapeHtml.ts'

const METHODS = ['get', 'post', 'put', 'patch', 'delete'] as const

/** The page that shows the description of the API. Its links are relative, to where it stands. */
export const DOCS_PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Tether API</title>
<link rel="stylesheet" href="/docs.css">
<link rel="icon" href="/icon.svg">
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

function renderOperation(method: string, path: string, operation: Readonly<Record<string, unknown>>): string {
  const { parameters, requestBody } = operation
  const summary = typeof operation['summary'] === 'string' ? operation['summary'] : ''
  const answers = Object.entries(membersOf(operation, 'responses')).map(([status, answer]) =>
    renderSchema(`Answer ${status}`, answer),
  )
  return `<section class="operation">
<h2><span class="method">${method.toUpperCase()}</span> <code>${escapeHtml(path)}</code></h2>
<p>${escapeHtml(summary)}</p>
${parameters === undefined ? '' : renderSchema('Parameters', parameters)}
${requestBody === undefined ? '' : renderSchema('Body', requestBody)}
${answers.join('\n')}
</section>`
}

function renderSchema(title: string, schema: unknown): string {
  return `<details><summary>${escapeHtml(title)}</summary><pre>${escapeHtml(JSON.stringify(schema, null, 2))}</pre></details>`
}

function membersOf(value: unknown, key?: string): Readonly<Record<string, unknown>> {
  const member: unknown = key === undefined ? value : Reflect.get(Object(value), key)
  return typeof member === 'object' && member !== null ? { ...member } : {}
}
