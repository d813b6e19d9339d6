import { runWithToken } from '../cancellation/CancelToken.ts'
import type { Held } from '../cancellation/Held.ts'
import { JobScope } from '../cancellation/JobScope.ts'
import type { Clock } from '../clock.ts'
import type { CancellationRequest } from '../job/cancellation.ts'
import { MAX_RESULT_BYTES } from '../job/event.ts'
import { type Failure, failureOf, TaskFailure } from '../job/failure.ts'
import type { Json } from '../job/json.ts'
import type { Containment, Receipt, Usage } from '../job/receipt.ts'
import { ReceiptBuilder } from './ReceiptBuilder.ts'

/** How a function ended, as far as the execution knows; what the job ends as is decided from its status as well. */
export type ExecutionEnd =
  | { readonly kind: 'returned'; readonly result: Json }
  | { readonly kind: 'threw'; readonly failure: Failure }
  /** A boundary raised, so that whatever the function made of it does not count. */
  | { readonly kind: 'raised' }
  /** It was asked to end before its function was called. */
  | { readonly kind: 'never_called' }
  /** The function has not settled in time; `settled` is when it does, which may be never. */
  | { readonly kind: 'abandoned'; readonly settled: Promise<void> }

export interface ExecutionReport {
  readonly end: ExecutionEnd
  readonly receipt: Receipt
  /** When it was asked to end, by the monotonic clock: the cancel, where there was one. */
  readonly requestedAtMs: number | undefined
}

export interface ExecutionLimits {
  /** How long the function may take to settle after a cancel, and each disposer after that. */
  readonly settleMs: number
  /** How long processes have between TERM and the kill; never more than half of `settleMs`. */
  readonly killGraceMs: number
}

/** What an execution tells of its way out, for the log. Milliseconds are counted from the abort. */
export interface ExecutionObserver {
  onAborted(request: CancellationRequest, requestedToAbortedMs: number): void
  onReleaseFailed(kind: string, error: unknown): void
}

/** Disposers still get this long where the cancel has used up all of `settleMs`. */
const MIN_RELEASE_MS = 100

/** One run of a task's function: from the call to the moment at which all that it held is given back, or is told not to be. */
export class Execution {
  readonly scope: JobScope
  readonly #clock: Clock
  readonly #limits: ExecutionLimits
  readonly #observer: ExecutionObserver
  readonly #receipt: ReceiptBuilder
  readonly #overdue = Promise.withResolvers<'overdue'>()
  #releases: Promise<void>[] | undefined
  #cancelTimer: (() => void) | undefined
  #settleByMs: number | undefined
  #fatal: TaskFailure | undefined

  constructor(options: {
    clock: Clock
    limits: ExecutionLimits
    containment: Containment
    observer: ExecutionObserver
  }) {
    this.#clock = options.clock
    this.#limits = options.limits
    this.#observer = options.observer
    this.#receipt = new ReceiptBuilder(options.containment)
    this.scope = new JobScope((held) => {
      this.#releases ??= []
      this.#releases.push(this.#release(held, this.scope.isCancelled))
    })
  }

  /** Makes the execution fail with `failure` even where the function swallows it. */
  failWith(failure: TaskFailure): void {
    this.#fatal ??= failure
  }

  /** Counts what a call of a model used, for the receipt. */
  addUsage(usage: Usage): void {
    this.#receipt.addUsage(usage)
  }

  /** Asks for the end; a second request of a kind changes nothing. A cancel has taken effect when this returns. */
  request(request: CancellationRequest): void {
    this.#receipt.requestedAtMs ??= request.requestedAtMs
    if (request.kind === 'cancel' && this.#receipt.abortedAtMs === undefined) {
      this.#receipt.requestedAtMs = request.requestedAtMs
      const abortedAtMs = this.#clock.monotonicMs()
      this.#receipt.abortedAtMs = abortedAtMs
      this.#settleByMs = abortedAtMs + this.#limits.settleMs
      this.#cancelTimer = this.#clock.schedule(this.#limits.settleMs, () => this.#overdue.resolve('overdue'))
      this.#observer.onAborted(request, abortedAtMs - request.requestedAtMs)
    }
    this.scope.request(request)
  }

