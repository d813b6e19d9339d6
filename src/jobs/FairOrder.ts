import type { Queue, RunFunction } from 'p-queue'
import type { RunLimit } from '../store/JobStore.ts'

/** What the order has to know of a job; p-queue passes it through from `add` to `enqueue`. */
export interface OrderOptions {
  readonly id?: string
  readonly priority?: number
  readonly tenant?: string
  readonly limits?: readonly RunLimit[]
}

interface Waiting {
  readonly id: string
  readonly run: RunFunction
  readonly lane: Lane
  /** Of all that were ever added: the older goes first. */
  readonly order: number
}

/** Waiting jobs that are alike in tenant, priority and limits: they may run or not as one, first in first out. */
interface Lane {
  readonly name: string
  readonly tenant: string
  readonly priority: number
  readonly limits: readonly RunLimit[]
  /** By id; a Map keeps the order in which they came, and takes one out of the middle at once. */
  readonly waiting: Map<string, Waiting>
}

/**
 * The order in which p-queue starts jobs: the highest priority of which any may run; there the tenant whose turn it is; of that
 * tenant the oldest that no limit holds back. `size` counts only what may run now, since p-queue takes a size above 0 as a
 * promise that `dequeue` gives a job; it asks again whenever a job ends, which is when a limit can have eased.
 */
export class FairOrder implements Queue<RunFunction, OrderOptions> {
  readonly #lanes = new Map<string, Lane>()
  readonly #byId = new Map<string, Waiting>()
  readonly #running = new Map<string, number>()
  /** When each tenant last got a slot, as a count of slots given. */
  readonly #lastTurn = new Map<string, number>()
  #turn = 0
  #added = 0
  /** Known since the last look: there may be as many lanes as jobs, and p-queue asks at each step. */
  #isNoneNext = false

  get size(): number {
    return this.#mayAnyRun() ? this.#byId.size : 0
  }

  get waiting(): number {
    return this.#byId.size
  }

  /** How many wait with this priority or a higher one. */
  countFrom(priority: number): number {
    let count = 0
    for (const lane of this.#lanes.values()) if (lane.priority >= priority) count += lane.waiting.size
    return count
  }

  has(id: string): boolean {
    return this.#byId.has(id)
  }

  enqueue(run: RunFunction, options: OrderOptions = {}): void {
    const { id = '', priority = 0, tenant = '', limits = [] } = options
    const name = JSON.stringify([tenant, priority, limits])
    let lane = this.#lanes.get(name)
    if (lane === undefined) {
      lane = { name, tenant, priority, limits, waiting: new Map() }
      this.#lanes.set(name, lane)
    }
    this.#added += 1
    const waiting = { id, run, lane, order: this.#added }
    lane.waiting.set(id, waiting)
    this.#byId.set(id, waiting)
    if (this.#mayRun(lane)) this.#isNoneNext = false
  }

  dequeue(): RunFunction | undefined {
    const next = this.#next()
    if (next === undefined) return undefined
    this.remove(next.id)
    const { lane } = next
    this.#turn += 1
    this.#lastTurn.set(lane.tenant, this.#turn)
    for (const { name } of lane.limits) this.#running.set(name, (this.#running.get(name) ?? 0) + 1)
    return next.run
  }

  remove(id: string): void {
    const waiting = this.#byId.get(id)
    if (waiting === undefined) return
    this.#byId.delete(id)
    const { lane } = waiting
    lane.waiting.delete(id)
    if (lane.waiting.size === 0) this.#lanes.delete(lane.name)
  }

  /** A job that was dequeued has ended: what it counted against has room again. */
  release(limits: readonly RunLimit[]): void {
    this.#isNoneNext = false
    for (const { name } of limits) {
      const running = (this.#running.get(name) ?? 0) - 1
      if (running > 0) this.#running.set(name, running)
      else this.#running.delete(name)
    }
    // A tenant that waits for nothing needs no turn; without this the map would grow with every tenant there ever was.
    if (this.#byId.size === 0) this.#lastTurn.clear()
  }

  /** p-queue asks for these for its own `setPriority` and `sizeBy`, which nothing here calls. */
  setPriority(): void {
    throw new Error('the priority of a waiting job does not change')
  }

  filter(): RunFunction[] {
    return [...this.#byId.values()].map(({ run }) => run)
  }

  /** Whether `#next` would find one: the first that may run is enough. */
  #mayAnyRun(): boolean {
    if (this.#isNoneNext) return false
    for (const lane of this.#lanes.values()) if (this.#mayRun(lane)) return true
    this.#isNoneNext = true
    return false
  }

  #next(): Waiting | undefined {
    let best: Waiting | undefined
    for (const lane of this.#lanes.values()) {
      if (!this.#mayRun(lane)) continue
      const [first] = lane.waiting.values()
      if (first !== undefined && (best === undefined || this.#goesBefore(first, best))) best = first
    }
    return best
  }

  #goesBefore(a: Waiting, b: Waiting): boolean {
    if (a.lane.priority !== b.lane.priority) return a.lane.priority > b.lane.priority
    const turns = (this.#lastTurn.get(a.lane.tenant) ?? 0) - (this.#lastTurn.get(b.lane.tenant) ?? 0)
    return turns === 0 ? a.order < b.order : turns < 0
  }

  #mayRun(lane: Lane): boolean {
    return lane.limits.every(({ name, limit }) => (this.#running.get(name) ?? 0) < limit)
  }
}
