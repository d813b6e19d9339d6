import { unreachable } from '../../../../job/unreachable.ts'
import type { BrowserCall, DialogAnswer } from '../messages.ts'
import { CallTime, MIN_MS } from './CallTime.ts'
import { CurrentPage } from './CurrentPage.ts'
import type { Downloads } from './Downloads.ts'
import { explain, isTimeout } from './explain.ts'
import { locate } from './locate.ts'
import type { Notes } from './Notes.ts'
import { openAddress } from './openAddress.ts'
import { PageReader, shownUrl } from './PageReader.ts'
import type { Tab } from './Tab.ts'
import type { Tabs } from './Tabs.ts'
import { takeScreenshot } from './takeScreenshot.ts'
import { typeText } from './typeText.ts'
import { untilText } from './untilText.ts'

/** What an action sets off may go on for ever; after so long the page is read as it is. */
const SETTLE_MS = 4000
const LOAD_MS = 10_000

type Call<D extends BrowserCall['do']> = Extract<BrowserCall, { do: D }>

export interface Outcome {
  readonly ok: boolean
  readonly text: string
  /** Files of the workspace that came to be. */
  readonly files: readonly string[]
}

/** What was done, in a line, before the page is looked at. */
interface Done {
  readonly ok: boolean
  readonly headline: string
}

/** What a browser is made to do, one call after the other. */
export class Session {
  readonly #tabs: Tabs
  readonly #notes: Notes
  readonly #downloads: Downloads
  readonly #workspace: string
  readonly #reader = new PageReader()
  readonly #current: CurrentPage

  constructor(options: {
    readonly tabs: Tabs
    readonly notes: Notes
    readonly downloads: Downloads
    readonly workspace: string
  }) {
    this.#tabs = options.tabs
    this.#notes = options.notes
    this.#downloads = options.downloads
    this.#workspace = options.workspace
    this.#current = new CurrentPage(this.#tabs, this.#reader, this.#notes)
  }

