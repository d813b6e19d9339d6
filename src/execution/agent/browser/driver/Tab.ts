import type { CDPSession, Dialog, Page, Request } from 'playwright-core'
import type { DialogAnswer } from '../messages.ts'
import type { Downloads } from './Downloads.ts'
import { isTimeout } from './explain.ts'
import type { Notes } from './Notes.ts'
import { within } from './within.ts'

/** A page is at rest when it has asked the network for nothing for so long. */
const QUIET_MS = 250

/** What a page needs before it can be read; a connection that stays open, or a film, is not waited for. */
const AWAITED = new Set(['document', 'stylesheet', 'script', 'xhr', 'fetch'])

const STOP_MS = 1000
const CLOSE_MS = 1000

/** One page of the browser, and what befalls it. */
export class Tab {
  readonly page: Page
  readonly #notes: Notes
  readonly #cdp: Promise<CDPSession | undefined>
  readonly #open = new Set<Request>()
  #lastMs = performance.now()
  #onChange: (() => void) | undefined
  #hasCrashed = false
  /** How the dialogs of the call in flight are answered. */
  dialogs: DialogAnswer = 'dismiss'

  constructor(page: Page, options: { readonly notes: Notes; readonly downloads: Downloads }) {
    this.page = page
    this.#notes = options.notes
    // Made while the page still answers: it is for the time when it does not.
    this.#cdp = page
      .context()
      .newCDPSession(page)
      .catch(() => undefined)
    page.on('dialog', (dialog) => void this.#answer(dialog))
    page.on('download', (download) => options.downloads.take(download))
    page.on('crash', () => {
      this.#hasCrashed = true
      this.#notes.add('The page crashed.')
      this.#changed()
    })
    page.on('request', (request) => this.#begin(request))
    page.on('requestfinished', (request) => this.#end(request))
    page.on('requestfailed', (request) => this.#end(request))
    page.on('close', () => this.#changed())
  }

  get isUsable(): boolean {
    return !this.#hasCrashed && !this.page.isClosed()
  }

  /** From now on only what comes now is waited for: what has been open for long may stay so for ever. */
  expectWork(dialogs: DialogAnswer): void {
    this.dialogs = dialogs
    this.#open.clear()
    this.#lastMs = performance.now()
  }

  /** Waits until the page has loaded and is at rest, or is gone. False where it is not after `maxMs`. */
  async settled(maxMs: number): Promise<boolean> {
    const endsMs = performance.now() + maxMs
    if (!(await this.#quiet(endsMs))) return false
    return this.page.waitForLoadState('load', { timeout: Math.max(1, endsMs - performance.now()) }).then(
      () => true,
      () => !this.isUsable,
    )
  }

  /** Whether the page answers within `maxMs`. */
  async answers(maxMs: number): Promise<boolean> {
    if (!this.isUsable) return false
    try {
      await this.page.locator('tether=read 0 0').textContent({ timeout: maxMs })
      return true
    } catch (error) {
      if (this.isUsable && !isTimeout(error)) throw error
      return false
    }
  }

  /** Ends the script that keeps the page from answering. False where the browser could not even do that. */
  async stopScript(): Promise<boolean> {
    const cdp = await this.#cdp
    if (cdp === undefined) return false
    return (await within(STOP_MS, cdp.send('Runtime.terminateExecution'))) !== undefined
  }

  /** Gives up what was asked for and did not come. */
  async stopLoading(): Promise<void> {
    const cdp = await this.#cdp
    if (cdp !== undefined) await within(STOP_MS, cdp.send('Page.stopLoading'))
  }

  /** Nothing is asked of the page, which may not answer. Settles after a second at the latest. */
  async close(): Promise<void> {
    await within(CLOSE_MS, this.page.close())
  }

  #begin(request: Request): void {
    if (!AWAITED.has(request.resourceType()) || !/^https?:/.test(request.url())) return
    this.#open.add(request)
    this.#changed()
  }

  #end(request: Request): void {
    if (this.#open.delete(request)) this.#changed()
  }

  #changed(): void {
    this.#lastMs = performance.now()
    this.#onChange?.()
  }

  #quiet(endsMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      let timer: NodeJS.Timeout | undefined
      const finish = (isQuiet: boolean): void => {
        this.#onChange = undefined
        resolve(isQuiet)
      }
      const look = (): void => {
        clearTimeout(timer)
        const nowMs = performance.now()
        const quietAtMs = this.#open.size > 0 ? Number.POSITIVE_INFINITY : this.#lastMs + QUIET_MS
        if (!this.isUsable || nowMs >= quietAtMs) finish(true)
        else if (nowMs >= endsMs) finish(false)
        else timer = setTimeout(look, Math.min(quietAtMs, endsMs) - nowMs)
      }
      this.#onChange = look
      look()
    })
  }

  async #answer(dialog: Dialog): Promise<void> {
    const type = dialog.type()
    // Whoever leaves a page means to.
    const isAccepted = type === 'beforeunload' || this.dialogs === 'accept'
    const message = JSON.stringify(dialog.message().slice(0, 200))
    if (type === 'alert') this.#notes.add(`The page said (alert): ${message}`)
    else if (type === 'beforeunload') this.#notes.add('The page asked whether to leave it; it was left.')
    else {
      const answer = isAccepted ? 'answered with OK' : 'dismissed (Cancel); to answer with OK, pass dialogs: "accept"'
      this.#notes.add(`The page asked (${type}): ${message}; it was ${answer}.`)
    }
    // Its page may be gone by now.
    await (isAccepted ? dialog.accept(dialog.defaultValue()) : dialog.dismiss()).catch(() => undefined)
  }
}
