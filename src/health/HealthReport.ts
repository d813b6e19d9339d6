import type { Containment } from '../job/receipt.ts'
import type { JobsStanding } from '../jobs/JobManager.ts'
import type { LoopDelay } from '../metrics/LoopDelay.ts'
import type { Check } from './Check.ts'
import type { SharedAnswer } from './SharedAnswer.ts'
import type { SharedProbes } from './SharedProbes.ts'

export interface Readiness {
  readonly isReady: boolean
  readonly isDraining: boolean
  readonly checks: readonly Check[]
  readonly stuck: JobsStanding['stuck']
  readonly containment: Containment
  readonly running: number
  readonly queued: number
}

export interface HealthReportOptions {
  readonly standing: () => JobsStanding
  /** How many jobs wait in the queue of all; undefined where that cannot be asked. */
  readonly shared: SharedAnswer<number | undefined>
  readonly probes: SharedProbes
  readonly loop: LoopDelay
  readonly containment: Containment
  /** What ends the processes of jobs where this one dies; undefined while there is none. */
  readonly guardianPid: () => number | undefined
  readonly maxAbandoned: number
  readonly isLogFailing: () => boolean
}

/** A loop that keeps most of those waiting for longer than this serves nobody. */
const MAX_MEDIAN_DELAY_MS = 500

/** Whether the server lives and takes jobs, by what is measured. */
export class HealthReport {
  readonly #options: HealthReportOptions

  constructor(options: HealthReportOptions) {
    this.#options = options
  }

  /** That this returns says it. */
  live(): readonly Check[] {
    return [{ name: 'process', ok: true, figures: { uptimeS: Math.floor(process.uptime()) } }, this.#loopCheck()]
  }

  /** Settles within about two seconds, and never rejects. What costs nothing is as of now, the rest at most a second old. */
  async ready(): Promise<Readiness> {
    const { probes, containment, shared, standing } = this.#options
    const [probed, waiting = 0] = await Promise.all([probes.run(), shared.get()])
    const { isDraining, stuck, running, queued } = standing()
    const checks = [
      ...probed.map((check) => this.#withLog(check)),
      this.#loopCheck(),
      this.#containmentCheck(),
      this.#stuckCheck(stuck.length),
      { name: 'draining', ok: !isDraining },
    ]
    return {
      isReady: checks.every(({ ok }) => ok),
      isDraining,
      checks,
      stuck,
      containment: { level: containment.level, complete: containment.complete },
      running,
      queued: queued + waiting,
    }
  }

  /** A store may take a probe and not what is to be written. */
  #withLog(check: Check): Check {
    if (check.name !== 'store' || !check.ok || !this.#options.isLogFailing()) return check
    return { ...check, ok: false, detail: 'the last commit failed and is being tried again' }
  }

  #loopCheck(): Check {
    const recent = this.#options.loop.recent()
    if (recent === undefined) return { name: 'event_loop', ok: true }
    const { p50Ms } = recent
    const ok = p50Ms <= MAX_MEDIAN_DELAY_MS
    const detail = ok ? {} : { detail: `half of what comes waits for ${p50Ms} ms or longer` }
    return { name: 'event_loop', ok, ...detail, figures: { ...recent } }
  }

  #containmentCheck(): Check {
    const { containment, guardianPid } = this.#options
    const ok = guardianPid() !== undefined
    return {
      name: 'containment',
      ok,
      ...(ok ? {} : { detail: 'nothing would end the processes of jobs if this one died; it is being started again' }),
      figures: { level: containment.level, complete: containment.complete },
    }
  }

  #stuckCheck(stuck: number): Check {
    const { maxAbandoned } = this.#options
    const ok = stuck <= maxAbandoned
    return {
      name: 'stuck',
      ok,
      ...(ok ? {} : { detail: `${stuck} abandoned, of which ${maxAbandoned} may be` }),
      figures: { stuck, maxAbandoned },
    }
  }
}
