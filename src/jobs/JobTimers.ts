import type { Clock } from '../clock.ts'

type TimerName = 'queue' | 'run' | 'idle' | 'stop'

/** The deadlines of one job. 0 ms is none. */
export class JobTimers {
  readonly #clock: Clock
  #cancels: Partial<Record<TimerName, () => void>> | undefined
  #lastEventMs = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Arms `name` anew. */
  arm(name: TimerName, delayMs: number, onDue: () => void): void {
    this.disarm(name)
    if (delayMs === 0) return
    this.#cancels ??= {}
    this.#cancels[name] = this.#clock.schedule(delayMs, onDue)
  }

  disarm(name: TimerName): void {
    this.#cancels?.[name]?.()
    if (this.#cancels !== undefined) delete this.#cancels[name]
  }

  /** Arms the idle deadline. It is moved by looking at the time when it falls due, not by a new timer for each event. */
  armIdle(idleMs: number, onDue: () => void): void {
    if (idleMs === 0) return
    this.#lastEventMs = this.#clock.monotonicMs()
    const check = (): void => {
      const remainingMs = this.#lastEventMs + idleMs - this.#clock.monotonicMs()
      if (remainingMs <= 0) onDue()
      else this.arm('idle', Math.ceil(remainingMs), check)
    }
    this.arm('idle', idleMs, check)
  }

  /** The task published something. */
  touch(): void {
    this.#lastEventMs = this.#clock.monotonicMs()
  }

  close(): void {
    for (const cancel of Object.values(this.#cancels ?? {})) cancel()
    this.#cancels = undefined
  }
}
