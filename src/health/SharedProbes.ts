import type { Clock } from '../clock.ts'
import { messageOf } from '../job/messageOf.ts'
import { waitAtMost } from '../waiting.ts'
import type { Check, Finding, Probe } from './Check.ts'
import { SharedAnswer } from './SharedAnswer.ts'

/** What has not answered by then is down, as far as anybody can tell. */
const PATIENCE_MS = 2000

/** Probes, run for whoever asks, at most once a second, and never a second time while the first has not answered. */
export class SharedProbes {
  readonly #clock: Clock
  readonly #pending = new Map<Probe, Promise<Finding>>()
  readonly #checks: SharedAnswer<readonly Check[]>

  constructor(clock: Clock, probes: readonly Probe[]) {
    this.#clock = clock
    this.#checks = new SharedAnswer(clock, () => Promise.all(probes.map((probe) => this.#check(probe))))
  }

  /** Settles within about two seconds, and never rejects. */
  run(): Promise<readonly Check[]> {
    return this.#checks.get()
  }

  async #check(probe: Probe): Promise<Check> {
    const begun = this.#begin(probe)
    const isInTime = await waitAtMost(begun, PATIENCE_MS, this.#clock)
    const finding = isInTime ? await begun : { ok: false, detail: `no answer for ${PATIENCE_MS} ms` }
    return { name: probe.name, ...finding }
  }

  #begin(probe: Probe): Promise<Finding> {
    const known = this.#pending.get(probe)
    if (known !== undefined) return known
    const begun = this.#measure(probe)
    this.#pending.set(probe, begun)
    void begun.then(() => this.#pending.delete(probe))
    return begun
  }

  async #measure(probe: Probe): Promise<Finding> {
    const beganMs = this.#clock.monotonicMs()
    try {
      const { figures, ...finding } = await probe.run()
      const tookMs = Math.round((this.#clock.monotonicMs() - beganMs) * 100) / 100
      return { ...finding, figures: { tookMs, ...figures } }
    } catch (error) {
      return { ok: false, detail: messageOf(error) }
    }
  }
}
