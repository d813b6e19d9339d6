import { AsyncLocalStorage } from 'node:async_hooks'
import type { CancelKind, CancellationRequest, Phase } from '../job/cancellation.ts'
import type { Held } from './Held.ts'
import { JobStopped } from './JobStopped.ts'

/** The scopes whose boundaries are silent in the code that runs now. A resumed callback keeps what it was started in. */
const shielded = new AsyncLocalStorage<JobScope>()

/**
 * What one execution is and has: whether it was asked to end, its signals, what it holds, what it is doing. Cancellation goes
 * through this tree of our own, not through chained AbortSignals: a listener left on a long-lived signal is kept for ever and
 * makes every further one slower, and a set that a child leaves on settling does neither.
 */
export class JobScope {
  #stop: JobStopped | undefined
  #cancellation: JobStopped | undefined
  #wasRaised = false
  #isClosed = false
  #abortController: AbortController | undefined
  #stopController: AbortController | undefined
  #listeners: Set<(kind: CancelKind, request: CancellationRequest) => void> | undefined
  #held: Set<Held> | undefined
  readonly #releaseNow: (held: Held) => void
  #phases: Set<{ phase: Phase }> | undefined

  /** `releaseNow` is handed everything prompt: what is held when the job is cancelled, and what is taken on afterwards. */
  constructor(releaseNow: (held: Held) => void) {
    this.#releaseNow = releaseNow
  }

  /** Fires when the job is cancelled. */
  get signal(): AbortSignal {
    if (this.#abortController === undefined) {
      this.#abortController = new AbortController()
      if (this.#cancellation !== undefined) this.#abortController.abort(this.#cancellation)
    }
    return this.#abortController.signal
  }

  /** Fires when the job is stopped or cancelled, whichever comes first. */
  get stopSignal(): AbortSignal {
    if (this.#stopController === undefined) {
      this.#stopController = new AbortController()
      const reason = this.#stop ?? this.#cancellation
      if (reason !== undefined) this.#stopController.abort(reason)
    }
    return this.#stopController.signal
  }

  get isCancelled(): boolean {
    return this.#cancellation !== undefined
  }

  get isStopRequested(): boolean {
    return this.#stop !== undefined
  }

  /** Whether a boundary has raised: from then on the job ends `stopped` or `cancelled`, whatever its function makes of it. */
  get wasRaised(): boolean {
    return this.#wasRaised
  }

  /** What the job is doing, as its cancellation will say: the innermost thing that is in flight. */
  get phase(): Phase {
    let innermost: Phase = 'running'
    for (const { phase } of this.#phases ?? []) innermost = phase
    return innermost
  }

  /** Says what is in flight. Returns its end. */
  enter(phase: Phase): () => void {
    const entry = { phase }
    const phases = (this.#phases ??= new Set())
    phases.add(entry)
    return () => {
      phases.delete(entry)
    }
  }

  /** Asks for the end. A second request of a kind changes nothing. Listeners are told in the order in which they came. */
  request(request: CancellationRequest): void {
    if (request.kind === 'stop' ? this.#stop !== undefined || this.isCancelled : this.isCancelled) return
    const reason = new JobStopped(request)
    if (request.kind === 'stop') this.#stop = reason
    else this.#cancellation = reason
    if (request.kind === 'cancel') this.#releasePrompt()
    for (const listener of this.#listeners ?? []) listener(request.kind, request)
    this.#stopController?.abort(reason)
    if (request.kind === 'cancel') this.#abortController?.abort(reason)
  }

  /** Calls `listener` at each later request, not for one that was made before. Returns its undo. */
  onRequest(listener: (kind: CancelKind, request: CancellationRequest) => void): () => void {
    const listeners = (this.#listeners ??= new Set())
    listeners.add(listener)
    return () => {
      listeners.delete(listener)
    }
  }

  /** @throws {Error} where the job has ended. */
  assertOpen(): void {
    if (this.#isClosed) throw new Error('the job has ended, and this work of it was not awaited')
  }

  /**
   * A boundary. @throws {JobStopped} where the job was asked to end, each time, unless this code is shielded.
   * @throws {Error} where the job has ended: its function left work behind that it did not await.
   */
  checkpoint(): void {
    this.assertOpen()
    const reason = this.#cancellation ?? this.#stop
    if (reason === undefined || shielded.getStore() === this) return
    this.#wasRaised = true
    throw reason
  }

  /** Whether `error` is this scope's own request surfacing, directly or as the cause of another error. */
  isOwnStop(error: unknown): boolean {
    for (let current = error, depth = 0; current instanceof Error && depth < 8; current = current.cause, depth += 1) {
      if (current === this.#stop || current === this.#cancellation) return true
    }
    return false
  }

  /** Runs `work` with this scope's boundaries silent: for cleanup, which the request that caused it must not end. */
  shield<T>(work: () => T): T {
    return shielded.run(this, work)
  }

  get isShielded(): boolean {
    return shielded.getStore() === this
  }

  /**
   * Takes on something to give back. What is prompt and comes after the cancel is given back at once, except in shielded code,
   * whose cleanup may need it; after the job's end, everything is. Returns how to let go of it without releasing it.
   */
  hold(held: Held): () => void {
    if (this.#isClosed || (this.isCancelled && held.isPrompt && !this.isShielded)) {
      this.#releaseNow(held)
      return () => undefined
    }
    const all = (this.#held ??= new Set())
    all.add(held)
    return () => {
      all.delete(held)
    }
  }

  /** Hands over all that is held, the last that was taken on first. Releasing it may take on more. */
  takeAll(): Held[] {
    const all = [...(this.#held ?? [])].toReversed()
    this.#held?.clear()
    return all
  }

  /** The job has ended. `false` where it holds something still, which has to be released first. */
  close(): boolean {
    this.#isClosed = (this.#held?.size ?? 0) === 0
    return this.#isClosed
  }

  #releasePrompt(): void {
    for (const held of this.#held ?? []) {
      if (!held.isPrompt) continue
      this.#held?.delete(held)
      this.#releaseNow(held)
    }
  }
}
