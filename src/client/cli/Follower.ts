import type { CancelKind } from '../../job/cancellation.ts'
import type { JobEvent } from '../../job/event.ts'
import type { JobView } from '../../job/view.ts'
import { StreamCut, TetherApiError } from '../error.ts'
import type { JobStream } from '../JobStream.ts'
import type { StreamOptions, TetherClient } from '../TetherClient.ts'
import { persist } from '../tryAgain.ts'
import { backLine, lostLine } from './connectionLines.ts'
import { EndRequest } from './EndRequest.ts'
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
  readonly open: (options: StreamOptions) => Promise<JobStream>
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
 * while the server has not answered yet, while the connection is lost, and while stdout takes nothing. Once the user has asked for
 * the job's end, a stream that is cut is not taken up again: to come back is to want the job. The answer then tells the outcome.
 */
export class Follower {
  readonly #options: Options
  /** Aborted at the end, whatever it was: closes the stream and every request still under way. */
  readonly #leaving = new AbortController()
  /** Aborted when the user asks for the job's end: no connection is made anew from then on. */
  readonly #asking = new AbortController()
  readonly #opened = Promise.withResolvers<void>()
  readonly #ended = Promise.withResolvers<Ending>()
  #signalCount = 0
  #settleMs = DEFAULT_SETTLE_MS
  #stopDeadlineMs = DEFAULT_STOP_DEADLINE_MS
  #asked: EndRequest | undefined
  /** What the user's request has come to; see `EndRequest.send`. */
  readonly #answered = Promise.withResolvers<JobView | undefined>()
  #deadline: NodeJS.Timeout | undefined

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
    const { client, jobId } = this.#options
    try {
      const outcome = await this.#readStream()
      // Where there was nothing to read any more: the job had ended and its outcome was seen before.
      return outcome ?? (await this.#concludedAs(await client.job(jobId, { signal: this.#leaving.signal })))
    } catch (error) {
      if (!(error instanceof StreamCut) || this.#asked === undefined) throw error
      return await this.#readAnswer(this.#asked)
    }
  }

  async #readStream(): Promise<Ending | undefined> {
    const { screen, open } = this.#options
    using stream = await open({
      signal: this.#leaving.signal,
      reconnect: {
        signal: this.#asking.signal,
        onLost: (loss) => screen.line(lostLine(loss)),
        onBack: (recovery) => screen.line(backLine(recovery)),
      },
    })
    this.#opened.resolve()
    for await (const event of stream) {
      this.#learnPolicy(event)
      await screen.show(event)
      const outcome = outcomeIn(event)
      if (outcome !== undefined) return this.#concluded(outcome)
    }
    return undefined
  }

  async #readAnswer(request: EndRequest): Promise<Ending> {
    const { screen, jobId } = this.#options
    request.noteStreamLost()
    if (request.job === undefined) {
      screen.line(`connection lost: job ${jobId}; waiting for the answer to the ${request.kind}`)
    }
    const job = await this.#answered.promise
    if (job !== undefined) return await this.#concludedAs(job)
    screen.line(`the server does not know job ${jobId}; should its start still arrive, it ends at once`)
    return { exitCode: EXIT.left, left: false }
  }

  /** The event that bears the result did not come. */
  async #concludedAs(job: JobView): Promise<Ending> {
    const { screen } = this.#options
    if (screen.mode === 'quiet' && job.result !== undefined) await screen.value(job.result)
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
    void this.#end(firstSignal, REASONS[signal])
    screen.line(`${firstSignal === 'cancel' ? 'cancelling' : 'stopping'} job ${jobId} (again: leave at once)`)
  }

  /** Never rejects. */
  async #end(kind: CancelKind, reason: string): Promise<void> {
    const { client, screen, jobId } = this.#options
    const { signal } = this.#leaving
    const request = new EndRequest({ client, jobId, kind, reason, waitSeconds: () => this.#waitSeconds(kind), signal })
    this.#asked = request
    this.#asking.abort()
    this.#armDeadline()
    try {
      this.#answered.resolve(await request.send())
    } catch (error) {
      if (signal.aborted) return
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
      const { signal } = this.#leaving
      await persist(() => client.changePolicy(jobId, { onDisconnect: 'continue' }, { signal }), { signal })
      screen.line(`detached: job ${jobId} runs on; "attach ${jobId}" shows it again`)
      this.#leave()
    } catch (error) {
      if (this.#leaving.signal.aborted || isFinished(error)) return
      screen.line(`cannot detach from job ${jobId}: ${messageOf(error)}; still here (again: leave, which ends the job)`)
    }
  }

  #armDeadline(): void {
    const request = this.#asked
    if (request === undefined) return
    const limitMs = this.#limitMs(request.kind)
    clearTimeout(this.#deadline)
    if (limitMs === undefined) return
    const remainingMs = Math.max(0, request.askedAtMs + limitMs - performance.now())
    this.#deadline = setTimeout(() => this.#giveUp(request, limitMs), remainingMs)
  }

  /** How long an outcome is waited for; undefined where a stop has no deadline. */
  #limitMs(kind: CancelKind): number | undefined {
    if (kind === 'cancel') return this.#settleMs + PATIENCE_MS
    return this.#stopDeadlineMs === 0 ? undefined : this.#stopDeadlineMs + this.#settleMs + PATIENCE_MS
  }

  #waitSeconds(kind: CancelKind): number {
    return Math.min(MAX_WAIT_SECONDS, Math.ceil((this.#limitMs(kind) ?? Number.POSITIVE_INFINITY) / 1000))
  }

  #giveUp({ kind, job, failure }: EndRequest, waitedMs: number): void {
    const { screen, jobId } = this.#options
    if (job !== undefined) {
      this.#ended.resolve({ ...this.#concluded(outcomeOf(job)), left: true })
      return
    }
    const within = `within ${waitedMs} ms`
    screen.line(
      failure === undefined
        ? `no outcome of job ${jobId} ${within}; left it`
        : `cannot ${kind} job ${jobId} ${within}: ${messageOf(failure)}; left it instead`,
    )
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
