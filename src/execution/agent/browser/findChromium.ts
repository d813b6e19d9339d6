import { findTool, isExecutable } from '../../../resources/processes/tools.ts'

/** What Chromium and its kin are called where they are installed, in the order in which they are taken. */
const NAMES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'microsoft-edge']

/** Where macOS has them. */
const APPLICATIONS = [
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
]

let found: Promise<string | undefined> | undefined

/** Where this machine's Chromium is, looked for once; undefined where there is none. */
export function findChromium(): Promise<string | undefined> {
  found ??= look()
  return found
}

async function look(): Promise<string | undefined> {
  for (const name of NAMES) {
    const path = await findTool(name)
    if (path !== undefined) return path
  }
  for (const path of APPLICATIONS) {
    if (await isExecutable(path)) return path
  }
  return undefined
}
