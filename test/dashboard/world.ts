import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Browser, Page } from 'playwright-core'
import { expect, onTestFinished } from 'vitest'
import { openBrowser } from '../readers/Browser.ts'

const BUILD = join(import.meta.dirname, '..', '..', 'scripts', 'dashboard')

/** What a browser says of a connection that failed; a page that lives through that cannot keep it from being said. */
const NETWORK = /net::ERR_/

/** A page that does not show by then what it should says which; a busy machine takes its time. */
const WAIT_MS = 15_000

export interface PageOptions {
  /** Behind the `#`. Default: the list. */
  readonly at?: string
  readonly colorScheme?: 'light' | 'dark'
  readonly viewport?: { readonly width: number; readonly height: number }
  /** What the console may say all the same. */
  readonly allowed?: RegExp
}

/** A browser with the dashboard as it stands in the source. */
export class Visitor {
  readonly #browser: Browser

  private constructor(browser: Browser) {
    this.#browser = browser
  }

  static async come(): Promise<Visitor> {
    // Does nothing where it is built.
    await promisify(execFile)(BUILD)
    return new Visitor(await openBrowser())
  }

  /** A tab of its own, with storage of its own. The test fails where its console says an error, or its script throws one. */
  async open(url: string, options: PageOptions = {}): Promise<Page> {
    const { at = '/', colorScheme = 'light', viewport = { width: 1280, height: 800 }, allowed } = options
    const context = await this.#browser.newContext({ colorScheme, viewport, reducedMotion: 'reduce' })
    context.setDefaultTimeout(WAIT_MS)
    const page = await context.newPage()
    watchConsole(page, allowed)
    await page.goto(`${url}/#${at}`)
    return page
  }

  /** Another tab of the same browser, which shares what a browser keeps for all its tabs. */
  async openBeside(page: Page, url: string, at = '/'): Promise<Page> {
    const other = await page.context().newPage()
    watchConsole(other, undefined)
    await other.goto(`${url}/#${at}`)
    return other
  }
}

function watchConsole(page: Page, allowed: RegExp | undefined): void {
  const said: string[] = []
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') said.push(message.text())
  })
  page.on('pageerror', (error) => said.push(String(error)))
  onTestFinished(() => expect(said.filter((text) => allowed?.test(text) !== true)).toEqual([]))
}

export { NETWORK }

/** Shows the job whose row is clicked. */
export function jobAt(id: string): string {
  return `/jobs/${id}`
}

/** The id in the address of a job's page. */
export function idOf(page: Page): string {
  return /#\/jobs\/(\w+)$/.exec(page.url())?.[1] ?? ''
}

/** The status that the head of a job's page shows. */
export function statusOf(page: Page): ReturnType<Page['locator']> {
  return page.locator('.job-title .chip').first()
}

/** The box of one field of the form that starts a job. */
export function field(page: Page, name: string): ReturnType<Page['locator']> {
  return page.locator(`#field-${name}`)
}
