import { TaskFailure } from '../../job/failure.ts'

/**
 * `fetch` that follows no redirect: a key in a header of its own, as Anthropic's, goes along to wherever one leads.
 * @throws {TaskFailure} `TETHER_MODEL_FAILED` in place of a 3xx
 */
export function withoutRedirects(fetch: typeof globalThis.fetch): typeof globalThis.fetch {
  return async (input, init) => {
    const response = await fetch(input, { ...init, redirect: 'manual' })
    const { status, url, headers, body } = response
    if (status < 300 || status > 399) return response
    await body?.cancel()
    const location = headers.get('location')
    const target = location === null ? undefined : URL.parse(location, url)?.origin
    throw new TaskFailure(
      'TETHER_MODEL_FAILED',
      `the model server at ${new URL(url).origin} must answer itself, and answered ${status}, which leads to ${target ?? 'nowhere'}`,
    )
  }
}
