import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { readLines, writeLine } from '../../../isolation/jsonLines.ts'
import { type FromDriver, parseToDriver, type StartMessage } from '../messages.ts'
import { Downloads } from './Downloads.ts'
import { explain } from './explain.ts'
import { launchChromium } from './launchChromium.ts'
import { Notes } from './Notes.ts'
import type { PipeTransport } from './PipeTransport.ts'
import { pageEngine } from './pageEngine.ts'
import { Session } from './Session.ts'
import { Tabs } from './Tabs.ts'

// What runs in the process that drives a job's browser (DriverProcess.ts starts it). It is told what to do on standard input.
const CONNECT_MS = 25_000

// A page can bring Playwright to throw where nobody catches it. The call in flight has a limit of its own, and the next may do.
process.on('uncaughtException', (error) => process.stderr.write(`${explain(error)}\n`))

let session: Session | undefined
for await (const line of readLines(process.stdin)) {
  const message = parseToDriver(line)
  if (message.type === 'start') {
    session = await startOrExit(message)
    say({ type: 'ready' })
  } else if (session !== undefined) {
    const { ok, text, files } = await session.answer(message.call)
    say({ type: 'answer', id: message.id, ok, text, files: [...files] })
  }
}

// The server is gone; with us the browser's pipe breaks, and with that it ends.
process.exit(0)

function say(message: FromDriver): void {
  writeLine(process.stdout, message)
}

async function startOrExit(message: StartMessage): Promise<Session> {
  try {
    return await start(message)
  } catch (error) {
    return sayLast(explain(error))
  }
}

/** Without a browser there is nothing more to do. */
function sayLast(message: string): Promise<never> {
  const failure: FromDriver = { type: 'failed', message }
  return new Promise(() => process.stdout.write(`${JSON.stringify(failure)}\n`, () => process.exit(1)))
}

async function start({ chromium, folder, workspace }: StartMessage): Promise<Session> {
  // Where the browser starts, and where `TMPDIR` is.
  process.chdir(folder)
  const { transport, child } = await launchChromium(chromium, folder)
  child.once('exit', (code, signal) => void sayLast(`Chromium ended (${signal ?? `code ${code}`})`))
  const arriving = join(folder, 'arriving')
  await mkdir(arriving)
  const context = await connect(transport, arriving)
  const notes = new Notes()
  const downloads = new Downloads({ workspace, arriving, notes })
  return new Session({ tabs: new Tabs(context, { notes, downloads }), notes, downloads, workspace })
}

async function connect(transport: PipeTransport, artifactsDir: string) {
  // A third of a second, in which the browser starts.
  const { chromium, selectors } = await import('playwright-core')
  transport.open()
  const browser = await chromium.connectOverCDP(transport, { artifactsDir, timeout: CONNECT_MS })
  // Not before: what is registered by then is not told to a context that was there already.
  await selectors.register('tether', pageEngine, { contentScript: true })
  const [context] = browser.contexts()
  if (context === undefined) throw new Error('the browser has no context')
  return context
}
