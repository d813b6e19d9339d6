import type { Locator, Page } from 'playwright-core'
import { WorkspaceFolder } from './WorkspaceFolder.ts'

/** CSS pixels. A page may be as long as it likes. */
const MAX_WIDTH = 4096
const MAX_HEIGHT = 8000
const MAX_BYTES = 10 * 1024 * 1024

export interface Screenshot {
  /** Below the workspace, with `/`. */
  readonly path: string
  readonly bytes: number
  readonly width: number
  readonly height: number
  /** Whether the page goes on below it. */
  readonly isCut: boolean
}

/**
 * A picture of what is in sight, of the whole page from its top, or of one element, as `screenshots/N.png` in the workspace.
 * @throws {Error} where it would be too large, saying what may be done
 */
export async function takeScreenshot(
  page: Page,
  options: {
    readonly locator: Locator | undefined
    readonly isFullPage: boolean
    readonly workspace: string
    readonly maxMs: number
  },
): Promise<Screenshot> {
  const { locator, isFullPage, workspace, maxMs } = options
  const how = { type: 'png', timeout: maxMs, scale: 'css', animations: 'disabled' } as const
  const whole = { fullPage: true, clip: { x: 0, y: 0, width: MAX_WIDTH, height: MAX_HEIGHT } }
  const png =
    locator === undefined
      ? await page.screenshot({ ...how, ...(isFullPage ? whole : {}) })
      : await screenshotOf(locator, how)
  if (png.length > MAX_BYTES) {
    throw new Error(
      `the picture has ${png.length} bytes, and ${MAX_BYTES} are allowed: take a smaller part of the page`,
    )
  }
  const { path, file } = await new WorkspaceFolder(workspace, 'screenshots').create((number) => `${number}.png`)
  try {
    await file.writeFile(png)
  } finally {
    await file.close()
  }
  // Where every PNG has them (PNG specification, 11.2.1).
  const [width, height] = [png.readUInt32BE(16), png.readUInt32BE(20)]
  return { path, bytes: png.length, width, height, isCut: isFullPage && height === MAX_HEIGHT }
}

async function screenshotOf(
  locator: Locator,
  how: Parameters<Locator['screenshot']>[0] & { readonly timeout: number },
): Promise<Buffer> {
  const box = await locator.boundingBox({ timeout: how.timeout })
  if (box !== null && (box.width > MAX_WIDTH || box.height > MAX_HEIGHT)) {
    const size = `${Math.round(box.width)}×${Math.round(box.height)}`
    throw new Error(`it has ${size} pixels, and ${MAX_WIDTH}×${MAX_HEIGHT} are allowed: take a part of it`)
  }
  return locator.screenshot(how)
}
