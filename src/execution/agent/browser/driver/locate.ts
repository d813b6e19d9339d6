import type { Locator, Page } from 'playwright-core'
import type { PageReader } from './PageReader.ts'
import { within } from './within.ts'

/**
 * What a target names: a ref that the page's text bears, such as `e12` or `f1e2`, or anything that Playwright takes as a selector.
 * @throws {Error} where there is nothing with that ref any more, or the page does not answer in `maxMs`
 */
export async function locate(page: Page, reader: PageReader, target: string, maxMs: number): Promise<Locator> {
  const [isRef, frameNumber, ref] = /^\[?(?:f(\d+))?(e\d+)\]?$/.exec(target.trim()) ?? []
  if (isRef === undefined) return page.locator(target)
  const frame = frameNumber === undefined ? page.mainFrame() : reader.frame(page, Number(frameNumber))
  const locator = frame?.locator(`tether=${ref}`)
  // An element that had a ref is there at once, or it is not.
  const count = locator === undefined ? 0 : await within(maxMs, locator.count())
  if (locator !== undefined && count === 1) return locator
  if (count === undefined) throw new Error('the page does not answer')
  throw new Error(`there is no ${target} on the page now: take a ref of the latest text, or read the page again`)
}
