import type { Frame, Locator, Page } from 'playwright-core'
import { isTimeout } from './explain.ts'
import type { Reading } from './pageEngine.ts'

const MAX_FRAMES = 20
/** One frame that does not answer shall not hide the others. */
const FRAME_MS = 2000
/** Smaller ones (CSS pixels) have nothing to read; those that are not shown have none. */
const MIN_FRAME_AREA = 2500

export interface Window {
  readonly offset: number
  readonly maxCharacters: number
}

/** Pages as text in which each thing that can be clicked or typed into has a ref: `e12`, or `f2e5` in a frame. */
export class PageReader {
  readonly #frameNumbers = new WeakMap<Frame, number>()
  #lastFrame = 0

  /**
   * The page's title and text, the frames' after that of the page, and what was cut. @throws {Error} `TimeoutError` where the page
   * does not answer in `maxMs`
   */
  async read(page: Page, window: Window, maxMs: number): Promise<string> {
    const endsMs = performance.now() + maxMs
    const main = await readingOf(page.locator(readSelector(window)), maxMs)
    const parts = [main.text]
    let { isCut } = main
    let position = main.end
    for (const frame of isCut ? [] : this.#framesOf(page)) {
      const rest = restOf(window, position)
      isCut = rest.maxCharacters <= 0
      if (isCut) break
      const prefix = `f${this.#numberOf(frame)}`
      const border = `--- frame ${prefix} (${shownUrl(frame.url())})`
      const leftMs = Math.max(1, Math.min(FRAME_MS, endsMs - performance.now()))
      const reading = await frameReadingOf(frame.locator(readSelector(rest, prefix)), leftMs)
      if (reading === undefined) parts.push(`${border} does not answer ---`)
      if (reading === undefined || reading.width * reading.height < MIN_FRAME_AREA) continue
      if (reading.text !== '') parts.push(`${border} ---`, reading.text)
      position += reading.end
      isCut = reading.isCut
      if (isCut) break
    }
    return bordered(page, { ...main, text: parts.join('\n'), end: position, isCut }, window)
  }

  /** As `read`, for one element and what is inside of it. */
  async readElement(page: Page, locator: Locator, window: Window, maxMs: number): Promise<string> {
    return bordered(page, await readingOf(locator.locator(readSelector(window)), maxMs), window)
  }

  /** The frame with that number, undefined where it is gone. */
  frame(page: Page, number: number): Frame | undefined {
    return page.frames().find((frame) => this.#frameNumbers.get(frame) === number)
  }

  #framesOf(page: Page): readonly Frame[] {
    return page
      .frames()
      .filter((frame) => frame !== page.mainFrame() && !frame.isDetached())
      .slice(0, MAX_FRAMES)
  }

  #numberOf(frame: Frame): number {
    const known = this.#frameNumbers.get(frame)
    if (known !== undefined) return known
    this.#lastFrame += 1
    this.#frameNumbers.set(frame, this.#lastFrame)
    return this.#lastFrame
  }
}

/** What is left to be read where a page's text ends at `position`. */
function restOf({ offset, maxCharacters }: Window, position: number): Window {
  return {
    offset: Math.max(0, offset - position),
    maxCharacters: maxCharacters - Math.max(0, position - offset),
  }
}

function readSelector({ offset, maxCharacters }: Window, prefix = ''): string {
  return `tether=read ${offset} ${maxCharacters} ${prefix}`
}

async function readingOf(locator: Locator, maxMs: number): Promise<Reading> {
  return JSON.parse((await locator.textContent({ timeout: maxMs })) ?? '')
}

/** Undefined where it does not answer, or is gone. */
async function frameReadingOf(locator: Locator, maxMs: number): Promise<Reading | undefined> {
  try {
    return await readingOf(locator, maxMs)
  } catch (error) {
    if (isTimeout(error) || /detached|closed|crashed/i.test(String(error))) return undefined
    throw error
  }
}

function bordered(page: Page, reading: Reading, { offset }: Window): string {
  const title = reading.title === '' ? '' : ` ${JSON.stringify(reading.title)}`
  const from = offset === 0 ? '' : `, from character ${offset}`
  const body =
    reading.text === '' ? (offset === 0 ? '(there is nothing to read on it)' : '(nothing is left there)') : reading.text
  const end = !reading.isCut
    ? '--- end of the page ---'
    : reading.isGivenUp
      ? `--- cut after character ${reading.end}: the page is too large to be read on ---`
      : `--- cut after character ${reading.end}: browser_read with offset ${reading.end} goes on ---`
  return `--- page${title} ${shownUrl(page.url())}${from} ---\n${body}\n${end}`.toWellFormed()
}

const MAX_URL_UNITS = 500

export function shownUrl(url: string): string {
  return url.length > MAX_URL_UNITS ? `${url.slice(0, MAX_URL_UNITS)}…` : url
}
