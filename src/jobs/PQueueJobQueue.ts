import PQueue, { type RunFunction } from 'p-queue'
import type { JobKey } from '../job/key.ts'
import { FairOrder, type OrderOptions } from './FairOrder.ts'
import type { JobQueue, PauseReason, QueueEntry } from './JobQueue.ts'

/** The queue of one process: p-queue hands out the slots, `FairOrder` says to whom. */
export class PQueueJobQueue implements JobQueue {
  readonly #order: FairOrder
  readonly #queue: PQueue<FairOrder, OrderOptions & { signal?: AbortSignal }>
  readonly #concurrency: number
  readonly #pauses = new Set<PauseReason>()
  /** p-queue forgets a waiting job only by its signal; once the job runs it is left alone, since it would free the slot. */
  readonly #removals = new Map<JobKey, AbortController>()

  constructor(concurrency: number) {
    this.#concurrency = concurrency
    const order = new FairOrder()
    this.#order = order
    // p-queue makes the order itself, from a class; this class gives it ours, so that we can ask it what waits.
    const queueClass = function queueClass() {
      return order
    }
    this.#queue = new PQueue({ concurrency, queueClass: queueClass as unknown as new () => FairOrder })
  }

  get waiting(): number {
    return this.#order.waiting
  }

  get running(): number {
    return this.#queue.pending
  }

  get hasFreeSlot(): boolean {
    return this.#queue.pending < this.#concurrency
  }

  add(entry: QueueEntry): void {
    const removal = new AbortController()
    this.#removals.set(entry.key, removal)
    const run: RunFunction = async () => {
      this.#removals.delete(entry.key)
      try {
        await entry.run()
      } finally {
        this.#order.release(entry.limits)
      }
    }
    const { key, tenant, priority, limits } = entry
    this.#queue.add(run, { id: key, tenant, priority, limits, signal: removal.signal }).catch((error: unknown) => {
      if (error !== removal.signal.reason) throw error
    })
  }

  remove(key: JobKey): boolean {
    const removal = this.#removals.get(key)
    if (removal === undefined || !this.#order.has(key)) return false
    this.#removals.delete(key)
    removal.abort()
    return true
  }

  positionOf(priority: number): number {
    return this.#order.countFrom(priority)
  }

  pause(reason: PauseReason): void {
    this.#pauses.add(reason)
    this.#queue.pause()
  }

  resume(reason: PauseReason): void {
    if (this.#pauses.delete(reason) && this.#pauses.size === 0) this.#queue.start()
  }
}
