import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Readable, Writable } from 'node:stream'
import { PipeTransport } from './PipeTransport.ts'

/** What is not wanted of a browser that nobody sits at: what it does over the network on its own, and windows of its own. */
const SWITCHED_OFF = [
  'AimEnabled',
  'CertificateTransparencyComponentUpdater',
  'DialMediaRouteProvider',
  // An address is opened as it was given.
  'HttpsFirstBalancedModeAutoEnable',
  'HttpsUpgrades',
  'MediaRouter',
  'NetworkTimeServiceQuerying',
  'OptimizationHints',
  'PreconnectToSearch',
  'Translate',
  // Two renderers of 100 MB for an address bar that nobody sees.
  'WebUIOmniboxAimPopup',
  'WebUIOmniboxFullPopup',
  'WebUIOmniboxPopup',
]

/** Mostly those that Playwright gives to a browser that it starts itself: it counts on them. */
const FLAGS = [
  '--headless',
  '--remote-debugging-pipe',
  '--window-size=1280,800',
  '--hide-scrollbars',
  '--mute-audio',
  '--force-color-profile=srgb',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--no-default-browser-check',
  '--no-service-autorun',
  '--disable-background-networking',
  '--disable-background-timer-throttling',
  '--disable-backgrounding-occluded-windows',
  '--disable-renderer-backgrounding',
  '--disable-back-forward-cache',
  '--disable-breakpad',
  '--disable-client-side-phishing-detection',
  '--disable-component-extensions-with-background-pages',
  '--disable-component-update',
  '--disable-default-apps',
  // In a container it is often too small for anything.
  '--disable-dev-shm-usage',
  '--disable-extensions',
  '--disable-field-trial-config',
  '--disable-hang-monitor',
  '--disable-prompt-on-repost',
  '--disable-search-engine-choice-screen',
  '--disable-sync',
  '--allow-pre-commit-input',
  '--metrics-recording-only',
  '--password-store=basic',
  '--use-mock-keychain',
  `--disable-features=${SWITCHED_OFF.join(',')}`,
]

/** Its viewer for PDFs shows nothing that could be read; as files they can be. */
const PREFERENCES = { plugins: { always_open_pdf_externally: true } }

/**
 * Starts Chromium as a plain child of this process, so that it is inside of what contains this process: Playwright's own launch
 * gives it a process group of its own, and its processes clear their environment, so a sweep would find them by neither.
 */
export async function launchChromium(
  program: string,
  folder: string,
): Promise<{ readonly transport: PipeTransport; readonly child: ChildProcess }> {
  const profile = join(folder, 'profile')
  await mkdir(join(profile, 'Default'), { recursive: true })
  await writeFile(join(profile, 'Default', 'Preferences'), JSON.stringify(PREFERENCES))
  const child = spawn(program, [...FLAGS, ...sandboxFlags(), `--user-data-dir=${profile}`, 'about:blank'], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit', 'pipe', 'pipe'],
  })
  await once(child, 'spawn')
  const [, , , toBrowser, fromBrowser] = child.stdio
  if (!(toBrowser instanceof Writable) || !(fromBrowser instanceof Readable)) throw new Error('Chromium lacks a pipe')
  return { transport: new PipeTransport(toBrowser, fromBrowser), child }
}

/** Its sandbox refuses to work for root. */
function sandboxFlags(): readonly string[] {
  return process.geteuid?.() === 0 ? ['--no-sandbox'] : []
}
