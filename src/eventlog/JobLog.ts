import type { Clock } from '../clock.ts'
import { isTerminalEvent, type StatusEvent, type TaskEvent } from '../job/event.ts'
import type { Json } from '../job/json.ts'
import type { JobRef } from '../job/key.ts'
import type { JobRecord } from '../job/record.ts'
import type { JobState } from '../job/state.ts'
import type { ActiveStatus } from '../job/status.ts'
import type { EventBatch, StoreChange } from '../store/JobStore.ts'
import type { ChangeSource, EventLog, QueuedChange } from './EventLog.ts'
import { BACKPRESSURE_UNITS, OVERRUN_UNITS, overrun } from './emitLimits.ts'
import { encodeLine } from './frames.ts'
import { PendingEvents } from './PendingEvents.ts'
import { PublishedBatch } from './PublishedBatch.ts'

const ACCEPTED = Promise.resolve()

/** The newest events stay in memory up to this (UTF-16 units, batches): who comes back after a moment needs no store. */
const RECENT_UNITS = 16 * 1024
const RECENT_BATCHES = 8

/** Whoever follows a live log. Called synchronously, in order, with what is in the log. */
export interface BatchListener {
  onBatch(batch: PublishedBatch): void
  /** What follows cannot be written: the store does not take it, or this process ends before it has. */
  onLost(error: Error): void
}

/**
 * The log of one job that has not ended: the only writer of its events in this process. Numbers are given when a batch is
 * made, in the order of the store's changes, so the log has no gap; nothing is shown to a reader before it is in the store.
 */
export class JobLog implements ChangeSource {
  readonly ref: JobRef
  readonly #log: EventLog
  readonly #clock: Clock
  readonly #listeners = new Set<BatchListener>()
  /** The newest batches that are in the store, oldest first, without a hole. */
  readonly #recent: EventBatch[] = []
  #recentUnits = 0
  #pending: PendingEvents | undefined
  #roomWaiters: { promise: Promise<void>; resolve: () => void } | undefined
  #unloggedUnits = 0
  #lastSeq: number
  #publishedSeq: number
  #isFenced = false
  #lost: Error | undefined
  #turn: Promise<void> | undefined
  #hasEnded = false

  constructor(log: EventLog, clock: Clock, ref: JobRef, lastSeq: number) {
    this.#log = log
    this.#clock = clock
    this.ref = ref
    this.#lastSeq = lastSeq
    this.#publishedSeq = lastSeq
  }

  /** The number of the last event that was given one. */
  get lastSeq(): number {
    return this.#lastSeq
  }

  /** The number of the last event that is in the store and was shown to readers. */
  get publishedSeq(): number {
    return this.#publishedSeq
  }

  /** Whether the terminal event is in the store. */
  get hasEnded(): boolean {
    return this.#hasEnded
  }

  /** Why readers are not shown what follows: it could not be written. Undefined again once it is. */
  get lost(): Error | undefined {
    return this.#lost
  }

  /** Whether something that was decided or emitted is not in the store yet. */
  get isBehind(): boolean {
    return this.#lastSeq > this.#publishedSeq || this.#pending?.isEmpty === false
  }

  /** What was published after `seq`, the first batch perhaps from before it; undefined where that is in the store alone. */
  recentAfter(seq: number): readonly EventBatch[] | undefined {
    const [oldest] = this.#recent
    if (oldest === undefined || oldest.firstSeq > seq + 1) return undefined
    return this.#recent.filter(({ lastSeq }) => lastSeq > seq)
  }

