const METHODS = ['get', 'post', 'put', 'patch', 'delete'] as const

/** The description of the API as one page that needs nothing from anywhere else. */
export function renderDocs(document: object): string {
  const paths = Object.entries(membersOf(document, 'paths'))
  const operations = paths.flatMap(([path, item]) =>
    METHODS.flatMap((method) => {
      const operation = membersOf(item)[method]
      return operation === undefined ? [] : [renderOperation(method, path, membersOf({ operation }, 'operation'))]
    }),
  )
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Tether API</title>
<link rel="stylesheet" href="style.css">
<link rel="icon" href="icon.svg">
</head>
<body class="docs">
<header><h1>Tether API</h1><nav><a href="./">Jobs</a> <a href="openapi.json">openapi.json</a></nav></header>
<main>
${operations.join('\n')}
</main>
</body>
</html>
`
}

function renderOperation(method: string, path: string, operation: Readonly<Record<string, unknown>>): string {
  const { parameters, requestBody } = operation
  const summary = typeof operation['summary'] === 'string' ? operation['summary'] : ''
  const answers = Object.entries(membersOf(operation, 'responses')).map(([status, answer]) =>
    renderSchema(`Answer ${status}`, answer),
  )
  return `<section class="operation">
<h2><span class="method">${method.toUpperCase()}</span> <code>${escape(path)}</code></h2>
<p>${escape(summary)}</p>
${parameters === undefined ? '' : renderSchema('Parameters', parameters)}
${requestBody === undefined ? '' : renderSchema('Body', requestBody)}
${answers.join('\n')}
</section>`
}

function renderSchema(title: string, schema: unknown): string {
  return `<details><summary>${escape(title)}</summary><pre>${escape(JSON.stringify(schema, null, 2))}</pre></details>`
}

function membersOf(value: unknown, key?: string): Readonly<Record<string, unknown>> {
  const member: unknown = key === undefined ? value : Reflect.get(Object(value), key)
  return typeof member === 'object' && member !== null ? { ...member } : {}
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}
