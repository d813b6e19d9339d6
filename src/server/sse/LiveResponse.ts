import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { ClosesWithPresence, Presence } from '../Presence.ts'
import type { ServerCounters } from '../ServerCounters.ts'
import type { ResponseKind, Sent } from '../ServerFigures.ts'
import { bytesTakenOf } from './kernelProgress.ts'

/** How many sweeps in a row a response may be silent, or the kernel may take nothing of it. */
export interface SweepLimits {
  readonly silentSweeps: number
  readonly stalledSweeps: number
}

/**
 * A response whose head is out and whose end is open: it is kept alive while it is silent, and destroyed when the other side
 * takes nothing. Both are counted in sweeps of one timer for all responses (see `OpenResponses`), not in time: a loop that was
 * held up for a minute has not seen a client stall for a minute.
 */
export abstract class LiveResponse implements ClosesWithPresence {
  protected readonly raw: ServerResponse
  protected readonly presence: Presence
  protected readonly counters: ServerCounters
  protected isOver = false
  #silentSweeps = 0
  #stalledSweeps = 0
  #bytesTaken = 0
  #sentBytes = 0
  /** Where it goes out, also when that is over, and what the kernel had taken of it before: connections are used again. */
  #sentOn: { readonly socket: Socket; readonly bytesBefore: number } | undefined

  constructor(presence: Presence, counters: ServerCounters) {
    this.presence = presence
    this.raw = presence.raw
    this.counters = counters
  }

  /** What is written when nothing else was for long. */
  protected abstract readonly heartbeat: string

  abstract readonly kind: ResponseKind

  /** How many events were written to it. */
  protected abstract readonly sentEvents: number

  /** The connection is over, for whatever reason. */
  abstract onClosed(): void

  /** The server is going away: the response ends now, as well as it can. */
  abstract shutDown(): void

  /** The connection that it goes out on; null once that is over. */
  get socket(): Socket | null {
    return this.raw.socket
  }

  /** Counted where it is asked for, so that nothing is counted at each write. */
  get sent(): Sent {
    const on = this.#sentOn
    // While a socket is being destroyed it does not say what was taken of the write under way, and a counter never goes back.
    if (on !== undefined) this.#sentBytes = Math.max(this.#sentBytes, bytesTakenOf(on.socket) - on.bytesBefore)
    return { bytes: this.#sentBytes, events: this.sentEvents }
  }

  destroy(): void {
    this.raw.destroy()
  }

  /** Said before the head goes out. */
  protected noteBegin(): void {
    const { socket } = this.raw
    if (socket !== null) this.#sentOn = { socket, bytesBefore: bytesTakenOf(socket) }
  }

  /** Said by whoever writes. */
  protected noteWrite(): void {
    this.#silentSweeps = 0
  }

  sweep(limits: SweepLimits): void {
    this.#stalledSweeps = this.#isTaken() ? 0 : this.#stalledSweeps + 1
    if (this.#stalledSweeps >= limits.stalledSweeps) {
      this.#dropStalled()
      return
    }
    this.#silentSweeps += 1
    if (this.#silentSweeps < limits.silentSweeps || this.isOver || this.raw.writableNeedDrain) return
    this.raw.write(this.heartbeat)
    this.noteWrite()
  }

  /** Whether nothing waits for the kernel, or it took some of it since the last sweep. */
  #isTaken(): boolean {
    const { socket } = this.raw
    if (socket === null || this.raw.writableLength === 0) return true
    const bytesTaken = bytesTakenOf(socket)
    const isTaken = bytesTaken !== this.#bytesTaken
    this.#bytesTaken = bytesTaken
    return isTaken
  }

  #dropStalled(): void {
    this.counters.stalledStreams += 1
    this.presence.holder?.leave('slow_consumer')
    this.raw.destroy()
  }
}
