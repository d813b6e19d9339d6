import type { Clock } from '../clock.ts'
import { type JobRef, keyOf } from '../job/key.ts'
import type { EventBatch, JobStore } from '../store/JobStore.ts'
import { framesOf, gapFrame } from './frames.ts'
import { type LoopLoad, MeasuredLoopLoad } from './LoopLoad.ts'

/** A part of a log, ready for a socket. Empty `frames`: the log has nothing after the place that was asked for. */
export interface LogPage {
  readonly frames: Buffer
  readonly lastSeq: number
  /** How many events of the log it has. */
  readonly events: number
}

export interface PageRequest {
  readonly ref: JobRef
  /** The page begins after this event. */
  readonly after: number
  readonly named: boolean
  /** Whole batches are read until this is reached. */
  readonly maxBytes: number
}

interface Waiter {
  readonly resolve: (page: LogPage) => void
  readonly reject: (error: unknown) => void
}

/** Those who ask for the same page at the same time. */
interface Group {
  readonly request: PageRequest
  readonly waiters: Waiter[]
  page?: LogPage
}

/** Between two looks at how busy the loop is, reading may go on for this long where it is not. */
const FREE_RUN_MS = 6

/** A look takes this long: reading waits, so that the loop may sleep if it has nothing else to do. */
const LOOK_MS = 1

/** A loop that slept this share of the look has time to spare. */
const IDLE_SHARE = 0.4

/** Of the time of a busy loop, reading gets the share that readers who are behind have among all, within these. */
const MIN_SHARE = 0.1
const MAX_SHARE = 0.9

/** What looks at a busy loop may save up for a page that takes longer than its share. */
const MAX_CREDIT_MS = 10

/** What one turn hands out at the most; writing it to the sockets takes longer than reading it, and comes after. */
const SLICE_BYTES = 512 * 1024

/**
 * Reads logs for readers that are behind. Readers that want the same page get one that was read and encoded once: after a network
 * or a server was away, a thousand come back at the same place. And reading takes turns with everything else on the loop: all
 * that it may where the loop has time to spare; where it is busy, one reader that attaches to a long log takes no more of it than
 * any of those that follow live.
 */
export class LogPages {
  readonly #store: JobStore
  readonly #clock: Clock
  /** In the order in which the first of each group asked. */
  readonly #groups = new Map<string, Group>()
  readonly #load: LoopLoad
  #isScheduled = false
  /** Until then (monotonic ms) reading goes on in every turn. */
  #freeUntilMs = 0
  /** When it last looked or read. */
  #lastMs = Number.NEGATIVE_INFINITY
  #creditMs = 0
  #waiting = 0
  #live = 0

  constructor(options: { readonly store: JobStore; readonly clock: Clock; readonly load?: LoopLoad }) {
    this.#store = options.store
    this.#clock = options.clock
    this.#load = options.load ?? new MeasuredLoopLoad()
  }

  /** One more reader follows live. Returns its undo, to be called once. */
  joinLive(): () => void {
    this.#live += 1
    return () => {
      this.#live -= 1
    }
  }

  /** Settles in one of the next turns. Rejects with what the store rejects with. */
  read(request: PageRequest): Promise<LogPage> {
    const { ref, after, named, maxBytes } = request
    const name = `${keyOf(ref)} ${after} ${named} ${maxBytes}`
    return new Promise((resolve, reject) => {
      const group = this.#groups.get(name)
      if (group === undefined) this.#groups.set(name, { request, waiters: [{ resolve, reject }] })
      else group.waiters.push({ resolve, reject })
      this.#waiting += 1
      this.#schedule()
    })
  }

  /** The first page after a while comes at once; then the loop is looked at. */
  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    const nowMs = this.#clock.monotonicMs()
    if (nowMs - this.#lastMs > FREE_RUN_MS + LOOK_MS) this.#freeUntilMs = nowMs + LOOK_MS
    this.#next(nowMs)
  }

  #next(nowMs: number): void {
    if (nowMs < this.#freeUntilMs || this.#creditMs > 0) {
      this.#clock.schedule(0, () => void this.#slice(nowMs))
      return
    }
    this.#load.begin()
    this.#clock.schedule(LOOK_MS, () => this.#endLook(nowMs))
  }

  #endLook(beganMs: number): void {
    const nowMs = this.#clock.monotonicMs()
    this.#lastMs = nowMs
    if (this.#load.idleShare() >= IDLE_SHARE) {
      this.#creditMs = 0
      this.#freeUntilMs = nowMs + FREE_RUN_MS
      this.#next(nowMs)
      return
    }
    const share = Math.min(Math.max(this.#waiting / (this.#waiting + this.#live), MIN_SHARE), MAX_SHARE)
    this.#creditMs = Math.min(this.#creditMs + ((nowMs - beganMs) * share) / (1 - share), MAX_CREDIT_MS)
    this.#next(nowMs)
  }

  async #slice(nowMs: number): Promise<void> {
    const beganMs = this.#clock.monotonicMs()
    const isFree = nowMs < this.#freeUntilMs
    const endMs = isFree ? this.#freeUntilMs : beganMs + this.#creditMs
    let bytes = 0
    do {
      bytes += await this.#serveOne()
    } while (this.#groups.size > 0 && bytes < SLICE_BYTES && this.#clock.monotonicMs() < endMs)
    // Behind what the readers have written to their sockets in this turn.
    process.nextTick(() => {
      const writtenMs = this.#clock.monotonicMs()
      this.#lastMs = writtenMs
      if (!isFree) this.#creditMs -= writtenMs - beganMs
      if (this.#groups.size > 0) this.#next(writtenMs)
      else this.#isScheduled = false
    })
  }

  /** Gives one reader its page. Returns how long that is. */
  async #serveOne(): Promise<number> {
    const [next] = this.#groups
    if (next === undefined) return 0
    const [name, group] = next
    try {
      group.page ??= await this.#pageOf(group)
    } catch (error) {
      this.#groups.delete(name)
      this.#waiting -= group.waiters.length
      for (const waiter of group.waiters) waiter.reject(error)
      return 0
    }
    this.#waiting -= 1
    group.waiters.shift()?.resolve(group.page)
    if (group.waiters.length === 0) this.#groups.delete(name)
    return group.page.frames.length
  }

  async #pageOf({ request }: Group): Promise<LogPage> {
    const { ref, after, named, maxBytes } = request
    const batches = await this.#store.readEvents(ref, after, maxBytes)
    return encodePage(ref.id, batches, after, named)
  }
}

/** Where numbers are missing, a `gap` stands in their place. */
function encodePage(jobId: string, batches: readonly EventBatch[], after: number, named: boolean): LogPage {
  let frames = ''
  let lastSeq = after
  let events = 0
  for (const batch of batches) {
    if (batch.firstSeq > lastSeq + 1) {
      frames += gapFrame(jobId, { from: lastSeq + 1, to: batch.firstSeq - 1, reason: 'log_limit' }, named)
    }
    frames += framesOf(jobId, batch, lastSeq, named)
    events += Math.max(0, batch.lastSeq - Math.max(lastSeq, batch.firstSeq - 1))
    lastSeq = Math.max(lastSeq, batch.lastSeq)
  }
  // Not the text: what a socket cannot take at once of a text is kept in blocks of three times its length.
  return { frames: Buffer.from(frames), lastSeq, events }
}
