import type { Clock } from '../clock.ts'
import { type JobRef, keyOf } from '../job/key.ts'
import type { EventBatch, JobStore } from '../store/JobStore.ts'
import { framesOf, gapFrame } from './frames.ts'

/** A part of a log, ready for a socket. Empty `frames`: the log has nothing after the place that was asked for. */
export interface LogPage {
  readonly frames: string | Buffer
  readonly lastSeq: number
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

/** In a turn in which nothing else was done, reading may take this long. */
const FREE_SLICE_MS = 2

/** A turn with less work than this in it counts as one in which nothing else was done. */
const QUIET_TURN_MS = 0.2

/** Of what a busy loop does, reading may add this share: live readers and the jobs go first. */
const BUSY_SHARE = 0.1

/** What one turn hands out at the most; writing it to the sockets takes longer than reading it, and comes after. */
const SLICE_BYTES = 512 * 1024

/**
 * Reads logs for readers that are behind. Readers that want the same page get one that was read and encoded once: after a network
 * or a server was away, a thousand come back at the same place. And reading takes turns with everything else on the loop: all
 * that it may where the loop is idle, a tenth where it is busy, so that one that attaches to a long log, or a thousand, do not
 * slow down those that follow live.
 */
export class LogPages {
  readonly #store: JobStore
  readonly #clock: Clock
  /** In the order in which the first of each group asked. */
  readonly #groups = new Map<string, Group>()
  #isScheduled = false
  #creditMs = FREE_SLICE_MS
  #lastEndMs = Number.NEGATIVE_INFINITY

  constructor(options: { readonly store: JobStore; readonly clock: Clock }) {
    this.#store = options.store
    this.#clock = options.clock
  }

  /** Settles in one of the next turns. Rejects with what the store rejects with. */
  read(request: PageRequest): Promise<LogPage> {
    const { ref, after, named, maxBytes } = request
    const name = `${keyOf(ref)} ${after} ${named} ${maxBytes}`
    return new Promise((resolve, reject) => {
      const group = this.#groups.get(name)
      if (group === undefined) this.#groups.set(name, { request, waiters: [{ resolve, reject }] })
      else group.waiters.push({ resolve, reject })
      this.#schedule()
    })
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    this.#clock.schedule(0, () => void this.#slice())
  }

  async #slice(): Promise<void> {
    const beganMs = this.#clock.monotonicMs()
    const otherMs = beganMs - this.#lastEndMs
    this.#creditMs =
      otherMs < QUIET_TURN_MS || otherMs === Number.POSITIVE_INFINITY
        ? FREE_SLICE_MS
        : Math.min(this.#creditMs + otherMs * BUSY_SHARE, FREE_SLICE_MS)
    const endMs = beganMs + this.#creditMs
    let bytes = 0
    while (this.#groups.size > 0 && bytes < SLICE_BYTES && this.#clock.monotonicMs() < endMs) {
      bytes += await this.#serveOne()
    }
    // Behind what the readers have written to their sockets in this turn.
    process.nextTick(() => {
      this.#lastEndMs = this.#clock.monotonicMs()
      this.#creditMs -= this.#lastEndMs - beganMs
      this.#isScheduled = false
      if (this.#groups.size > 0) this.#schedule()
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
      for (const waiter of group.waiters) waiter.reject(error)
      return 0
    }
    group.waiters.shift()?.resolve(group.page)
    if (group.waiters.length === 0) this.#groups.delete(name)
    return group.page.frames.length
  }

  async #pageOf({ request, waiters }: Group): Promise<LogPage> {
    const { ref, after, named, maxBytes } = request
    const batches = await this.#store.readEvents(ref, after, maxBytes)
    const page = encodePage(ref.id, batches, after, named)
    return waiters.length > 1 ? { ...page, frames: Buffer.from(page.frames) } : page
  }
}

/** Where numbers are missing, a `gap` stands in their place. */
function encodePage(
  jobId: string,
  batches: readonly EventBatch[],
  after: number,
  named: boolean,
): { readonly frames: string; readonly lastSeq: number } {
  let frames = ''
  let lastSeq = after
  for (const batch of batches) {
    if (batch.firstSeq > lastSeq + 1) {
      frames += gapFrame(jobId, { from: lastSeq + 1, to: batch.firstSeq - 1, reason: 'log_limit' }, named)
    }
    frames += framesOf(jobId, batch, lastSeq, named)
    lastSeq = Math.max(lastSeq, batch.lastSeq)
  }
  return { frames, lastSeq }
}
