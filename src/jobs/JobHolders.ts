import type { Clock } from '../clock.ts'
import type { Holder, LeaveCause } from './Holder.ts'

interface Held {
  readonly holder: Holder
  cancelLease: (() => void) | undefined
}

/** A holder that the server itself cut off, because its log could not be read, has at least this long to come back. */
const CUT_OFF_GRACE_MS = 10_000

/**
 * Who holds one job. The disconnect policy arms with the first holder; when the last one leaves, `onLastLeft` is told, after the
 * grace where there is one, unless another has come by then.
 */
export class JobHolders {
  readonly #clock: Clock
  readonly #onLastLeft: (cause: LeaveCause) => void
  readonly #onPresence: (isPresent: boolean) => void
  readonly #held = new Map<string, Held>()
  #cancelGrace: (() => void) | undefined
  #graceCause: LeaveCause = 'client_disconnected'
  #onExpectedCame: (() => void) | undefined
  /** However short the grace that is asked for, somebody who is expected back has this long. */
  #atLeastMs = 0
  /** How long the last leaving was or is put off. */
  #putOffMs = 0
  /** The last holder left by this, and nobody has come since: what the policy applies to. */
  #leftBy: LeaveCause | undefined

  /** `onPresence`: told that one has come, and that none is there and none is waited for, where that is no reason to end the job. */
  constructor(
    clock: Clock,
    onLastLeft: (cause: LeaveCause) => void,
    onPresence: (isPresent: boolean) => void = () => undefined,
  ) {
    this.#clock = clock
    this.#onLastLeft = onLastLeft
    this.#onPresence = onPresence
  }

  get count(): number {
    return this.#held.size
  }

  /** Takes `holder` on; one that has left already leaves at once, and one that was released is none any more. */
  join(holder: Holder, terms: { readonly graceMs: () => number; readonly leaseMs: number }): void {
    if (holder.isReleased) return
    this.#stopGrace()
    this.#endExpecting()
    this.#leftBy = undefined
    const leave = (cause: LeaveCause | undefined): void => this.#leave(holder, cause, terms.graceMs())
    this.#held.set(holder.id, { holder, cancelLease: this.#startLease(holder, terms.leaseMs) })
    this.#onPresence(true)
    holder.bind(leave)
    if (holder.left !== undefined) leave(holder.left)
  }

  /** `false` where there is no such holder. */
  renewLease(holderId: string, leaseMs: number): boolean {
    const held = this.#held.get(holderId)
    if (held === undefined) return false
    held.cancelLease?.()
    held.cancelLease = this.#startLease(held.holder, leaseMs)
    return true
  }

  /**
   * Waits for a holder as if the last one had just left: what a job needs that was taken up after a restart. `onCame` is called
   * when one comes, or is needed no more.
   */
  expect({ graceMs, atLeastMs }: { readonly graceMs: number; readonly atLeastMs: number }, onCame: () => void): void {
    this.#onExpectedCame = onCame
    this.#atLeastMs = atLeastMs
    this.#startGrace('client_disconnected', graceMs)
  }

  /** What a change of policy did is undone: a grace that it ended, and a leaving that came meanwhile, are made up for. */
  makeUp(graceMs: number): void {
    if (this.#leftBy === undefined || this.#held.size > 0 || this.#cancelGrace !== undefined) return
    if (graceMs > 0) this.#startGrace(this.#leftBy, graceMs)
    else this.#onLastLeft(this.#leftBy)
  }

  /** The policy has changed: a grace that is running begins anew with `graceMs`, or is given up where that is undefined. */
  changeGrace(graceMs: number | undefined): void {
    if (this.#cancelGrace === undefined) return
    this.#stopGrace()
    if (graceMs === undefined) {
      this.#endExpecting()
      this.#onPresence(false)
      return
    }
    if (Math.max(graceMs, this.#atLeastMs) > 0) this.#startGrace(this.#graceCause, graceMs)
    else this.#onLastLeft(this.#graceCause)
  }

  /** The grace turns out to be this long, now that it is over or there was none. `false` where it was no shorter. */
  prolongGrace(cause: LeaveCause, graceMs: number): boolean {
    const restMs = graceMs - this.#putOffMs
    if (restMs <= 0 || this.#held.size > 0) return false
    this.#startGrace(cause, restMs)
    this.#putOffMs = graceMs
    return true
  }

  /** The job has ended: nobody holds it any more, and nothing waits. */
  close(): void {
    this.#stopGrace()
    this.#onExpectedCame = undefined
    for (const { holder, cancelLease } of this.#held.values()) {
      cancelLease?.()
      holder.release()
    }
    this.#held.clear()
    this.#onPresence(false)
  }

  /** `cause` undefined: the server let it go, which is no reason to end the job, but it counts as a holder no more. */
  #leave({ id, isExpectedBack }: Holder, cause: LeaveCause | undefined, graceMs: number): void {
    const held = this.#held.get(id)
    if (held === undefined) return
    held.cancelLease?.()
    this.#held.delete(id)
    if (this.#held.size > 0) return
    if (isExpectedBack) {
      this.#leftBy = 'client_disconnected'
      this.#startGrace('client_disconnected', Math.max(graceMs, CUT_OFF_GRACE_MS))
      return
    }
    if (cause === undefined) {
      this.#onPresence(false)
      return
    }
    this.#leftBy = cause
    this.#putOffMs = 0
    if (graceMs > 0) this.#startGrace(cause, graceMs)
    else this.#onLastLeft(cause)
  }

  #endExpecting(): void {
    this.#atLeastMs = 0
    const onCame = this.#onExpectedCame
    this.#onExpectedCame = undefined
    onCame?.()
  }

  #startLease(holder: Holder, leaseMs: number): (() => void) | undefined {
    return leaseMs === 0 ? undefined : this.#clock.schedule(leaseMs, () => holder.leave('lease_missed'))
  }

  #startGrace(cause: LeaveCause, graceMs: number): void {
    this.#stopGrace()
    this.#graceCause = cause
    this.#putOffMs = Math.max(graceMs, this.#atLeastMs)
    this.#cancelGrace = this.#clock.schedule(this.#putOffMs, () => {
      this.#cancelGrace = undefined
      this.#onLastLeft(cause)
    })
  }

  #stopGrace(): void {
    this.#cancelGrace?.()
    this.#cancelGrace = undefined
  }
}
