import type { Clock } from '../clock.ts'
import type { ChangeSource, EventLog, QueuedChange } from '../eventlog/EventLog.ts'
import { type ErrorCode, TetherError } from '../job/error.ts'
import type { JobRef } from '../job/key.ts'
import type { JobRequest, RequestOutcome } from '../job/request.ts'
import type { Logger } from '../logger.ts'
import { type RequestOfJob, StoreError } from '../store/JobStore.ts'
import { waitAtMost } from '../waiting.ts'

export interface RequestTrailOptions {
  readonly clock: Clock
  readonly logger: Logger
  readonly eventLog: EventLog
}

/** What was asked, before it is known what became of it. */
export type Asked = Pick<JobRequest, 'kind' | 'by' | 'reason' | 'change'>

/** One transaction has so many: a request that comes just then waits for it, about 1 ms. */
const WRITTEN_AT_ONCE = 64

/** They wait for each other so long: without that, of requests that follow each other each would wait for the note before it. */
const GATHER_MS = 5

/** So many may wait for a store that is away; those beyond stand in the server's log alone. */
const MAX_UNWRITTEN = 10_000

/** How long whoever reads them waits for those that this process has not written yet, ms. */
const READ_PATIENCE_MS = 1000

/**
 * Notes who asked what of jobs, refusals too. Nothing waits for a note: it is made when it is known what became of the request, and
 * written a little later, behind what the request itself changed.
 */
export class RequestTrail implements ChangeSource {
  readonly #clock: Clock
  readonly #logger: Logger
  readonly #eventLog: EventLog
  #waiting: RequestOfJob[] = []
  #unwritten = 0
  #cancelTimer: (() => void) | undefined

  constructor({ clock, logger, eventLog }: RequestTrailOptions) {
    this.#clock = clock
    this.#logger = logger
    this.#eventLog = eventLog
  }

  /**
   * Runs what was asked and notes what became of it: what `outcomeOf` says of the answer, the code of the error where it throws,
   * or what `run` itself says before that.
   */
  async record<T>(
    ref: JobRef,
    asked: Asked,
    run: (note: (outcome: RequestOutcome) => void) => Promise<T>,
    outcomeOf: (answer: T) => RequestOutcome,
  ): Promise<T> {
    const at = this.#clock.now()
    let isNoted = false
    const note = (outcome: RequestOutcome): void => {
      if (isNoted) return
      isNoted = true
      this.note(ref, { ...asked, at, outcome })
    }
    try {
      const answer = await run(note)
      note(outcomeOf(answer))
      return answer
    } catch (error) {
      note(codeOf(error))
      throw error
    }
  }

  note(ref: JobRef, request: JobRequest): void {
    if (this.#unwritten >= MAX_UNWRITTEN) {
      this.#logger.error({ jobId: ref.id, ...request }, 'a request is not noted, since too many wait for the store')
      return
    }
    this.#unwritten += 1
    this.#waiting.push({ ref, request })
    this.#cancelTimer ??= this.#clock.schedule(GATHER_MS, () => this.#write())
  }

  #write(): void {
    this.#cancelTimer?.()
    this.#cancelTimer = undefined
    this.#eventLog.mark(this)
  }

  takeOutputs(): QueuedChange | undefined {
    if (this.#waiting.length === 0) return undefined
    const requests = this.#waiting.slice(0, WRITTEN_AT_ONCE)
    this.#waiting = this.#waiting.slice(WRITTEN_AT_ONCE)
    return {
      change: { kind: 'requests', requests },
      settle: (isWritten) => {
        this.#unwritten -= requests.length
        if (!isWritten) this.#logger.error({ count: requests.length }, 'what was asked of jobs could not be noted')
        if (this.#waiting.length > 0) this.#eventLog.mark(this)
      },
    }
  }

  /** Settles when everything that was noted before is written, or the store takes too long for that. */
  async written(patienceMs = READ_PATIENCE_MS): Promise<void> {
    if (this.#unwritten === 0) return
    this.#write()
    await waitAtMost(this.#flush(), patienceMs, this.#clock)
  }

  async #flush(): Promise<void> {
    for (let left = this.#unwritten; left > 0; left -= WRITTEN_AT_ONCE) await this.#eventLog.flush()
  }
}

function codeOf(error: unknown): ErrorCode {
  if (error instanceof TetherError) return error.code
  return error instanceof StoreError ? 'TETHER_STORE_UNAVAILABLE' : 'TETHER_INTERNAL'
}
