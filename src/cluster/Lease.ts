import type { Clock } from '../clock.ts'
import { StoreError } from '../store/JobStore.ts'
import type { SharedJobs } from './SharedJobs.ts'

export interface LeaseOptions {
  readonly shared: Pick<SharedJobs, 'beat'>
  readonly clock: Clock
  /** For so long the others count with this process after its last sign of life. */
  readonly leaseMs: number
  readonly onTrouble: (error: StoreError) => void
}

const BEATS_A_LEASE = 8
/** After one that failed. */
const RETRY_MS = 250

/**
 * Signs of life of this process, and what it knows of how the others see it. It takes itself for gone before they may, by its own
 * clock and from when it last asked, whatever the answer took.
 */
export class Lease {
  readonly #options: LeaseOptions
  readonly #onLost: () => void
  #heldUntilMs: number
  #isLost = false
  #cancelBeat: (() => void) | undefined
  #cancelEnd: (() => void) | undefined
  #isClosed = false

  private constructor(options: LeaseOptions, onLost: () => void, heldUntilMs: number) {
    this.#options = options
    this.#onLost = onLost
    this.#heldUntilMs = heldUntilMs
    this.#watchEnd()
    this.#schedule()
  }

  /** Settles when the others count with this process. `onLost`: they may not any more; perhaps again and again. @throws {StoreError} */
  static async take(options: LeaseOptions, onLost: () => void): Promise<Lease> {
    const { shared, clock, leaseMs } = options
    const heldUntilMs = clock.monotonicMs() + ownLeaseMs(leaseMs)
    await shared.beat(leaseMs)
    return new Lease(options, onLost, heldUntilMs)
  }

  /** How long the others count with this process if they hear nothing more of it; 0 where they may not any more. */
  get leftMs(): number {
    return this.#isLost ? 0 : Math.max(0, Math.round(this.#heldUntilMs - this.#options.clock.monotonicMs()))
  }

  close(): void {
    this.#isClosed = true
    this.#cancelBeat?.()
    this.#cancelEnd?.()
  }

  #schedule(hasFailed = false): void {
    const { clock, leaseMs } = this.#options
    const delayMs = Math.floor(leaseMs / BEATS_A_LEASE)
    this.#cancelBeat = clock.schedule(hasFailed ? Math.min(RETRY_MS, delayMs) : delayMs, () => void this.#beatAndGoOn())
  }

  async #beatAndGoOn(): Promise<void> {
    const isHeard = await this.#beat()
    if (!this.#isClosed) this.#schedule(!isHeard)
  }

  /** Settles with whether it was answered. */
  async #beat(): Promise<boolean> {
    const { shared, clock, leaseMs, onTrouble } = this.#options
    const askedMs = clock.monotonicMs()
    // A process that was stopped for long and goes on finds its own end before it asks.
    if (askedMs >= this.#heldUntilMs) this.#lose()
    try {
      const beat = await shared.beat(leaseMs)
      if (this.#isClosed) return true
      // Told each time: jobs may have been claimed since this process last took itself for gone.
      if (beat !== 'kept') this.#tellLost()
      if (beat === 'dead') return true
      this.#isLost = false
      this.#heldUntilMs = askedMs + ownLeaseMs(leaseMs)
      this.#watchEnd()
      return true
    } catch (error) {
      if (!(error instanceof StoreError)) throw error
      onTrouble(error)
      return false
    }
  }

  #watchEnd(): void {
    const { clock } = this.#options
    this.#cancelEnd?.()
    this.#cancelEnd = clock.schedule(Math.max(0, this.#heldUntilMs - clock.monotonicMs()), () => this.#lose())
  }

  #lose(): void {
    if (!this.#isLost) this.#tellLost()
  }

  #tellLost(): void {
    if (this.#isClosed) return
    this.#isLost = true
    this.#onLost()
  }
}

/** Enough is left for the jobs to end before the others may call them lost. */
function ownLeaseMs(leaseMs: number): number {
  return Math.floor((leaseMs * 3) / 4)
}
