import type { HeldKind, ReleaseReport } from '../cancellation/Held.ts'
import { type Containment, type Receipt, type Survivor, sumOf, type Usage } from '../job/receipt.ts'

/** Collects what was given back and when; all instants are monotonic milliseconds. */
export class ReceiptBuilder {
  requestedAtMs: number | undefined
  abortedAtMs: number | undefined
  settledAtMs: number | undefined
  readonly #containment: Containment
  readonly #released: Record<HeldKind, number> = { processes: 0, requests: 0, files: 0, children: 0, other: 0 }
  readonly #survivors: Survivor[] = []
  #killedAtMs: number | undefined
  #verifiedAtMs: number | undefined
  #isIncomplete = false
  #usage: Usage | undefined

  constructor(containment: Containment) {
    this.#containment = containment
  }

  add(kind: HeldKind, report: ReleaseReport): void {
    this.#released[kind] += report.count
    this.#survivors.push(...(report.survivors ?? []))
    this.#killedAtMs = latest(this.#killedAtMs, report.killedAtMs)
    this.#verifiedAtMs = latest(this.#verifiedAtMs, report.verifiedAtMs)
  }

  /** Something was not given back in its time, or failed at it: the receipt cannot be called confirmed. */
  addUnreleased(): void {
    this.#isIncomplete = true
  }

  addUsage(usage: Usage): void {
    this.#usage = this.#usage === undefined ? usage : sumOf(this.#usage, usage)
  }

  build(): Receipt {
    const killedAtMs = this.#killedAtMs
    return {
      confirmed: this.settledAtMs !== undefined && this.#survivors.length === 0 && !this.#isIncomplete,
      containment: { level: this.#containment.level, complete: this.#containment.complete },
      requestedToAbortedMs: between(this.requestedAtMs, this.abortedAtMs),
      abortedToKilledMs: between(this.abortedAtMs, killedAtMs),
      killedToVerifiedMs: between(killedAtMs, this.#verifiedAtMs),
      abortedToSettledMs: between(this.abortedAtMs, this.settledAtMs),
      released: { ...this.#released },
      survivors: [...this.#survivors],
      ...(this.#usage === undefined ? {} : { usage: this.#usage }),
    }
  }
}

function latest(known: number | undefined, atMs: number | null | undefined): number | undefined {
  if (atMs === null || atMs === undefined) return known
  return known === undefined ? atMs : Math.max(known, atMs)
}

/** To a thousandth of a millisecond; null where either end is missing. */
function between(fromMs: number | undefined, toMs: number | undefined): number | null {
  if (fromMs === undefined || toMs === undefined) return null
  return Math.round(Math.max(0, toMs - fromMs) * 1000) / 1000
}
