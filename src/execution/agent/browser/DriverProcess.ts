import { extname } from 'node:path'
import type { Readable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import { fileURLToPath } from 'node:url'
import { messageOf } from '../../../job/messageOf.ts'
import { readLines, writeLine } from '../../isolation/jsonLines.ts'
import { PendingAnswers } from '../../isolation/PendingAnswers.ts'
import type { JobProcess, TaskContext } from '../../task.ts'
import { type BrowserCall, type DriverAnswer, type FromDriver, parseFromDriver, type ToDriver } from './messages.ts'

// The same extension as this file's: it is `.js` where the program was compiled.
const DRIVER = fileURLToPath(new URL(`./driver/driverMain${extname(import.meta.url)}`, import.meta.url))

/** A machine that needs longer for it is not going to do it at all. */
const START_MS = 30_000
/** A call has a limit over there; so much later it is clear that this one is not kept. */
const OVERTIME_MS = 20_000

const MAX_LAST_WORDS_UNITS = 1000

/** The browser is gone, or never was there; the message says why. */
export class BrowserGone extends Error {
  override readonly name = 'BrowserGone'
}

/**
 * One browser: a process of ours that drives it, with Chromium as its child, as one tree inside of the job's containment. What
 * drives it is not in the server, because a page decides how much of it there is to do: it can say more than anybody can read, and
 * has made Playwright throw where nobody catches it. So whatever it is doing, ending it is ending a process.
 */
export class DriverProcess {
  readonly #process: JobProcess
  readonly #lastWords: LastWords
  readonly #ready = Promise.withResolvers<void>()
  readonly #answers = new PendingAnswers<DriverAnswer>()
  #isReady = false
  #gone: BrowserGone | undefined

  private constructor(process: JobProcess) {
    this.#process = process
    this.#lastWords = new LastWords(process.stderr)
    // Where starting is given up, nobody looks at it any more.
    this.#ready.promise.catch(() => undefined)
    void this.#read()
  }

  /** Settles when the browser can be used. @throws {BrowserGone} @throws {TaskFailure} `TETHER_SPAWN_FAILED` @throws {JobStopped} */
  static async start(ctx: TaskContext, chromium: string): Promise<DriverProcess> {
    const folder = await ctx.tmp()
    const workspace = await ctx.workspace()
    const process = await ctx.spawn([globalThis.process.execPath, DRIVER], {
      cwd: workspace,
      env: environmentIn(folder),
      stdin: true,
    })
    // It writes to its folder until it is gone, so that one must not be removed before.
    ctx.defer(async () => void (await process.end()))
    const driver = new DriverProcess(process)
    // Before this it does nothing: one that is ended while it starts leaves nothing in a folder that is about to be removed.
    driver.#send({ type: 'start', chromium, folder, workspace })
    await driver.#within(START_MS, driver.#ready.promise, `it did not start within ${START_MS} ms`)
    return driver
  }

  get isGone(): boolean {
    return this.#gone !== undefined
  }

  /** Settles with what the driver says of it. @throws {BrowserGone} */
  async call(call: BrowserCall): Promise<DriverAnswer> {
    if (this.#gone !== undefined) throw this.#gone
    const id = this.#answers.newId()
    const answer = this.#answers.to(id)
    this.#send({ type: 'call', id, call })
    const limitMs = call.timeoutMs + OVERTIME_MS
    return this.#within(limitMs, answer, `it did not answer within ${limitMs} ms, and was ended`)
  }

  #send(message: ToDriver): void {
    if (this.#process.stdin !== null) writeLine(this.#process.stdin, message)
  }

  /** As `promise`; after `ms` the browser is ended, and with that every call of it. */
  async #within<T>(ms: number, promise: Promise<T>, otherwise: string): Promise<T> {
    const timer = setTimeout(() => this.#end(otherwise), ms)
    try {
      return await promise
    } finally {
      clearTimeout(timer)
    }
  }

  /** Until the driver ends. Never rejects. */
  async #read(): Promise<void> {
    let reason = 'it was ended'
    try {
      for await (const line of readLines(this.#process.stdout)) this.#take(parseFromDriver(line))
    } catch (error) {
      reason = messageOf(error)
    }
    this.#end(reason)
  }

  #take(message: FromDriver): void {
    if (message.type === 'ready') {
      this.#isReady = true
      this.#ready.resolve()
    } else if (message.type === 'failed') this.#end(message.message)
    else this.#answers.settle(message.id, message)
  }

  #end(reason: string): void {
    this.#gone ??= new BrowserGone(
      this.#isReady
        ? `the browser is gone, and its pages and cookies with it: ${reason}\nbrowser_open starts another`
        : `the browser could not be started: ${reason}\n${this.#lastWords.text}`.trim(),
    )
    this.#ready.reject(this.#gone)
    this.#answers.rejectAll(this.#gone)
    void this.#process.end()
  }
}

/** All that the browser writes goes to its folder, also what it takes to be its user's. */
function environmentIn(folder: string): Record<string, string> {
  return {
    HOME: folder,
    XDG_CACHE_HOME: folder,
    XDG_CONFIG_HOME: folder,
    XDG_DATA_HOME: folder,
    // It makes a socket there, of whose path a hundred characters are allowed: so the folder is named from within.
    TMPDIR: '.',
  }
}

/** The end of what both wrote to standard error. */
class LastWords {
  text = ''

  constructor(pipe: Readable) {
    const decoder = new StringDecoder('utf8')
    // A pipe that breaks with its process has ended.
    pipe.on('error', () => undefined)
    pipe.on('data', (chunk: Buffer) => {
      this.text = (this.text + decoder.write(chunk)).slice(-MAX_LAST_WORDS_UNITS)
    })
  }
}
