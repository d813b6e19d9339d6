import type { Page } from 'playwright-core'

/**
 * Settles when `text` can be seen in one of the page's frames, or in none of them any more.
 * @throws {Error} `TimeoutError`, or an `AggregateError` of them, where that is not so after `maxMs`
 */
export async function untilText(page: Page, text: string, isGone: boolean, maxMs: number): Promise<void> {
  const over = new AbortController()
  const waits = page.frames().map((frame) => {
    const seen = frame.getByText(text).filter({ visible: true }).first()
    return seen.waitFor({ state: isGone ? 'detached' : 'attached', timeout: maxMs, signal: over.signal })
  })
  try {
    await (isGone ? Promise.all(waits) : Promise.any(waits))
  } finally {
    over.abort()
    await Promise.allSettled(waits)
  }
}
