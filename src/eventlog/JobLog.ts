import type { Clock } from '../clock.ts'
import { isTerminalEvent, type StatusEvent, type TaskEvent } from '../job/event.ts'
import type { Json } from '../job/json.ts'
import type { JobRef } from '../job/key.ts'
import type { JobRecord } from '../job/record.ts'
import type { JobState } from '../job/state.ts'
import type { ActiveStatus } from '../job/status.ts'
import type { ChangeResult, EventBatch, StoreChange } from '../store/JobStore.ts'
import type { ChangeSource, EventLog, QueuedChange } from './EventLog.ts'
import { BACKPRESSURE_UNITS, OVERRUN_UNITS, overrun } from './emitLimits.ts'
import { encodeLine } from './frames.ts'
import { PendingEvents } from './PendingEvents.ts'
import { PublishedLog } from './PublishedLog.ts'

const ACCEPTED = Promise.resolve()

/**
 * The log of one job that has not ended: the only writer of its events in this process. Numbers are given when a batch is
 * made, in the order of the store's changes, so the log has no gap; nothing is shown to a reader before it is in the store.
 */
export class JobLog extends PublishedLog implements ChangeSource {
  readonly ref: JobRef
  readonly #log: EventLog
  readonly #clock: Clock
  #pending: PendingEvents | undefined
  #roomWaiters: { promise: Promise<void>; resolve: () => void } | undefined
  #unloggedUnits = 0
  #lastSeq: number
  #isFenced = false
  #turn: Promise<void> | undefined
  /** Where several processes write jobs: this one. It owns what it creates, and no move takes back a job that was taken from it. */
  readonly #owner: string | undefined
  readonly #onAnswer: (result: ChangeResult) => void

  constructor(
    log: EventLog,
    clock: Clock,
    ref: JobRef,
    lastSeq: number,
    onAnswer: (result: ChangeResult) => void = () => undefined,
    owner?: string,
  ) {
    super(ref.id, lastSeq)
    this.#log = log
    this.#clock = clock
    this.ref = ref
    this.#lastSeq = lastSeq
    this.#onAnswer = onAnswer
    this.#owner = owner
  }

  /** The number of the last event that was given one. */
  get lastSeq(): number {
    return this.#lastSeq
  }

  /** Whether something that was decided or emitted is not in the store yet. */
  get isBehind(): boolean {
    return this.#lastSeq > this.publishedSeq || this.#pending?.isEmpty === false
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
    const created = { ...record, lastSeq: batch.lastSeq }
    return this.#push({ kind: 'create', record: created, events: batch, ...this.#owned() }, batch)
  }

  /** Writes a change of status with its event, after all output that came before. Settles with whether the store took it. */
  move(from: ActiveStatus, state: JobState, event: StatusEvent, input?: Json): Promise<boolean> {
    this.#log.queueOutputsOf(this)
    const batch = this.#batchOf([event])
    return this.#push(
      {
        kind: 'move',
        ref: this.ref,
        from,
        state,
        events: batch,
        ...this.#owned(),
        ...(input === undefined ? {} : { input }),
      },
      batch,
      isTerminalEvent(event.type),
    )
  }

  #owned(): { readonly owner?: string } {
    return this.#owner === undefined ? {} : { owner: this.#owner }
  }

  takeOutputs(): QueuedChange | undefined {
    const pending = this.#pending
    if (pending === undefined || pending.isEmpty) return undefined
    const units = pending.units
    const batch = this.#number(pending.take())
    return {
      change: { kind: 'append', ref: this.ref, events: batch },
      settle: (isWritten, result) => {
        this.#unloggedUnits -= units
        if (isWritten) this.publish(batch, false)
        this.#makeRoom()
        if (result !== undefined) this.#onAnswer(result)
      },
    }
  }

  #push(change: StoreChange, batch: EventBatch, isFinal = false): Promise<boolean> {
    return new Promise((resolve) => {
      this.#log.push({
        change,
        settle: (isWritten, result) => {
          if (isWritten) this.publish(batch, isFinal)
          resolve(isWritten)
          if (result !== undefined) this.#onAnswer(result)
        },
      })
    })
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
