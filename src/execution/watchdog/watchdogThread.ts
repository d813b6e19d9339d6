import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { Block } from './Block.ts'
import { type Glimpse, MainThreadPause } from './MainThreadPause.ts'
import { Pulse } from './Pulse.ts'
import { type LineForm, logLine, writeAll } from './report.ts'
import { SilenceMeter } from './SilenceMeter.ts'

// Runs in a thread of its own (Watchdog.ts), holds nothing open, and is ended from outside at any moment. It starts no
// processes: children of a thread that is ended become zombies for ever.

/** What the thread is started with. */
export interface WatchdogThreadData {
  readonly memory: SharedArrayBuffer
  readonly blockedMs: number
  readonly lookMs: number
  readonly reportFd: number
  readonly form: LineForm
}

/** While the loop is blocked, so that its end is not missed by much. */
const BLOCKED_LOOK_MS = 50

const port = parentPort
if (port === null) throw new Error('watchdogThread must be started as a worker thread')

const { memory, blockedMs, lookMs, reportFd, form }: WatchdogThreadData = workerData
const pulse = new Pulse(memory)
const meter = new SilenceMeter({ blockedMs, lateMs: 2 * lookMs })
let block: Block | undefined
let lookedAtMs = performance.now()

for (;;) {
  // What the inspector says comes through this thread's own event loop; where nothing was asked, sleeping outright is cheaper.
  if (block !== undefined) await delay(Math.min(BLOCKED_LOOK_MS, lookMs))
  else {
    if (pulse.waitUntilWatched()) lookedAtMs = performance.now()
    pulse.sleep(lookMs)
  }
  const nowMs = performance.now()
  const look = meter.look(pulse.beats, nowMs - lookedAtMs)
  lookedAtMs = nowMs
  if (look.kind === 'over') {
    // The place may have been seen as the block ended, and be on its way to here.
    await nextTurn()
    // The main thread tells of the end: it can again.
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    port.postMessage(block?.end(look.ms))
    block = undefined
  } else if (look.kind === 'blocked') {
    if (block === undefined) block = noticed(look.ms)
    else block.goOn(look.ms)
  }
}

function noticed(ms: number): Block {
  const { beats, jobIds, running } = pulse
  const opened = new Block({
    ms,
    jobIds,
    running,
    look: (onGlimpse) => glimpseOfMainThread(onGlimpse, () => pulse.beats === beats),
    tell: (fields) => tell(logLine(form, Date.now(), fields, 'the event loop is blocked')),
  })
  opened.open()
  return opened
}

function glimpseOfMainThread(onGlimpse: (glimpse: Glimpse) => void, isStillOn: () => boolean): () => void {
  // Whoever sits at a breakpoint would find it gone.
  if (pulse.isInspected) throw new Error('the process is open to a debugger')
  if (!process.features.inspector) throw new Error('this Node has no inspector')
  const { Session } = process.getBuiltinModule('node:inspector')
  const pause = new MainThreadPause(new Session(), { onGlimpse, isStillOn })
  pause.open()
  return () => pause.close()
}

function tell(line: string): void {
  try {
    writeAll(reportFd, line, (ms) => pulse.sleep(ms))
  } catch {
    // Nobody reads there any more, or too slowly. The main thread's own line follows when it can write again.
  }
}