  /**
   * Calls `body` now, and settles when it has settled and what it held was released and looked for; after a cancel in
   * `settleMs` at the latest, and a little more for what has deadlines of its own. Never rejects.
   */
  async run(body: () => Promise<Json | undefined | void>): Promise<ExecutionReport> {
    const settled = runWithToken(this.scope, () => this.#call(body))
    const end = await Promise.race([settled, this.#overdue.promise])
    if (end === 'overdue') {
      await this.#drainReleases()
      return this.#report({ kind: 'abandoned', settled: this.#finishLate(settled) })
    }
    this.#receipt.settledAtMs = this.#clock.monotonicMs()
    await this.#releaseRest()
    this.#cancelTimer?.()
    return this.#report(end)
  }

  #report(end: ExecutionEnd): ExecutionReport {
    return { end, receipt: this.#receipt.build(), requestedAtMs: this.#receipt.requestedAtMs }
  }

  async #call(body: () => Promise<Json | undefined | void>): Promise<ExecutionEnd> {
    try {
      const result = (await body()) ?? null
      if (this.scope.wasRaised) return { kind: 'raised' }
      if (this.#fatal !== undefined) throw this.#fatal
      return { kind: 'returned', result: resultOf(result) }
    } catch (thrown) {
      const error = viewable(thrown)
      if (this.scope.wasRaised || this.scope.isOwnStop(error)) return { kind: 'raised' }
      return { kind: 'threw', failure: failureOf(this.#fatal ?? error) }
    }
  }

  async #finishLate(settled: Promise<ExecutionEnd>): Promise<void> {
    await settled
    await this.#releaseRest()
  }

  /** A disposer may take on more, and so may work that nobody awaits: this goes on until nothing is held. */
  async #releaseRest(): Promise<void> {
    do {
      for (const held of this.scope.takeAll()) await this.#release(held, this.scope.isCancelled)
      await this.#drainReleases()
    } while (!this.scope.close())
  }

  /** Releases may be added while these are awaited. */
  async #drainReleases(): Promise<void> {
    while (this.#releases !== undefined && this.#releases.length > 0) {
      const releases = this.#releases
      this.#releases = []
      await Promise.all(releases)
    }
  }

  async #release(held: Held, hard: boolean): Promise<void> {
    const { settleMs, killGraceMs } = this.#limits
    const remainingMs = this.#settleByMs === undefined ? settleMs : this.#settleByMs - this.#clock.monotonicMs()
    const deadlineMs = Math.max(MIN_RELEASE_MS, remainingMs)
    const graceMs = Math.min(killGraceMs, settleMs / 2, deadlineMs / 2)
    // Processes bound themselves: killed after the grace, looked for until the deadline. The timer is for what hangs.
    const timeout = Promise.withResolvers<'late'>()
    const cancelTimer = this.#clock.schedule(Math.ceil(deadlineMs + MIN_RELEASE_MS), () => timeout.resolve('late'))
    try {
      const released = this.scope.shield(() => held.release({ hard, graceMs, deadlineMs: deadlineMs - graceMs }))
      const report = await Promise.race([released, timeout.promise])
      if (report !== 'late') {
        this.#receipt.add(held.kind, report)
        return
      }
      released.catch((error: unknown) => this.#observer.onReleaseFailed(held.kind, error))
      this.#receipt.addUnreleased()
      this.#observer.onReleaseFailed(held.kind, new Error(`not released within ${Math.ceil(deadlineMs)} ms`))
    } catch (error) {
      this.#receipt.addUnreleased()
      this.#observer.onReleaseFailed(held.kind, error)
    } finally {
      cancelTimer()
    }
  }
}

/** A copy as JSON, so that the log, the record and a parent have the same, whatever becomes of the object that was returned. */
function resultOf(result: Json): Json {
  let text: string | undefined
  try {
    text = JSON.stringify(result)
  } catch (error) {
    throw new TaskFailure('TETHER_RESULT_INVALID', 'the result cannot be written as JSON', { cause: error })
  }
  if (text === undefined) throw new TaskFailure('TETHER_RESULT_INVALID', `the result is a ${typeof result}, not JSON`)
  const bytes = Buffer.byteLength(text)
  if (bytes > MAX_RESULT_BYTES) {
    throw new TaskFailure(
      'TETHER_RESULT_TOO_LARGE',
      `a result may have ${MAX_RESULT_BYTES} bytes, this one has ${bytes}`,
    )
  }
  return JSON.parse(text)
}

/** Anything can be thrown, also a proxy that throws when it is looked at. */
function viewable(thrown: unknown): unknown {
  try {
    void (thrown instanceof Error)
    return thrown
  } catch {
    return new Error('a value that cannot be looked at was thrown')
  }
}
