import { explain, isTimeout } from './explain.ts'
import { shownUrl } from './PageReader.ts'
import type { Tab } from './Tab.ts'

/** What the model is told of it, a line. Settles when the page begins to arrive. @throws {Error} saying why it cannot be opened */
export async function openAddress(tab: Tab, url: string, maxMs: number): Promise<string> {
  try {
    const response = await tab.page.goto(url, { waitUntil: 'commit', timeout: maxMs })
    const status = response === null ? '' : ` (status ${response.status()})`
    return `Opened ${shownUrl(tab.page.url())}${status}.`
  } catch (error) {
    if (error instanceof Error && error.message.includes('Download is starting')) return 'The address is a file.'
    // What comes late must not take the page away.
    await tab.stopLoading()
    const reason = isTimeout(error) ? `there was no answer within ${Math.round(maxMs)} ms` : explain(error)
    throw new Error(`${shownUrl(url)} could not be opened: ${reason}`, { cause: error })
  }
}
