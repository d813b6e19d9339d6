import type { Clock } from '../clock.ts'
import type { CancelKind, CancellationRequest } from '../job/cancellation.ts'
import type { JobKey } from '../job/key.ts'
import type { CancellationTracker } from './CancellationTracker.ts'

interface Entry {
  readonly request: CancellationRequest
  readonly expiresAtMs: number
  /** Whether it waits for a job that nobody has started yet. */
  readonly isTombstone: boolean
}

/** What a remembered request is answered with. `expiresAt` is wall time in ms. */
export interface Tombstone {
  readonly kind: CancelKind
  readonly expiresAt: number
}

export interface PendingCancellationsOptions {
  readonly clock: Clock
  /** How long a request is kept from the last time that it was made. */
  readonly expiresAfterMs: number
  /** How many may wait for jobs that are not known; past it new ones are refused, never old ones dropped. */
  readonly maxTombstones: number
}

/** Group ids and job ids have one alphabet, without `/`: a name with this prefix is never a job's. */
const GROUP_PREFIX = 'group/'

/**
 * Requests for jobs that the orchestrator has not registered: created a moment ago, being claimed, or not known at all and to
 * be remembered. The orchestrator asks in the same synchronous step in which it registers an execution, so that either the
 * request finds the execution or the execution finds the request. Cancel beats stop; otherwise the first stands.
 */
export class PendingCancellations implements CancellationTracker {
  readonly #clock: Clock
  readonly #expiresAfterMs: number
  readonly #maxTombstones: number
  readonly #entries = new Map<string, Entry>()
  #tombstones = 0
  #cancelSweep: (() => void) | undefined

  constructor(options: PendingCancellationsOptions) {
    this.#clock = options.clock
    this.#expiresAfterMs = options.expiresAfterMs
    this.#maxTombstones = options.maxTombstones
  }

  get tombstoneCount(): number {
    return this.#tombstones
  }

  /** How many requests wait, tombstones included. */
  get size(): number {
    return this.#entries.size
  }

  /** Keeps `request` for a job that exists here and is not running yet. */
  mark(key: JobKey, request: CancellationRequest): void {
    this.#put(key, request, this.#entries.get(key)?.isTombstone ?? false)
  }

  /** The request that stands for `key`, which stays. */
  peek(key: JobKey): CancellationRequest | undefined {
    return this.#live(key)?.request
  }

  /** The request that stands for `key`, which is thereby consumed. */
  take(key: JobKey): CancellationRequest | undefined {
    const entry = this.#live(key)
    if (entry !== undefined) this.#remove(key)
    return entry?.request
  }

  /** Keeps `request` for a job that is not known. Undefined where too many are kept already. */
  remember(key: JobKey, request: CancellationRequest): Tombstone | undefined {
    return this.#remember(key, request)
  }

  /** Keeps `request` for every job that starts with this group. Undefined where too many are kept already. */
  rememberGroup(tenant: string, group: string, request: CancellationRequest): Tombstone | undefined {
    return this.#remember(groupName(tenant, group), request)
  }

  /** What is remembered for a group; it stays, since more jobs of the group may come. */
  peekGroup(tenant: string, group: string): CancellationRequest | undefined {
    return this.#live(groupName(tenant, group))?.request
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
    this.#remove(id)
  }

  /** Forgets everything and lets go of the timer. */
  close(): void {
    this.#cancelSweep?.()
    this.#cancelSweep = undefined
    this.#entries.clear()
    this.#tombstones = 0
  }

  #remember(name: string, request: CancellationRequest): Tombstone | undefined {
    const known = this.#live(name)
    if (known === undefined && this.#tombstones >= this.#maxTombstones) this.#sweep()
    if (known === undefined && this.#tombstones >= this.#maxTombstones) return undefined
    const entry = this.#put(name, request, true)
    const remainingMs = entry.expiresAtMs - this.#clock.monotonicMs()
    return { kind: entry.request.kind, expiresAt: this.#clock.now() + remainingMs }
  }

  #put(name: string, request: CancellationRequest, isTombstone: boolean): Entry {
    const known = this.#live(name)
    const keepsKnown = known !== undefined && !(known.request.kind === 'stop' && request.kind === 'cancel')
    const entry: Entry = {
      request: keepsKnown ? known.request : request,
      expiresAtMs: this.#clock.monotonicMs() + this.#expiresAfterMs,
      isTombstone,
    }
    this.#remove(name)
    this.#entries.set(name, entry)
    if (isTombstone) this.#tombstones += 1
    this.#cancelSweep ??= this.#clock.schedule(this.#expiresAfterMs + 1, () => this.#sweep())
    return entry
  }

  #live(name: string): Entry | undefined {
    const entry = this.#entries.get(name)
    if (entry === undefined || entry.expiresAtMs > this.#clock.monotonicMs()) return entry
    this.#remove(name)
    return undefined
  }

  #remove(name: string): void {
    const entry = this.#entries.get(name)
    if (entry === undefined) return
    this.#entries.delete(name)
    if (entry.isTombstone) this.#tombstones -= 1
  }

  /** The map is in the order of expiry: every entry is put at its end, and all live equally long. */
  #sweep(): void {
    this.#cancelSweep?.()
    this.#cancelSweep = undefined
    const nowMs = this.#clock.monotonicMs()
    for (const [name, entry] of this.#entries) {
      if (entry.expiresAtMs > nowMs) {
        this.#cancelSweep = this.#clock.schedule(entry.expiresAtMs - nowMs + 1, () => this.#sweep())
        return
      }
      this.#remove(name)
    }
  }
}

function groupName(tenant: string, group: string): string {
  return `${GROUP_PREFIX}${tenant}/${group}`
}
