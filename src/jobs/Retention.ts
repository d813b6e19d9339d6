import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import { type JobRef, keyOf } from '../job/key.ts'
import type { JobStore } from '../store/JobStore.ts'
import type { Workspaces } from './Workspaces.ts'

export interface RetentionOptions {
  readonly clock: Clock
  readonly logger: Logger
  readonly store: JobStore
  readonly workspaces: Workspaces
  /** How long a finished job is kept; 0: until it is deleted. */
  readonly retainJobsMs: number
  /** Forgets a finished job, its log and its files. Settles with whether the store took it. */
  readonly forget: (ref: JobRef) => Promise<boolean>
}

/** A sweep comes this often, and for jobs that are kept only for minutes more often. */
const MAX_INTERVAL_MS = 60_000
const MIN_INTERVAL_MS = 500
const INTERVALS_PER_RETENTION = 20

/** So many are forgotten at once, in one commit or two: the loop stays free between them. */
const PAGE = 50

/**
 * Forgets finished jobs whose time is over, from the start of the server on; and once, at the start, the files of jobs that are
 * not known any more: a process that dies while it forgets a job leaves them.
 */
export class Retention {
  readonly #options: RetentionOptions
  #cancelTimer: (() => void) | undefined
  #sweeping: Promise<void> | undefined
  #isStopped = false

  constructor(options: RetentionOptions) {
    this.#options = options
  }

  start(): void {
    this.#run(() => this.#removeOrphans())
  }

  /** Settles when nothing is being forgotten any more. */
  async stop(): Promise<void> {
    this.#isStopped = true
    this.#cancelTimer?.()
    await this.#sweeping
  }

  #run(sweep: () => Promise<void>): void {
    this.#sweeping = sweep()
      .catch((err: unknown) => this.#options.logger.error({ err }, 'what was kept long enough could not be forgotten'))
      .finally(() => this.#schedule())
  }

  #schedule(): void {
    this.#sweeping = undefined
    const { clock, retainJobsMs } = this.#options
    if (this.#isStopped || retainJobsMs === 0) return
    const intervalMs = Math.max(MIN_INTERVAL_MS, Math.min(retainJobsMs / INTERVALS_PER_RETENTION, MAX_INTERVAL_MS))
    this.#cancelTimer = clock.schedule(Math.ceil(intervalMs), () => this.#run(() => this.#forgetOld()))
  }

  async #forgetOld(): Promise<void> {
    const { clock, logger, store, retainJobsMs, forget } = this.#options
    let count = 0
    while (!this.#isStopped) {
      const refs = await store.listEndedBefore(clock.now() - retainJobsMs, PAGE)
      const forgotten = await Promise.all(refs.map(forget))
      count += forgotten.filter(Boolean).length
      // One that could not be forgotten would be listed again and again.
      if (refs.length < PAGE || !forgotten.every(Boolean)) break
      await nextTurn()
    }
    if (count > 0) logger.info({ count }, 'forgot finished jobs that were kept long enough')
  }

  async #removeOrphans(): Promise<void> {
    const { logger, store, workspaces } = this.#options
    let count = 0
    for (const ref of await workspaces.owners()) {
      if (this.#isStopped) break
      const { kind } = await store.lookup(ref)
      if (kind !== 'found') {
        await workspaces.remove(keyOf(ref))
        count += 1
      }
      await nextTurn()
    }
    if (count > 0) logger.info({ count }, 'removed the files of jobs that are not known any more')
  }
}
