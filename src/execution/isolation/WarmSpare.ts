import { TaskProcess, type TaskProcessOptions } from './TaskProcess.ts'

export interface WarmSpareOptions extends TaskProcessOptions {
  /** Told why a spare could not be started; the next job tries again, and fails with what it meets. */
  readonly onSpareFailed: (error: unknown) => void
}

/** A spare holds nothing and nobody waits for it: it is killed, and looked for this long. */
const KILL = { graceMs: 0, deadlineMs: 2000 }

/** The processes for isolated tasks: each is used once, and one is kept ready, since starting Node takes tens of milliseconds. */
export class WarmSpare {
  readonly #options: WarmSpareOptions
  #spare: Promise<TaskProcess> | undefined
  /** The end of a spare that died while it waited. */
  #deadEnd: Promise<unknown> = Promise.resolve()
  #isClosed = false

  constructor(options: WarmSpareOptions) {
    this.#options = options
  }

  /** The pid of the spare, once it is warm; undefined where there is none. */
  async warmPid(): Promise<number | undefined> {
    const process = await this.#spare
    return (await process?.isReady) === true ? process?.contained.pid : undefined
  }

  /** Starts a spare in the background, where there is none. */
  prepare(): void {
    if (this.#isClosed || this.#spare !== undefined) return
    const spare = TaskProcess.start(this.#options)
    this.#spare = spare
    void this.#watch(spare)
  }

  /** The spare, or a new process. Whoever takes it ends it. @throws {TaskFailure} `TETHER_SPAWN_FAILED` */
  take(): Promise<TaskProcess> {
    const spare = this.#spare ?? TaskProcess.start(this.#options)
    this.#spare = undefined
    return spare
  }

  /** Ends the spare, and keeps none from now on. Settles when it is gone. */
  async close(): Promise<void> {
    this.#isClosed = true
    const spare = this.#spare
    this.#spare = undefined
    const process = await spare?.catch(() => undefined)
    await process?.contained.end(KILL)
    await this.#deadEnd
  }

  /** A spare that dies while it waits is nobody's to end but ours. The next is started for the next job. */
  async #watch(spare: Promise<TaskProcess>): Promise<void> {
    try {
      const { contained } = await spare
      const { exitCode, signal } = await contained.exited
      if (this.#spare !== spare) return
      this.#deadEnd = contained.end(KILL)
      throw new Error(`the spare process for isolated tasks ended with ${signal ?? `code ${exitCode}`} while it waited`)
    } catch (error) {
      // Taken, its fate is a job's; closed, it is ours.
      if (this.#spare !== spare) return
      this.#spare = undefined
      this.#options.onSpareFailed(error)
    }
  }
}