  /** What is told of a call. Never rejects. */
  async answer(call: BrowserCall): Promise<Outcome> {
    try {
      const { ok, text, files } = await this.#do(call, new CallTime(call.timeoutMs))
      return { ok, text, files: [...files, ...this.#downloads.takeFiles()] }
    } catch (error) {
      const text = [explain(error), ...this.#notes.take()].join('\n')
      return { ok: false, text, files: this.#downloads.takeFiles() }
    }
  }

  async #do(call: BrowserCall, time: CallTime): Promise<Outcome> {
    switch (call.do) {
      case 'open':
        return this.#act(call, time, { work: (tab, maxMs) => openAddress(tab, call.url, maxMs), settleMs: LOAD_MS })
      case 'click':
        return this.#act(call, time, { work: (tab, maxMs) => this.#click(tab, call, maxMs), dialogs: call.dialogs })
      case 'type':
        return this.#act(call, time, { work: (tab, maxMs) => this.#type(tab, call, maxMs), dialogs: call.dialogs })
      case 'back':
        return this.#act(call, time, { work: (tab, maxMs) => this.#back(tab, maxMs) })
      case 'wait':
        return this.#wait(call, CallTime.ofWork(call.timeoutMs))
      case 'read':
        return this.#read(call, time)
      case 'screenshot':
        return this.#screenshot(call, time)
      default:
        return unreachable(call)
    }
  }

  async #click({ page }: Tab, { target, isDouble }: Call<'click'>, maxMs: number): Promise<string> {
    const locator = await locate(page, this.#reader, target, maxMs)
    const clicked = isDouble ? locator.dblclick({ timeout: maxMs }) : locator.click({ timeout: maxMs })
    await clicked.catch((error: unknown) => {
      // A page that closes itself because of the click may be gone before the browser has said that it took it.
      if (!page.isClosed() || !hadBegun(error)) throw error
    })
    return `Clicked ${target}.`
  }

  async #type({ page }: Tab, call: Call<'type'>, maxMs: number): Promise<string> {
    const locator = call.target === undefined ? undefined : await locate(page, this.#reader, call.target, maxMs)
    return typeText(page, locator, call, maxMs)
  }

  async #back({ page }: Tab, maxMs: number): Promise<string> {
    const before = page.url()
    const response = await page.goBack({ waitUntil: 'commit', timeout: maxMs })
    if (response !== null || page.url() !== before) return `Went back to ${shownUrl(page.url())}.`
    if (this.#tabs.count < 2) throw new Error('there is no page before this one')
    await this.#tabs.closeCurrent()
    return 'Closed the tab, as it has no page before this one; the tab before it is the current one.'
  }

  async #wait(call: Call<'wait'>, time: CallTime): Promise<Outcome> {
    const { text, isGone, timeoutMs } = call
    const { page } = await this.#tabs.current()
    if (text === undefined) {
      const isAtRest = await this.#current.settled(timeoutMs)
      await this.#downloads.settled(0, time.workMs)
      const headline = isAtRest ? 'The page is at rest.' : `The page was not at rest within ${timeoutMs} ms.`
      return this.#told({ ok: true, headline }, call, time, 0)
    }
    const shown = JSON.stringify(text.slice(0, 100))
    try {
      await untilText(page, text, isGone, timeoutMs)
      return await this.#told({ ok: true, headline: `${shown} is ${isGone ? 'gone' : 'there'}.` }, call, time, MIN_MS)
    } catch (error) {
      if (!isTimeout(error) && !(error instanceof AggregateError)) throw error
      const headline = `${shown} ${isGone ? 'was still there' : 'was not there'} after ${timeoutMs} ms.`
      return this.#told({ ok: false, headline }, call, time, 0)
    }
  }

  async #read(call: Call<'read'>, time: CallTime): Promise<Outcome> {
    if (call.target === undefined) return this.#told({ ok: true, headline: '' }, call, time, 0)
    const { page } = await this.#current.answering(time)
    const locator = await locate(page, this.#reader, call.target, time.workMs)
    const text = await this.#reader.readElement(page, locator, call, time.workMs)
    return { ok: true, text: [...this.#notes.take(), text].join('\n'), files: [] }
  }

  async #screenshot(call: Call<'screenshot'>, time: CallTime): Promise<Outcome> {
    const { page } = await this.#current.answering(time)
    const locator = call.target === undefined ? undefined : await locate(page, this.#reader, call.target, time.workMs)
    const options = { locator, isFullPage: call.isFullPage, workspace: this.#workspace, maxMs: time.leftMs }
    const { path, bytes, width, height, isCut } = await takeScreenshot(page, options)
    const cut = isCut ? '; the page goes on below it' : ''
    const headline = `Saved ${path} (${width}×${height} pixels, ${bytes} bytes${cut}).`
    return { ok: true, text: [headline, ...this.#notes.take()].join('\n'), files: [path] }
  }

  /** Does something to the current page, and tells what it came to and what the page looks like then, also where it failed. */
  async #act(
    call: Call<'open' | 'click' | 'type' | 'back'>,
    time: CallTime,
    how: {
      readonly work: (tab: Tab, maxMs: number) => Promise<string>
      readonly dialogs?: DialogAnswer
      readonly settleMs?: number
    },
  ): Promise<Outcome> {
    const { work, dialogs = 'dismiss', settleMs = SETTLE_MS } = how
    const tab = await this.#current.answering(time)
    tab.expectWork(dialogs)
    try {
      const done = await doneBy(() => work(tab, time.workMs), time.workMs)
      return await this.#told(done, call, time, done.ok ? settleMs : 0)
    } finally {
      tab.dialogs = 'dismiss'
    }
  }

  async #told(
    { ok, headline }: Done,
    { maxCharacters, offset = 0 }: { readonly maxCharacters: number; readonly offset?: number },
    time: CallTime,
    settleMs: number,
  ): Promise<Outcome> {
    const lostBefore = this.#tabs.lostCount
    const isAtRest = settleMs === 0 || (await this.#current.settled(Math.min(settleMs, time.leftMs - MIN_MS)))
    if (settleMs > 0) await this.#downloads.settled(time.startMs, Math.min(SETTLE_MS, time.leftMs))
    const text = await this.#current.text({ offset, maxCharacters }, time)
    const isLost = this.#tabs.lostCount > lostBefore
    const lines = [
      headline,
      ...this.#notes.take(),
      isAtRest || isLost ? '' : 'The page was still loading when it was read; browser_wait waits for more.',
      this.#downloads.areRunning ? 'A file is still being downloaded.' : '',
      text,
    ]
    return { ok: ok && !isLost, text: lines.filter((line) => line !== '').join('\n'), files: [] }
  }
}

/** Whether the mouse was at work: what was waited for before that is in the error's log too, without this line. */
function hadBegun(error: unknown): boolean {
  return error instanceof Error && /performing \w+ action/.test(error.message)
}

/** What `work` came to. Playwright keeps its limits; but a key that a page never answers has none. */
async function doneBy(work: () => Promise<string>, maxMs: number): Promise<Done> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(new Error('the page did not take it in time')), maxMs + MIN_MS)
  try {
    return { ok: true, headline: await Promise.race([work(), late.promise]) }
  } catch (error) {
    return { ok: false, headline: explain(error) }
  } finally {
    clearTimeout(timer)
  }
}
