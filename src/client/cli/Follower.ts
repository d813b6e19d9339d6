import type { CancelKind } from '../../job/cancellation.ts'
import type { JobEvent } from '../../job/event.ts'
import { StreamCut, TetherApiError } from '../error.ts'
import type { JobStream } from '../JobStream.ts'
import type { TetherClient } from '../TetherClient.ts'
import { EXIT, type ExitCode, exitCodeOfOutcome } from './exit.ts'
import type { OnInterrupt } from './invocation.ts'
import { type Outcome, outcomeIn, outcomeLine, outcomeOf } from './outcome.ts'
import type { Screen } from './Screen.ts'
import type { EndingSignal, Signals } from './Signals.ts'
import { plainLine } from './TerminalFilter.ts'

/** How a following ended. `left`: without an outcome, so nothing that is still unwritten is waited for. */
export interface Ending {
  readonly exitCode: ExitCode
  readonly left: boolean
}

/** What the first signal does; an observer that was told nothing else just leaves. */
export type FirstSignal = OnInterrupt | 'leave'

interface Options {
  readonly client: TetherClient
  readonly screen: Screen
  readonly signals: Signals
  readonly jobId: string
  readonly firstSignal: FirstSignal
  readonly open: (signal: AbortSignal) => Promise<JobStream>
}

/** After a cancel's own time, so long for the answer to come through (protocol, section 7). */
const PATIENCE_MS = 3000
/** The server's defaults, until `job.queued` says what is in force (protocol, section 3). */
const DEFAULT_SETTLE_MS = 2000
const DEFAULT_STOP_DEADLINE_MS = 120_000
const MAX_WAIT_SECONDS = 60

const REASONS = { SIGINT: 'Ctrl+C at the client', SIGTERM: 'SIGTERM at the client' } as const satisfies Record<
  EndingSignal,
  string
>

/**
 * One job shown until its outcome, or until the user leaves. Reading and signals go on side by side: a signal is acted on also
 * while the server has not answered yet and while stdout takes nothing.
 */
export class Follower {
  readonly #options: Options
  /** Aborted at the end, whatever it was: closes the stream and every request still under way. */
  readonly #leaving = new AbortController()
  readonly #opened = Promise.withResolvers<void>()
  readonly #ended = Promise.withResolvers<Ending>()
  #signalCount = 0
  #settleMs = DEFAULT_SETTLE_MS
  #stopDeadlineMs = DEFAULT_STOP_DEADLINE_MS
  /** What the user asked for and when (`performance.now()`), so that the wait for the outcome has an end. */
  #asked: { readonly kind: CancelKind; readonly atMs: number } | undefined
  #deadline: NodeJS.Timeout | undefined
  /** The outcome as the answer to the cancel told it, which may come before the stream has got there. */
  #answered: Outcome | undefined

  constructor(options: Options) {
    this.#options = options
  }

  /** To be called once. Rejects with what opening or reading the stream rejects with. */
  async follow(): Promise<Ending> {
    const unsubscribe = this.#options.signals.subscribe((signal) => this.#take(signal))
    this.#read().then(this.#ended.resolve, this.#ended.reject)
    try {
      return await this.#ended.promise
    } finally {
      unsubscribe()
      clearTimeout(this.#deadline)
      this.#leaving.abort()
    }
  }

  async #read(): Promise<Ending> {
    const { screen, open } = this.#options
    try {
      using stream = await open(this.#leaving.signal)
      this.#opened.resolve()
      for await (const event of stream) {
        this.#learnPolicy(event)
        await screen.show(event)
        const outcome = outcomeIn(event)
        if (outcome !== undefined) return this.#concluded(outcome)
      }
    } catch (error) {
      if (error instanceof StreamCut && this.#answered !== undefined) return this.#concluded(this.#answered)
      throw error
    }
    // Only where there was nothing to read any more: the job had ended and its outcome was seen before.
    const job = await this.#options.client.job(this.#options.jobId, { signal: this.#leaving.signal })
    return this.#concluded(outcomeOf(job))
  }

  #concluded(outcome: Outcome | undefined): Ending {
    if (outcome === undefined) return { exitCode: EXIT.failed, left: false }
    if (outcome.status !== 'succeeded') this.#options.screen.line(outcomeLine(outcome))
    return { exitCode: exitCodeOfOutcome(outcome.status), left: false }
  }

  #learnPolicy(event: JobEvent): void {
    if (event.type !== 'job.queued') return
    this.#settleMs = event.job.policy.settleMs
    this.#stopDeadlineMs = event.job.policy.stopDeadlineMs
    this.#armDeadline()
  }

