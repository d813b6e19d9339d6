import type { Clock } from '../clock.ts'
import type { CancelKind, CancellationRequest, StoredTombstone } from '../job/cancellation.ts'
import { groupKeyOf, type JobKey } from '../job/key.ts'
import type { CancellationTracker } from './CancellationTracker.ts'

/** A request that waits for a job that nobody has started yet. */
interface Entry {
  readonly request: CancellationRequest
  readonly expiresAtMs: number
}

/** What a remembered request is answered with. `expiresAt` is wall time in ms. */
export interface Tombstone {
  readonly kind: CancelKind
  readonly expiresAt: number
  /** Settles when it outlives this process, or cannot. Never rejects. */
  readonly kept: Promise<unknown>
}

export interface PendingCancellationsOptions {
  readonly clock: Clock
  /** How long a request is kept from the last time that it was made. */
  readonly expiresAfterMs: number
  /** How many may wait for jobs that are not known; past it new ones are refused, never old ones dropped. */
  readonly maxTombstones: number
  /** Keeps a remembered request for the next process; undefined: it is not needed any more. Settles when that is done. */
  readonly keep?: (name: string, tombstone: StoredTombstone | undefined) => Promise<unknown>
}

/**
 * Requests for jobs that the orchestrator has not registered: created a moment ago, being claimed, or not known at all and to
 * be remembered. The orchestrator asks in the same synchronous step in which it registers an execution, so that either the
 * request finds the execution or the execution finds the request. Cancel beats stop; otherwise the first stands.
 */
export class PendingCancellations implements CancellationTracker {
  readonly #clock: Clock
  readonly #expiresAfterMs: number
  readonly #maxTombstones: number
  readonly #keep: NonNullable<PendingCancellationsOptions['keep']>
  readonly #tombstones = new Map<string, Entry>()
  /** For jobs that exist. They do not expire: a store that is away may hold up a claim for any time, and the job's end clears them. */
  readonly #marks = new Map<JobKey, CancellationRequest>()
  #cancelSweep: (() => void) | undefined

  constructor(options: PendingCancellationsOptions) {
    this.#clock = options.clock
    this.#expiresAfterMs = options.expiresAfterMs
    this.#maxTombstones = options.maxTombstones
    this.#keep = options.keep ?? (() => Promise.resolve())
  }

  /** Takes up what an earlier process was asked to remember. */
  load(kept: readonly StoredTombstone[]): void {
    const [now, nowMs] = [this.#clock.now(), this.#clock.monotonicMs()]
    for (const { name, request, expiresAt } of kept.toSorted((a, b) => a.expiresAt - b.expiresAt)) {
      const leftMs = Math.min(expiresAt - now, this.#expiresAfterMs)
      if (leftMs <= 0) continue
      this.#tombstones.set(name, { request: { ...request, requestedAtMs: nowMs }, expiresAtMs: nowMs + leftMs })
    }
    if (this.#tombstones.size > 0) this.#sweep()
  }

  get tombstoneCount(): number {
    return this.#tombstones.size
  }

  /** How many requests wait, tombstones included. */
  get size(): number {
    return this.#tombstones.size + this.#marks.size
  }

  /** Keeps `request` for a job that exists here and is not running yet. */
  mark(key: JobKey, request: CancellationRequest): void {
    this.#marks.set(key, strongerOf(this.#marks.get(key), request))
  }

  /** The request that stands for `key`, which stays. */
  peek(key: JobKey): CancellationRequest | undefined {
    return this.#marks.get(key) ?? this.#live(key)?.request
  }

  /** The request that stands for `key`, which is thereby consumed. */
  take(key: JobKey): CancellationRequest | undefined {
    const request = this.peek(key)
    this.clearCancellation(key)
    return request
  }

  /** Keeps `request` for a job that is not known. Undefined where too many are kept already. */
  remember(key: JobKey, request: CancellationRequest): Tombstone | undefined {
    return this.#remember(key, request)
  }

  /** Keeps `request` for every job that starts with this group. Undefined where too many are kept already. */
  rememberGroup(tenant: string, group: string, request: CancellationRequest): Tombstone | undefined {
    return this.#remember(groupKeyOf(tenant, group), request)
  }

  /** What is remembered for a group; it stays, since more jobs of the group may come. */
  peekGroup(tenant: string, group: string): CancellationRequest | undefined {
    return this.#live(groupKeyOf(tenant, group))?.request
  }

  markForCancellation(id: JobKey, reason = ''): void {
    this.mark(id, {
      kind: 'cancel',
      cause: 'cancel_requested',
      reason,
      requestedAt: this.#clock.now(),
      requestedAtMs: this.#clock.monotonicMs(),
    })
  }

  isCancelled(id: JobKey): boolean {
    return this.peek(id) !== undefined
  }

  getCancellationReason(id: JobKey): string | undefined {
    return this.peek(id)?.reason
  }

  clearCancellation(id: JobKey): void {
    this.#marks.delete(id)
    if (this.#tombstones.delete(id)) void this.#keep(id, undefined)
  }

  /** Forgets everything and lets go of the timer. */
  close(): void {
    this.#cancelSweep?.()
    this.#cancelSweep = undefined
    this.#tombstones.clear()
    this.#marks.clear()
  }

  #remember(name: string, request: CancellationRequest): Tombstone | undefined {
    const known = this.#live(name)
    if (known === undefined && this.#tombstones.size >= this.#maxTombstones) this.#sweep()
    if (known === undefined && this.#tombstones.size >= this.#maxTombstones) return undefined
    const stands = strongerOf(known?.request, request)
    this.#tombstones.delete(name)
    this.#tombstones.set(name, { request: stands, expiresAtMs: this.#clock.monotonicMs() + this.#expiresAfterMs })
    this.#cancelSweep ??= this.#clock.schedule(this.#expiresAfterMs + 1, () => this.#sweep())
    const expiresAt = this.#clock.now() + this.#expiresAfterMs
    const { requestedAtMs: _, ...kept } = stands
    return { kind: stands.kind, expiresAt, kept: this.#keep(name, { name, request: kept, expiresAt }) }
  }

  #live(name: string): Entry | undefined {
    const entry = this.#tombstones.get(name)
    if (entry === undefined || entry.expiresAtMs > this.#clock.monotonicMs()) return entry
    this.#tombstones.delete(name)
    return undefined
  }

  /** The map is in the order of expiry: every entry is put at its end, and all live equally long. */
  #sweep(): void {
    this.#cancelSweep?.()
    this.#cancelSweep = undefined
    const nowMs = this.#clock.monotonicMs()
    for (const [name, entry] of this.#tombstones) {
      if (entry.expiresAtMs > nowMs) {
        this.#cancelSweep = this.#clock.schedule(entry.expiresAtMs - nowMs + 1, () => this.#sweep())
        return
      }
      this.#tombstones.delete(name)
    }
  }
}

/** Cancel beats stop; otherwise the first stands. Also where they were asked for in different ways: of a job and of its group. */
export function strongerOf(first: CancellationRequest | undefined, second: CancellationRequest): CancellationRequest {
  if (first === undefined) return second
  return first.kind === 'stop' && second.kind === 'cancel' ? second : first
}
