import type { Clock } from '../../clock.ts'
import type { ResponseKind, Sent } from '../ServerFigures.ts'
import type { LiveResponse, SweepLimits } from './LiveResponse.ts'

/** A silent response is written to after three quarters of `heartbeatMs`: sweeps are this much rarer than the limit is long. */
const SWEEPS_PER_HEARTBEAT = 8
const SWEEPS_PER_STALL = 4
const MIN_SWEEP_MS = 5

/** Writing to ten thousand sockets takes long enough to be felt by all others, so a sweep pauses after this many. */
const SWEPT_AT_ONCE = 500

/** Every response that is open, and the one timer that looks after them. It runs while there are any. */
export class OpenResponses {
  readonly #clock: Clock
  readonly #sweepMs: number
  readonly #limits: SweepLimits
  readonly #open = new Set<LiveResponse>()
  /** By those that are over. */
  readonly #sent = ofEachKind((): Sent => ({ bytes: 0, events: 0 }))
  #cancelSweep: (() => void) | undefined
  #onEmpty: (() => void) | undefined
  #onOpened: (() => void) | undefined

  constructor(clock: Clock, options: { readonly heartbeatMs: number; readonly stallMs: number }) {
    this.#clock = clock
    this.#sweepMs = Math.max(
      MIN_SWEEP_MS,
      Math.floor(Math.min(options.heartbeatMs / SWEEPS_PER_HEARTBEAT, options.stallMs / SWEEPS_PER_STALL)),
    )
    this.#limits = {
      // One sweep may come right after a write and the last may come late: two fewer than fit.
      silentSweeps: Math.max(1, Math.floor(options.heartbeatMs / this.#sweepMs) - 2),
      stalledSweeps: Math.max(1, Math.ceil(options.stallMs / this.#sweepMs)),
    }
  }

  get size(): number {
    return this.#open.size
  }

  [Symbol.iterator](): SetIterator<LiveResponse> {
    return this.#open.values()
  }

  /** Calls `run` each time that a response opens. For one caller: a later one takes its place. */
  whenOpened(run: () => void): void {
    this.#onOpened = run
  }

  add(response: LiveResponse): void {
    this.#open.add(response)
    this.#onOpened?.()
    this.#cancelSweep ??= this.#clock.schedule(this.#sweepMs, () => this.#sweep(this.#open.values()))
  }

  /** How many of each kind are open, and what all of them since the start were sent. */
  figures(): { readonly open: Record<ResponseKind, number>; readonly sent: Record<ResponseKind, Sent> } {
    const open = ofEachKind(() => 0)
    const sent = { ...this.#sent }
    for (const response of this.#open) {
      open[response.kind] += 1
      sent[response.kind] = sumOf(sent[response.kind], response.sent)
    }
    return { open, sent }
  }

  remove(response: LiveResponse): void {
    const { kind } = response
    if (this.#open.delete(response)) this.#sent[kind] = sumOf(this.#sent[kind], response.sent)
    if (this.#open.size > 0) return
    this.#cancelSweep?.()
    this.#cancelSweep = undefined
    this.#onEmpty?.()
  }

  /** Ends all of them, because the server goes away. Settles when they are closed; what is not within `graceMs` is destroyed. */
  async shutDown(graceMs: number): Promise<void> {
    for (const response of this.#open) response.shutDown()
    if (this.#open.size === 0) return
    const empty = Promise.withResolvers<void>()
    this.#onEmpty = empty.resolve
    const cancelGrace = this.#clock.schedule(graceMs, () => {
      for (const response of this.#open) response.destroy()
    })
    await empty.promise
    cancelGrace()
  }

  /** A set's iterator sees what is added and removed meanwhile, so a sweep can be taken up where it paused. */
  #sweep(rest: SetIterator<LiveResponse>): void {
    let swept = 0
    for (let next = rest.next(); next.done !== true; next = rest.next()) {
      next.value.sweep(this.#limits)
      swept += 1
      if (swept === SWEPT_AT_ONCE) break
    }
    this.#cancelSweep = undefined
    if (this.#open.size === 0) return
    const isDone = swept < SWEPT_AT_ONCE
    this.#cancelSweep = isDone
      ? this.#clock.schedule(this.#sweepMs, () => this.#sweep(this.#open.values()))
      : this.#clock.schedule(0, () => this.#sweep(rest))
  }
}

function sumOf(a: Sent, b: Sent): Sent {
  return { bytes: a.bytes + b.bytes, events: a.events + b.events }
}

function ofEachKind<T>(make: () => T): Record<ResponseKind, T> {
  return { job: make(), all_jobs: make(), outcome: make() }
}
