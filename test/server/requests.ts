import type { JobView } from '../../src/job/view.ts'

/** What came back, with the body as it was sent and, where it is JSON, as a value. */
export interface Answer {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  // The shape is what a test says it is.
  readonly json: Record<string, unknown>
}

export async function ask(
  url: string,
  path: string,
  options: {
    readonly method?: string
    readonly body?: unknown
    readonly headers?: Readonly<Record<string, string>>
  } = {},
): Promise<Answer> {
  const { method = options.body === undefined ? 'GET' : 'POST', body, headers = {} } = options
  const response = await fetch(url + path, {
    method,
    headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  })
  const text = await response.text()
  const isJson = response.headers.get('content-type')?.startsWith('application/json') === true
  return {
    status: response.status,
    headers: response.headers,
    text,
    json: isJson && text !== '' ? JSON.parse(text) : {},
  }
}

/** Starts a job in the background. */
export async function startJob(url: string, body: Readonly<Record<string, unknown>>): Promise<JobView> {
  const response = await fetch(`${url}/jobs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  if (response.status !== 202)
    throw new Error(`the start was answered with ${response.status}: ${await response.text()}`)
  const view: JobView = JSON.parse(await response.text())
  return view
}

export async function jobOf(url: string, id: string): Promise<JobView> {
  const response = await fetch(`${url}/jobs/${id}`)
  const view: JobView = JSON.parse(await response.text())
  return view
}

/** The blocks of a stream, each without the blank line that ends it; comments too. */
export function blocksOf(text: string): string[] {
  return text.split('\n\n').filter((block) => block !== '')
}