  /** Follows the log from the next batch on. Returns its undo. */
  subscribe(listener: BatchListener): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
    }
  }

  /**
   * Takes what a task sends. The promise settles when the log has room for more: at once, while little is waiting.
   * After `fence` the event is dropped, and the promise settles in the next turn.
   * @throws {TaskFailure} at once, not as a rejection, since an author who never awaits would not see one:
   * `TETHER_OUTPUT_OVERRUN` past 16 MiB not yet logged, `TETHER_EVENT_TOO_LARGE` for an event of more than 64 KiB.
   */
  emit(event: TaskEvent): Promise<void> {
    if (this.#isFenced) return this.#nextTurn()
    const pending = (this.#pending ??= new PendingEvents())
    const before = pending.units
    if (this.#unloggedUnits + (event.type === 'output' ? event.text.length : 0) > OVERRUN_UNITS) throw overrun()
    pending.push(event, isoOf(this.#clock.now()))
    this.#unloggedUnits += pending.units - before
    this.#log.mark(this)
    if (this.#unloggedUnits <= BACKPRESSURE_UNITS) return ACCEPTED
    // Whoever waits for room waits for this write, not for company.
    this.#log.hurry()
    return (this.#roomWaiters ??= Promise.withResolvers<void>()).promise
  }

  /** Tells whoever follows, or comes to, that the rest cannot be shown: not now, or not from this process. */
  lose(error: Error): void {
    this.#lost = error
    for (const listener of this.#listeners) listener.onLost(error)
  }

  /**
   * From here on the task's output is refused; what it emitted before is still written, with lower numbers. Whoever waits for
   * room is let go: a store that is slow or away would hold up the function's end.
   */
  fence(): void {
    this.#isFenced = true
    this.#releaseRoomWaiters()
  }

  /** Writes the job's first record with its first events. Settles with whether the store took it. */
  create(record: JobRecord, events: readonly StatusEvent[]): Promise<boolean> {
    const batch = this.#batchOf(events)
    return this.#push({ kind: 'create', record: { ...record, lastSeq: batch.lastSeq }, events: batch }, batch)
  }

  /** Writes a change of status with its event, after all output that came before. Settles with whether the store took it. */
  move(from: ActiveStatus, state: JobState, event: StatusEvent, input?: Json): Promise<boolean> {
    this.#log.queueOutputsOf(this)
    const batch = this.#batchOf([event])
    return this.#push(
      { kind: 'move', ref: this.ref, from, state, events: batch, ...(input === undefined ? {} : { input }) },
      batch,
      isTerminalEvent(event.type),
    )
  }

  takeOutputs(): QueuedChange | undefined {
    const pending = this.#pending
    if (pending === undefined || pending.isEmpty) return undefined
    const units = pending.units
    const batch = this.#number(pending.take())
    return {
      change: { kind: 'append', ref: this.ref, events: batch },
      settle: (isWritten) => {
        this.#unloggedUnits -= units
        if (isWritten) this.#publish(batch, false)
        this.#makeRoom()
      },
    }
  }

  #push(change: StoreChange, batch: EventBatch, isFinal = false): Promise<boolean> {
    return new Promise((resolve) => {
      this.#log.push({
        change,
        settle: (isWritten) => {
          if (isWritten) this.#publish(batch, isFinal)
          resolve(isWritten)
        },
      })
    })
  }

  #publish(batch: EventBatch, isFinal: boolean): void {
    this.#publishedSeq = batch.lastSeq
    this.#lost = undefined
    this.#keepRecent(batch)
    if (isFinal) this.#hasEnded = true
    if (this.#listeners.size === 0) return
    const published = new PublishedBatch(this.ref.id, batch, { isFinal, readers: this.#listeners.size })
    for (const listener of this.#listeners) listener.onBatch(published)
  }

  #keepRecent(batch: EventBatch): void {
    this.#recent.push(batch)
    this.#recentUnits += batch.lines.length
    while (this.#recentUnits > RECENT_UNITS || this.#recent.length > RECENT_BATCHES) {
      this.#recentUnits -= this.#recent.shift()?.lines.length ?? 0
    }
  }

  #makeRoom(): void {
    if (this.#unloggedUnits <= BACKPRESSURE_UNITS) this.#releaseRoomWaiters()
  }

  /** A loop of awaited outputs would never let go of the process where they settled at once: nothing makes it wait any more. */
  #nextTurn(): Promise<void> {
    this.#turn ??= new Promise((resolve) => {
      this.#clock.schedule(0, () => {
        this.#turn = undefined
        resolve()
      })
    })
    return this.#turn
  }

  #releaseRoomWaiters(): void {
    this.#roomWaiters?.resolve()
    this.#roomWaiters = undefined
  }

  #batchOf(events: readonly StatusEvent[]): EventBatch {
    const at = isoOf(this.#clock.now())
    return this.#number(events.map(({ type, ...data }) => encodeLine(type, at, data)))
  }

  #number(lines: readonly string[]): EventBatch {
    const firstSeq = this.#lastSeq + 1
    this.#lastSeq += lines.length
    return { firstSeq, lastSeq: this.#lastSeq, lines: lines.join('\n') }
  }
}

let cachedMs = 0
let cachedIso = ''

/** Formatting a date costs as much as the rest of an event; many events share a millisecond. */
function isoOf(ms: number): string {
  if (ms !== cachedMs) {
    cachedMs = ms
    cachedIso = new Date(ms).toISOString()
  }
  return cachedIso
}
