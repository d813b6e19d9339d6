import { extname } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { Logger } from 'pino'
import { exposeCurrentExecution } from './currentExecution.ts'
import { Pulse } from './Pulse.ts'
import type { BlockFields } from './report.ts'
import type { WatchdogThreadData } from './watchdogThread.ts'

export interface WatchdogOptions {
  readonly logger: Logger
  /** Where the thread writes while the logger cannot: the file descriptor to which the logger's own lines go. */
  readonly reportFd: number
  /**
   * A folder for Node's compile cache. With it the thread takes 10 MB from its second start on, instead of 24 to 28 (Node 26):
   * most of those are what strips types, which then is not loaded.
   */
  readonly compileCache?: string
  /** Default 1000. The loop's beats are `lookMs` apart, so a block may be shorter by as much. */
  readonly blockedMs?: number
  /** How far apart beats are, and looks at them. Default 250. A block is told `blockedMs` to `blockedMs` + 2 × `lookMs` after its start. */
  readonly lookMs?: number
}

/**
 * Tells of code that blocks the event loop, while it does: a thread misses the loop's beats, and says in the log where the main
 * thread is. It starts with the first execution and the beats rest while there are none, so that an idle server neither has the
 * thread nor wakes up; code that blocks while no job's function is going is not seen.
 */
export class Watchdog {
  readonly #options: WatchdogOptions
  readonly #pulse = new Pulse()
  #thread: Worker | undefined
  #beats: NodeJS.Timeout | undefined
  #stopped: Promise<void> | undefined

  constructor(options: WatchdogOptions) {
    this.#options = options
  }

  /** A job's function is about to be called: the loop is watched until what this returns is. */
  watch(jobId: string): () => void {
    if (this.#stopped !== undefined || !this.#options.logger.isLevelEnabled('warn')) return () => undefined
    const end = this.#pulse.add(jobId)
    // At once, not when the function has run for a while: one that blocks from its first line would never be seen. The thread
    // comes up by itself, whatever this one does.
    this.#thread ??= this.#startThread()
    this.#beats ??= this.#startBeats()
    return end
  }

  /** Settles when the thread has ended. */
  stop(): Promise<void> {
    return (this.#stopped ??= this.#stop())
  }

  async #stop(): Promise<void> {
    clearInterval(this.#beats)
    await this.#thread?.terminate()
    this.#thread = undefined
  }

  /** The real event loop is what is measured, so this is no `Clock`. */
  #startBeats(): NodeJS.Timeout {
    const pulse = this.#pulse
    const { lookMs = 250 } = this.#options
    pulse.isInspected = isOpenToDebugger()
    pulse.beat()
    pulse.isWatched = true
    const beats = setInterval(() => {
      pulse.beat()
      pulse.isInspected = isOpenToDebugger()
      // Not as soon as the last function has settled: with many short ones that would be thousands of times a second.
      if (pulse.running > 0) return
      pulse.isWatched = false
      clearInterval(beats)
      this.#beats = undefined
    }, lookMs)
    return beats.unref()
  }

  #startThread(): Worker {
    const { logger, reportFd, compileCache, blockedMs = 1000, lookMs = 250 } = this.#options
    exposeCurrentExecution()
    const data: WatchdogThreadData = {
      memory: this.#pulse.memory,
      blockedMs,
      lookMs,
      reportFd,
      form: { level: logger.levels.values['warn'] ?? 40, bindings: logger.bindings() },
    }
    // The same extension as this file's: it is `.js` where the program was compiled.
    const url = new URL(`./watchdogThread${extname(import.meta.url)}`, import.meta.url)
    const thread = new Worker(url, {
      name: 'tether-watchdog',
      workerData: data,
      // Without what the process preloads, which is not for it and costs memory.
      execArgv: [],
      env: compileCache === undefined ? {} : { NODE_COMPILE_CACHE: compileCache },
    })
    thread.on('message', (fields: BlockFields) => logger.warn(fields, 'the event loop turns again'))
    thread.on('error', (err) =>
      logger.error({ err }, 'the watchdog failed: a blocked event loop is not told from now on'),
    )
    // After the listeners, which would keep the process alive.
    thread.unref()
    return thread
  }
}

function isOpenToDebugger(): boolean {
  return process.features.inspector && process.getBuiltinModule('node:inspector').url() !== undefined
}
