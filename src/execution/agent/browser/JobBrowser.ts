import type { TaskContext, ToolAnswer } from '../../task.ts'
import { BrowserGone, DriverProcess } from './DriverProcess.ts'
import type { BrowserCall, DriverAnswer } from './messages.ts'

const NOT_OPEN: ToolAnswer = { text: 'no page is open: browser_open opens one', ok: false }

/**
 * The browser of one job: started with the first page, used by one call at a time, and ended with the job by what contains it. One
 * that is gone is replaced when a page is opened again.
 */
export class JobBrowser {
  static readonly #all = new WeakMap<TaskContext, JobBrowser>()

  readonly #ctx: TaskContext
  #driver: DriverProcess | undefined
  #last: Promise<unknown> = Promise.resolve()

  private constructor(ctx: TaskContext) {
    this.#ctx = ctx
  }

  static of(ctx: TaskContext): JobBrowser {
    const known = JobBrowser.#all.get(ctx)
    if (known !== undefined) return known
    const browser = new JobBrowser(ctx)
    JobBrowser.#all.set(ctx, browser)
    return browser
  }

  /** Settles with what to tell of it. @throws {TaskFailure} `TETHER_SPAWN_FAILED` @throws {JobStopped} */
  call(chromium: string, call: BrowserCall): Promise<ToolAnswer> {
    const answer = this.#last.then(() => this.#call(chromium, call))
    this.#last = answer.catch(() => undefined)
    return answer
  }

  async #call(chromium: string, call: BrowserCall): Promise<ToolAnswer> {
    const { signal } = this.#ctx
    try {
      if (this.#driver?.isGone !== false) {
        if (call.do !== 'open') return NOT_OPEN
        this.#driver = await DriverProcess.start(this.#ctx, chromium)
      }
      return await this.#told(await this.#driver.call(call))
    } catch (error) {
      // It was ended with the job: the error says nothing of the browser.
      if (signal.aborted) throw signal.reason
      if (!(error instanceof BrowserGone)) throw error
      return { text: error.message, ok: false }
    }
  }

  async #told({ ok, text, files }: DriverAnswer): Promise<ToolAnswer> {
    for (const file of files) await this.#ctx.artifact(file)
    return { ok, text }
  }
}
