import type { Clock } from '../clock.ts'
import { type JobKey, keyOf } from '../job/key.ts'
import {
  type ChangeResult,
  type JobStore,
  type StoreChange,
  StoreError,
  UncertainCommitError,
} from '../store/JobStore.ts'

/** A change that waits for the next commit, and what is to be done once it is in the store, or refused by it. */
export interface QueuedChange {
  readonly change: StoreChange
  /** Runs in the turn in which the commit resolved, in the order of the changes. `result` undefined: the store was not asked. */
  readonly settle: (isWritten: boolean, result?: ChangeResult) => void
}

/** Someone whose outputs wait to be written: asked for them when the group is made. */
export interface ChangeSource {
  /** The outputs that wait, as one change; undefined where there are none. */
  takeOutputs(): QueuedChange | undefined
}

/** How the store takes what is written. */
export type StoreHealth =
  | { readonly kind: 'ok' }
  /**
   * The last commit failed and is being tried again. `isGivenUp`: it has failed for so long that whoever waits for a change that
   * could be withdrawn was told so; what cannot be is still tried.
   */
  | { readonly kind: 'failing'; readonly error: Error; readonly isGivenUp: boolean }

/** One commit that was tried. `isTaken` false: it failed, and is tried again. */
export interface CommitReport {
  readonly changes: number
  readonly tookMs: number
  readonly isTaken: boolean
}

export interface EventLogOptions {
  readonly store: JobStore
  readonly clock: Clock
  /** How long a commit may fail before what waits for it is given up, as far as that is possible. */
  readonly patienceMs: number
  /** Told of a change that the store refused: with one process owning the file that is a defect. */
  readonly onRefused: (change: StoreChange, why: string) => void
  /** Told of every commit. It must not throw. */
  readonly onCommit?: (report: CommitReport) => void
}

/**
 * One transaction has this much at the most: more would stop the loop for too long, as when everything that an outage held up is
 * written.
 */
const MAX_GROUP_CHANGES = 1024
const MAX_GROUP_UNITS = 4 * 1024 * 1024

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
 * tried again, with everything in it, until it goes through: what was decided in memory is written later, in order. One that was
 * not answered is tried again only once the store says that it wrote nothing. Only what a client or task waits for and nothing
 * has come of yet is withdrawn when the patience is over: a start, a change of policy, a deletion, a value.
 */
export class EventLog {
  readonly #store: JobStore
  readonly #clock: Clock
  readonly #patienceMs: number
  readonly #onRefused: EventLogOptions['onRefused']
  readonly #onCommit: EventLogOptions['onCommit']
  #queued: QueuedChange[] = []
  #sources = new Set<ChangeSource>()
  #immediate: NodeJS.Immediate | undefined
  #timer: (() => void) | undefined
  #isCommitting = false
  readonly #healthListeners = new Set<(health: StoreHealth) => void>()
  #failure: { readonly sinceMs: number; isGivenUp: boolean } | undefined
  #lastEndMs = Number.NEGATIVE_INFINITY
  #lastTookMs = 0
  /** How many changes were queued, and how many of them are done with. */
  #queuedCount = 0
  #doneCount = 0
  #flushes: { readonly count: number; readonly resolve: () => void }[] = []
  #endRetryWait: (() => void) | undefined
  #isClosed = false

  constructor(options: EventLogOptions) {
    this.#store = options.store
    this.#clock = options.clock
    this.#patienceMs = options.patienceMs
    this.#onRefused = options.onRefused
    this.#onCommit = options.onCommit
  }

  /** Whether the last commit failed and has not gone through since. */
  get isFailing(): boolean {
    return this.#failure !== undefined
  }

  /** Calls `listener` after each commit that failed, and after the one that then goes through. Returns its undo. */
  onHealth(listener: (health: StoreHealth) => void): () => void {
    this.#healthListeners.add(listener)
    return () => {
      this.#healthListeners.delete(listener)
    }
  }

