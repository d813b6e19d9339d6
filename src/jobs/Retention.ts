import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Clock } from '../clock.ts'
import { type JobRef, keyOf } from '../job/key.ts'
import type { Logger } from '../logger.ts'
import type { JobStore } from '../store/JobStore.ts'
import type { Workspaces } from './Workspaces.ts'

export interface RetentionOptions {
  readonly clock: Clock
  readonly logger: Logger
  readonly store: JobStore
  readonly workspaces: Workspaces
  /** How long a finished job is kept; 0: until it is deleted. */
  readonly retainJobsMs: number
  /** Other processes forget jobs too, whose files are here. */
  readonly isShared?: boolean
  /** Forgets a job that ended before `endedBefore` (wall time, ms), its log and its files. Settles with whether the store took it. */
  readonly forget: (ref: JobRef, endedBefore: number) => Promise<boolean>
}

/** A sweep comes this often, and for jobs that are kept only for minutes more often. */
const MAX_INTERVAL_MS = 60_000
const MIN_INTERVAL_MS = 500
const INTERVALS_PER_RETENTION = 20

/** So many are forgotten at once, in one commit or two: the loop stays free between them. */
const PAGE = 50

/** What others forgot, on a machine with many files: each folder is asked for. */
const ORPHANS_INTERVAL_MS = 5 * 60_000
const ASKED_AT_ONCE = 256

/**
 * Forgets finished jobs whose time is over, from the start of the server on; and once, at the start, the files of jobs that are
 * not known any more: a process that dies while it forgets a job leaves them.
 *
 * Where jobs are shared they are looked for again and again: whichever process forgets a job, its files are where it ran. There
 * what is kept of jobs may be lost by itself, and come back from a copy. So files of a job that was not deleted, but is just not
 * known, stay as long as those of a job are kept.
 */
export class Retention {
  readonly #options: RetentionOptions
  #lookedForOrphansMs = 0
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
    const { clock, retainJobsMs, isShared = false } = this.#options
    if (this.#isStopped || (retainJobsMs === 0 && !isShared)) return
    const wantedMs = retainJobsMs === 0 ? MAX_INTERVAL_MS : retainJobsMs / INTERVALS_PER_RETENTION
    const intervalMs = Math.max(MIN_INTERVAL_MS, Math.min(wantedMs, MAX_INTERVAL_MS))
    this.#cancelTimer = clock.schedule(Math.ceil(intervalMs), () => this.#run(() => this.#sweep()))
  }

  async #sweep(): Promise<void> {
    const { clock, retainJobsMs, isShared = false } = this.#options
    if (retainJobsMs > 0) await this.#forgetOld()
    if (isShared && clock.monotonicMs() - this.#lookedForOrphansMs >= ORPHANS_INTERVAL_MS) await this.#removeOrphans()
  }

  async #forgetOld(): Promise<void> {
    const { clock, logger, store, retainJobsMs, forget } = this.#options
    let count = 0
    while (!this.#isStopped) {
      const endedBefore = clock.now() - retainJobsMs
      const refs = await store.listEndedBefore(endedBefore, PAGE)
      const forgotten = await Promise.all(refs.map((ref) => forget(ref, endedBefore)))
      count += forgotten.filter(Boolean).length
      // One that could not be forgotten would be listed again and again.
      if (refs.length < PAGE || !forgotten.every(Boolean)) break
      await nextTurn()
    }
    if (count > 0) logger.info({ count }, 'forgot finished jobs that were kept long enough')
  }

  async #removeOrphans(): Promise<void> {
    const { clock, logger, store, workspaces } = this.#options
    this.#lookedForOrphansMs = clock.monotonicMs()
    const owners = await workspaces.owners()
    let count = 0
    for (let start = 0; start < owners.length && !this.#isStopped; start += ASKED_AT_ONCE) {
      const asked = owners.slice(start, start + ASKED_AT_ONCE)
      const kinds = await store.lookupKinds(asked)
      for (const [index, ref] of asked.entries()) {
        const kind = kinds[index]
        if (kind === 'found' || (kind === 'unknown' && !(await this.#isOld(ref)))) continue
        if (this.#isStopped) break
        await workspaces.remove(keyOf(ref))
        count += 1
        await nextTurn()
      }
      await nextTurn()
    }
    if (count > 0) logger.info({ count }, 'removed the files of jobs that are not known any more')
  }

  /** Whether files of a job that is not known have been kept long enough. */
  async #isOld(ref: JobRef): Promise<boolean> {
    const { clock, workspaces, retainJobsMs, isShared = false } = this.#options
    if (!isShared) return true
    const changedAt = await workspaces.changedAt(keyOf(ref))
    return retainJobsMs > 0 && changedAt !== undefined && clock.now() - changedAt > retainJobsMs
  }
}
