import type { Clock } from '../clock.ts'
import type { JobStore, StoreChange } from '../store/JobStore.ts'

/** A change that waits for the next commit, and what is to be done once it is in the store, or refused by it. */
export interface QueuedChange {
  readonly change: StoreChange
  /** Runs in the turn in which the commit resolved, in the order of the changes. */
  readonly settle: (isWritten: boolean) => void
}

/** Someone whose outputs wait to be written: asked for them when the group is made. */
export interface ChangeSource {
  /** The outputs that wait, as one change; undefined where there are none. */
  takeOutputs(): QueuedChange | undefined
}

export interface EventLogOptions {
  readonly store: JobStore
  readonly clock: Clock
  /** Told when a commit failed (it will be tried again) and when one went through after that. */
  readonly onStoreHealth: (error: Error | undefined) => void
  /** Told of a change that the store refused: with one process owning the file that is a defect. */
  readonly onRefused: (change: StoreChange, why: string) => void
}

/** After a write, outputs wait at least this long for company; status changes do not. */
const MIN_INTERVAL_MS = 2
const FIRST_RETRY_MS = 100
const MAX_RETRY_MS = 2000

/**
 * Groups what all jobs of the process write: everything of one turn of the loop is one transaction, since a transaction costs
 * far more than the rows in it. Outputs go at once when nothing went out for a while, else every few milliseconds, and less
 * often as commits take longer: writing never takes more than about half of the loop. A status change goes in this turn.
 *
 * One commit is under way at a time, so changes take effect in the order in which they were queued. A commit that fails is
 * tried again, with everything in it, until it goes through: what was decided in memory is written later, in order.
 */
export class EventLog {
  readonly #store: JobStore
  readonly #clock: Clock
  readonly #onStoreHealth: EventLogOptions['onStoreHealth']
  readonly #onRefused: EventLogOptions['onRefused']
  #queued: QueuedChange[] = []
  #sources = new Set<ChangeSource>()
  #immediate: NodeJS.Immediate | undefined
  #timer: (() => void) | undefined
  #isCommitting = false
  #isFailing = false
  #lastEndMs = Number.NEGATIVE_INFINITY
  #lastTookMs = 0
  #flushes: (() => void)[] = []
  #endRetryWait: (() => void) | undefined
  #isClosed = false

  constructor(options: EventLogOptions) {
    this.#store = options.store
    this.#clock = options.clock
    this.#onStoreHealth = options.onStoreHealth
    this.#onRefused = options.onRefused
  }

  /** Whether the last commit failed and has not gone through since. */
  get isFailing(): boolean {
    return this.#isFailing
  }

  /** Queues a status change for the commit of this turn. Outputs that came before it must have been queued before. */
  push(queued: QueuedChange): void {
    if (this.#isClosed) {
      queued.settle(false)
      return
    }
    this.#queued.push(queued)
    this.hurry()
  }

  /** Says that `source` has outputs; they are taken from it when the next group is made. */
  mark(source: ChangeSource): void {
    if (this.#isClosed) return
    this.#sources.add(source)
    if (this.#isCommitting || this.#immediate !== undefined || this.#timer !== undefined) return
    const waitMs = this.#lastEndMs + Math.max(MIN_INTERVAL_MS, this.#lastTookMs) - this.#clock.monotonicMs()
    if (waitMs <= 0) {
      this.hurry()
      return
    }
    this.#timer = this.#clock.schedule(Math.ceil(waitMs), () => {
      this.#timer = undefined
      void this.#commit()
    })
  }

  /** Puts the outputs of `source` into the queue now, ahead of a change that has to come after them. */
  queueOutputsOf(source: ChangeSource): void {
    if (!this.#sources.delete(source)) return
    const outputs = source.takeOutputs()
    if (outputs !== undefined) this.#queued.push(outputs)
  }

  /** Settles once everything that was queued before the call is written; what comes later is not waited for. */
  async flush(): Promise<void> {
    if (!this.#isCommitting && this.#queued.length === 0 && this.#sources.size === 0) return
    await new Promise<void>((resolve) => {
      this.#flushes.push(resolve)
      this.hurry()
    })
  }

  /** Nothing is written any more, and nothing is tried again: what comes from here on counts as not written. */
  close(): void {
    this.#isClosed = true
    this.#timer?.()
    this.#timer = undefined
    this.#endRetryWait?.()
  }

  /** Writes what waits in this turn of the loop, or right after the write that is under way. */
  hurry(): void {
    if (this.#isCommitting || this.#immediate !== undefined) return
    this.#timer?.()
    this.#timer = undefined
    this.#immediate = setImmediate(() => {
      this.#immediate = undefined
      void this.#commit()
    })
  }

  async #commit(): Promise<void> {
    this.#isCommitting = true
    const flushes = this.#flushes
    this.#flushes = []
    for (const source of this.#sources) {
      const outputs = source.takeOutputs()
      if (outputs !== undefined) this.#queued.push(outputs)
    }
    this.#sources.clear()
    const group = this.#queued
    this.#queued = []
    if (group.length > 0) {
      const beganMs = this.#clock.monotonicMs()
      const results = await this.#write(group.map((queued) => queued.change))
      for (const [index, queued] of group.entries()) {
        const result = results?.[index]
        if (result !== undefined && !result.ok) this.#onRefused(queued.change, result.why)
        queued.settle(result?.ok === true)
      }
      // After the readers' sockets were written to, which takes longer than the commit where there are many.
      process.nextTick(() => this.#noteTime(beganMs))
    }
    this.#isCommitting = false
    for (const resolve of flushes) resolve()
    if (this.#queued.length > 0 || this.#flushes.length > 0) this.hurry()
    else {
      const [next] = this.#sources
      if (next !== undefined) this.mark(next)
    }
  }

  #noteTime(beganMs: number): void {
    this.#lastEndMs = this.#clock.monotonicMs()
    this.#lastTookMs = this.#lastEndMs - beganMs
  }

  /** Undefined where it was closed before the store took them. */
  async #write(changes: readonly StoreChange[]): Promise<Awaited<ReturnType<JobStore['commit']>> | undefined> {
    for (let delayMs = FIRST_RETRY_MS; ; delayMs = Math.min(delayMs * 2, MAX_RETRY_MS)) {
      try {
        const results = await this.#store.commit(changes)
        if (this.#isFailing) {
          this.#isFailing = false
          this.#onStoreHealth(undefined)
        }
        return results
      } catch (error) {
        if (this.#isClosed) return undefined
        this.#isFailing = true
        this.#onStoreHealth(error instanceof Error ? error : new Error(String(error)))
        await this.#retryWait(delayMs)
        if (this.#isClosed) return undefined
      }
    }
  }

  #retryWait(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const cancelTimer = this.#clock.schedule(delayMs, resolve)
      this.#endRetryWait = () => {
        cancelTimer()
        resolve()
      }
    })
  }
}