  /** Settles when the store takes a probe. Rejects with its last error where it has not for the length of the patience. */
  async assertWritable(): Promise<void> {
    const endMs = this.#clock.monotonicMs() + this.#patienceMs
    for (;;) {
      try {
        await this.#store.check()
        return
      } catch (error) {
        if (this.#clock.monotonicMs() >= endMs) throw error
        await this.#retryWait(FIRST_RETRY_MS)
      }
    }
  }

  /** Queues a status change for the commit of this turn. Outputs that came before it must have been queued before. */
  push(queued: QueuedChange): void {
    if (this.#isClosed || (this.#failure?.isGivenUp === true && needsRoom(queued.change))) {
      // Not at once: whoever tries again and again would never let go of the loop.
      this.#clock.schedule(0, () => queued.settle(false))
      return
    }
    this.#enqueue(queued)
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
    if (outputs !== undefined) this.#enqueue(outputs)
  }

  /** Settles once everything that was queued before the call is written; what comes later is not waited for. */
  async flush(): Promise<void> {
    if (!this.#isCommitting && this.#queued.length === 0 && this.#sources.size === 0) return
    this.#takeSources()
    const count = this.#queuedCount
    if (this.#doneCount >= count) return
    await new Promise<void>((resolve) => {
      this.#flushes.push({ count, resolve })
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
    this.#takeSources()
    const group = this.#takeGroup()
    if (group.length > 0) {
      const beganMs = this.#clock.monotonicMs()
      await this.#write(group)
      // After the readers' sockets were written to, which takes longer than the commit where there are many.
      process.nextTick(() => this.#noteTime(beganMs))
    }
    this.#isCommitting = false
    this.#endFlushes()
    if (this.#queued.length > 0) this.hurry()
    else {
      const [next] = this.#sources
      if (next !== undefined) this.mark(next)
    }
  }

  #enqueue(queued: QueuedChange): void {
    this.#queued.push(queued)
    this.#queuedCount += 1
  }

  #takeSources(): void {
    for (const source of this.#sources) {
      const outputs = source.takeOutputs()
      if (outputs !== undefined) this.#enqueue(outputs)
    }
    this.#sources.clear()
  }

  /** The first of what is queued, as much as one transaction may have beside `group`. */
  #takeGroup(group: readonly QueuedChange[] = []): readonly QueuedChange[] {
    let units = group.reduce((sum, queued) => sum + unitsOf(queued), 0)
    let length = 0
    for (const queued of this.#queued) {
      units += unitsOf(queued)
      const count = group.length + length
      if (count > 0 && (count >= MAX_GROUP_CHANGES || units > MAX_GROUP_UNITS)) break
      length += 1
    }
    if (length === this.#queued.length) {
      const group = this.#queued
      this.#queued = []
      return group
    }
    return this.#queued.splice(0, length)
  }

  #takeDeletions(): readonly QueuedChange[] {
    const found = this.#queued.filter(({ change }) => change.kind === 'delete')
    if (found.length > 0) this.#queued = this.#queued.filter(({ change }) => change.kind !== 'delete')
    return found
  }

  #done(queued: QueuedChange, result?: ChangeResult): void {
    this.#doneCount += 1
    queued.settle(result?.ok === true, result)
  }

  #endFlushes(): void {
    const due = this.#flushes.filter(({ count }) => count <= this.#doneCount)
    if (due.length === 0) return
    this.#flushes = this.#flushes.filter(({ count }) => count > this.#doneCount)
    for (const { resolve } of due) resolve()
  }

  #noteTime(beganMs: number): void {
    this.#lastEndMs = this.#clock.monotonicMs()
    this.#lastTookMs = this.#lastEndMs - beganMs
  }

  /** Tries until it goes through, or the log is closed. */
  async #write(group: readonly QueuedChange[]): Promise<void> {
    let left = group
    let uncertain: UncertainCommitError | undefined
    for (let delayMs = FIRST_RETRY_MS; !this.#isClosed; delayMs = Math.min(delayMs * 2, MAX_RETRY_MS)) {
      let results: readonly ChangeResult[]
      // A store that does not answer is one that fails, as far as anybody can tell.
      const cancelTimer = this.#clock.schedule(this.#patienceMs, () => this.#noteSilence())
      try {
        // What may have been written is not sent again before it is known that it was not.
        const known = await uncertain?.outcome()
        uncertain = undefined
        results = known ?? (await this.#commitOnce(left))
      } catch (error) {
        cancelTimer()
        if (this.#isClosed) break
        if (error instanceof UncertainCommitError) uncertain = error
        const failure = error instanceof Error ? error : new Error(String(error))
        // Nor is it withdrawn.
        const rest = this.#noteFailure(failure, uncertain === undefined ? left : [])
        if (uncertain === undefined) left = rest
        await this.#retryWait(delayMs)
        // A store that is full takes what gives it room, and what is one transaction with that; it may have come since. A deletion
        // is of a job that has ended, and need not wait for what was written before it.
        if (uncertain === undefined) left = [...this.#takeDeletions(), ...left, ...this.#takeGroup(left)]
        continue
      }
      cancelTimer()
      this.#noteSuccess()
      this.#settle(left, results)
      return
    }
    for (const queued of left) this.#done(queued)
  }

  #settle(group: readonly QueuedChange[], results: readonly ChangeResult[]): void {
    for (const [index, queued] of group.entries()) {
      const result = results[index]
      if (result?.ok === false && !isAnswered(queued.change, result.why)) this.#onRefused(queued.change, result.why)
      this.#done(queued, result)
    }
  }

  /** Where everything was withdrawn, a probe tells when the store takes writes again. */
  async #commitOnce(group: readonly QueuedChange[]): Promise<readonly ChangeResult[]> {
    if (group.length > 0) return this.#measuredCommit(group.map(({ change }) => change))
    await this.#store.check()
    return []
  }