  #take(signal: EndingSignal): void {
    const { firstSignal, screen, jobId } = this.#options
    this.#signalCount += 1
    if (this.#signalCount > 1 || firstSignal === 'leave') {
      screen.line(`left job ${jobId}`)
      this.#leave()
      return
    }
    if (firstSignal === 'detach') {
      void this.#detach()
      return
    }
    this.#asked = { kind: firstSignal, atMs: performance.now() }
    this.#armDeadline()
    void this.#end(firstSignal, REASONS[signal])
    screen.line(`${firstSignal === 'cancel' ? 'cancelling' : 'stopping'} job ${jobId} (again: leave at once)`)
  }

  /** `remember`: the start may still be on its way, and the cancel must win also where it comes first. Never rejects. */
  async #end(kind: CancelKind, reason: string): Promise<void> {
    const { client, screen, jobId } = this.#options
    const limitMs = this.#limitMs(kind)
    const waitSeconds = limitMs === undefined ? MAX_WAIT_SECONDS : Math.min(MAX_WAIT_SECONDS, Math.ceil(limitMs / 1000))
    try {
      const answer = await client[kind](jobId, {
        reason,
        ifUnknown: 'remember',
        waitSeconds,
        signal: this.#leaving.signal,
      })
      if (answer.kind === 'ended') this.#answered = outcomeOf(answer.job)
    } catch (error) {
      if (this.#leaving.signal.aborted || isFinished(error)) return
      // Leaving is the other way to tell the server that nobody wants the job.
      screen.line(`cannot ${kind} job ${jobId}: ${messageOf(error)}; left it instead`)
      this.#leave()
    }
  }

  /** Never rejects. */
  async #detach(): Promise<void> {
    const { client, screen, jobId } = this.#options
    try {
      // Before the head there may be no job yet whose policy could be changed.
      await this.#opened.promise
      await client.changePolicy(jobId, { onDisconnect: 'continue' }, { signal: this.#leaving.signal })
      screen.line(`detached: job ${jobId} runs on; "attach ${jobId}" shows it again`)
      this.#leave()
    } catch (error) {
      if (this.#leaving.signal.aborted || isFinished(error)) return
      screen.line(`cannot detach from job ${jobId}: ${messageOf(error)}; still here (again: leave, which ends the job)`)
    }
  }

  #armDeadline(): void {
    if (this.#asked === undefined) return
    const limitMs = this.#limitMs(this.#asked.kind)
    clearTimeout(this.#deadline)
    if (limitMs === undefined) return
    const remainingMs = Math.max(0, this.#asked.atMs + limitMs - performance.now())
    this.#deadline = setTimeout(() => this.#giveUp(limitMs), remainingMs)
  }

  /** How long an outcome is waited for; undefined where a stop has no deadline. */
  #limitMs(kind: CancelKind): number | undefined {
    if (kind === 'cancel') return this.#settleMs + PATIENCE_MS
    return this.#stopDeadlineMs === 0 ? undefined : this.#stopDeadlineMs + this.#settleMs + PATIENCE_MS
  }

  #giveUp(waitedMs: number): void {
    if (this.#answered !== undefined) {
      this.#ended.resolve({ ...this.#concluded(this.#answered), left: true })
      return
    }
    this.#options.screen.line(`no outcome of job ${this.#options.jobId} within ${waitedMs} ms; left it`)
    this.#leave()
  }

  #leave(): void {
    this.#ended.resolve({ exitCode: EXIT.left, left: true })
  }
}

/** Then its terminal event is on the way, or has come. */
function isFinished(error: unknown): boolean {
  return error instanceof TetherApiError && error.code === 'TETHER_JOB_FINISHED'
}

function messageOf(error: unknown): string {
  return plainLine(error instanceof Error ? error.message : String(error))
}
