import type { BrowserContext, Page } from 'playwright-core'
import type { Downloads } from './Downloads.ts'
import type { Notes } from './Notes.ts'
import { Tab } from './Tab.ts'

/** A page that opens more is not looking for a reader. */
const MAX_TABS = 10

/** The pages that are open. The one that opened last is the current one: what a click opens is what was meant by it. */
export class Tabs {
  readonly #context: BrowserContext
  readonly #notes: Notes
  readonly #downloads: Downloads
  #tabs: Tab[] = []
  #isOpening = false
  #lostCount = 0

  constructor(context: BrowserContext, options: { readonly notes: Notes; readonly downloads: Downloads }) {
    this.#context = context
    this.#notes = options.notes
    this.#downloads = options.downloads
    for (const page of context.pages()) this.#add(page)
    context.on('page', (page) => this.#onPage(page))
  }

  get count(): number {
    return this.#tabs.length
  }

  /** The current page; a new empty one where there is none, or where it crashed. */
  async current(): Promise<Tab> {
    const last = this.#tabs.at(-1)
    if (last?.isUsable === true) return last
    return last === undefined ? this.#new() : this.replace(last)
  }

  /** How many pages had to be given up. */
  get lostCount(): number {
    return this.#lostCount
  }

  /** An empty page instead of one that is of no use any more. */
  async replace(tab: Tab): Promise<Tab> {
    const what = tab.isUsable ? 'The page does not answer and was closed' : 'The page is gone'
    this.#notes.add(`${what}; an empty one is open instead. browser_open opens another.`)
    this.#lostCount += 1
    this.#forget(tab)
    // The new one first: a browser ends with its last page.
    const fresh = await this.#new()
    await tab.close()
    return fresh
  }

  /** Closes the current page, so that the one before it becomes that. */
  async closeCurrent(): Promise<void> {
    const tab = this.#tabs.at(-1)
    if (tab === undefined) return
    this.#forget(tab)
    await tab.close()
  }

  async #new(): Promise<Tab> {
    this.#isOpening = true
    try {
      const page = await this.#context.newPage()
      return this.#tabs.find((tab) => tab.page === page) ?? this.#add(page)
    } finally {
      this.#isOpening = false
    }
  }

  #onPage(page: Page): void {
    if (this.#isOpening) {
      this.#add(page)
    } else if (this.#tabs.length < MAX_TABS) {
      this.#add(page)
      this.#notes.add('A new tab opened and is the current one now; browser_back closes it.')
    } else {
      this.#notes.add(`A page wanted to open one more tab, and there may be ${MAX_TABS}: it was closed at once.`)
      void page.close().catch(() => undefined)
    }
  }

  #add(page: Page): Tab {
    const tab = new Tab(page, { notes: this.#notes, downloads: this.#downloads })
    this.#tabs.push(tab)
    page.on('close', () => this.#onClose(tab))
    return tab
  }

  #onClose(tab: Tab): void {
    if (this.#forget(tab)) this.#notes.add('A tab was closed by its page.')
  }

  #forget(tab: Tab): boolean {
    const isKnown = this.#tabs.includes(tab)
    this.#tabs = this.#tabs.filter((other) => other !== tab)
    return isKnown
  }
}