  async #measuredCommit(changes: readonly StoreChange[]): Promise<readonly ChangeResult[]> {
    const beganMs = this.#clock.monotonicMs()
    let isTaken = false
    try {
      const results = await this.#store.commit(changes)
      isTaken = true
      return results
    } finally {
      this.#onCommit?.({ changes: changes.length, tookMs: this.#clock.monotonicMs() - beganMs, isTaken })
    }
  }

  #noteSuccess(): void {
    if (this.#failure === undefined) return
    this.#failure = undefined
    for (const listener of this.#healthListeners) listener({ kind: 'ok' })
  }

  /** Returns what is still to be written. */
  #noteFailure(error: Error, group: readonly QueuedChange[]): readonly QueuedChange[] {
    const nowMs = this.#clock.monotonicMs()
    const failure = (this.#failure ??= { sinceMs: nowMs, isGivenUp: false })
    failure.isGivenUp ||= nowMs - failure.sinceMs >= this.#patienceMs
    const left = failure.isGivenUp ? this.#withdraw(group) : group
    for (const listener of this.#healthListeners) listener({ kind: 'failing', error, isGivenUp: failure.isGivenUp })
    return left
  }

  /** What is under way may still take effect, so nothing is withdrawn; but nobody can count on it. */
  #noteSilence(): void {
    if (this.#isClosed) return
    const error = new StoreError(`the store has not answered a commit for ${this.#patienceMs} ms`)
    this.#failure = { sinceMs: this.#clock.monotonicMs() - this.#patienceMs, isGivenUp: true }
    for (const listener of this.#healthListeners) listener({ kind: 'failing', error, isGivenUp: true })
  }

  /** Takes out of `group` and of what is queued behind it what nothing has come of yet. Returns what is left of the group. */
  #withdraw(group: readonly QueuedChange[]): readonly QueuedChange[] {
    const neverCreated = new Set<JobKey>()
    const isLeft = (queued: QueuedChange): boolean => {
      const { change } = queued
      if (change.kind === 'create') neverCreated.add(keyOf(change.record))
      if (!isWithdrawable(change) && !('ref' in change && neverCreated.has(keyOf(change.ref)))) return true
      this.#done(queued)
      return false
    }
    const left = group.filter(isLeft)
    // A deletion that has not been tried may be what gives room to the rest.
    this.#queued = this.#queued.filter((queued) => queued.change.kind === 'delete' || isLeft(queued))
    return left
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

function unitsOf({ change }: QueuedChange): number {
  return 'events' in change ? change.events.lines.length : 0
}

/** Whether a store that takes nothing would take this least of all. What gives room is tried, and withdrawn where that fails. */
function needsRoom(change: StoreChange): boolean {
  return isWithdrawable(change) && change.kind !== 'delete'
}

type WithdrawableKind = 'create' | 'policy' | 'delete' | 'value'

function isWithdrawable(change: StoreChange): change is Extract<StoreChange, { kind: WithdrawableKind }> {
  const { kind } = change
  return kind === 'create' || kind === 'policy' || kind === 'delete' || kind === 'value'
}

/** Whoever sent it is told that it was refused: the job may have ended, or been deleted, at the same time. */
function isAnswered({ kind }: StoreChange, why: string): boolean {
  // An abandoned job may have been deleted before its function settled.
  return kind === 'policy' || kind === 'delete' || (kind === 'settled' && why === 'missing')
}
