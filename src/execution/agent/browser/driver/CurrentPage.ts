import { isReachable } from '../address.ts'
import { type CallTime, MIN_MS } from './CallTime.ts'
import { isTimeout } from './explain.ts'
import type { Notes } from './Notes.ts'
import type { PageReader, Window } from './PageReader.ts'
import type { Tab } from './Tab.ts'
import type { Tabs } from './Tabs.ts'

/** A page that says nothing for so long is not going to. */
const PING_MS = 4000

/** The page that is used, and what is done where it does not answer: its script is stopped, or else an empty page takes its place. */
export class CurrentPage {
  readonly #tabs: Tabs
  readonly #reader: PageReader
  readonly #notes: Notes

  constructor(tabs: Tabs, reader: PageReader, notes: Notes) {
    this.#tabs = tabs
    this.#reader = reader
    this.#notes = notes
  }

  /** One that has shown that it answers. */
  async answering(time: CallTime): Promise<Tab> {
    const tab = await this.#tabs.current()
    if (await tab.answers(Math.min(PING_MS, time.leftMs))) return tab
    if ((await this.#stopScript(tab)) && (await tab.answers(MIN_MS))) return tab
    return this.#tabs.replace(tab)
  }

  /** Waits until it is at rest, also where another one becomes the current one meanwhile. False where it is not after `maxMs`. */
  async settled(maxMs: number): Promise<boolean> {
    const endsMs = performance.now() + maxMs
    for (let tab = await this.#tabs.current(); ; ) {
      const isAtRest = await tab.settled(Math.max(0, endsMs - performance.now()))
      const next = await this.#tabs.current()
      if (next === tab) return isAtRest
      tab = next
    }
  }

  /** As it is now. */
  async text(window: Window, time: CallTime): Promise<string> {
    const tab = await this.#tabs.current()
    if (!isReachable(tab.page.url())) {
      this.#notes.add('The page led to an address that this browser does not show.')
      await this.#tabs.replace(tab)
      return ''
    }
    const text = await this.#read(tab, window, time.leftMs)
    // What the browser says of an address that cannot be opened is told already, in fewer words.
    if (tab.page.url().startsWith('chrome-error:')) return ''
    if (text !== undefined) return text
    const later = (await this.#stopScript(tab)) ? await this.#read(tab, window, MIN_MS) : undefined
    if (later !== undefined) return later
    await this.#tabs.replace(tab)
    return ''
  }

  /** Undefined where it does not answer in time, or is gone. */
  async #read(tab: Tab, window: Window, maxMs: number): Promise<string | undefined> {
    try {
      return await this.#reader.read(tab.page, window, maxMs)
    } catch (error) {
      if (tab.isUsable && !isTimeout(error)) throw error
      return undefined
    }
  }

  async #stopScript(tab: Tab): Promise<boolean> {
    const isStopped = tab.isUsable && (await tab.stopScript())
    if (isStopped) this.#notes.add('The page did not answer, so what its scripts were doing was stopped.')
    return isStopped
  }
}
