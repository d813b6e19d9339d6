import type { CancelKind } from '../../job/cancellation.ts'
import type { JobEvent } from '../../job/event.ts'
import type { JobView } from '../../job/view.ts'
import type { StreamOptions } from '../BaseClient.ts'
import { StreamCut, TetherApiError } from '../error.ts'
import type { JobStream } from '../JobStream.ts'
import { plainLine } from '../plainText.ts'
import type { TetherClient } from '../TetherClient.ts'
import { persist } from '../tryAgain.ts'
import { ChildStreams } from './ChildStreams.ts'
import { backLine, lostLine } from './connectionLines.ts'
import { EndRequest } from './EndRequest.ts'
import { EXIT, type ExitCode, exitCodeOfOutcome } from './exit.ts'
import type { OnInterrupt } from './invocation.ts'
import { type Outcome, outcomeIn, outcomeLine, outcomeOf } from './outcome.ts'
import type { Reporter } from './Reporter.ts'
import type { Screen } from './Screen.ts'
import type { EndingSignal, Signals } from './Signals.ts'

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
  /** Who shows what comes; `children` are streams that live as long as this following. */
  readonly report: (children: ChildStreams) => Reporter
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
  readonly #reporter: Reporter
  /** Aborted at the end, whatever it was: closes the stream and every request still under way. */
  readonly #leaving = new AbortController()
  /** Aborted when the user asks for the job's end: no connection is made anew from then on. */
  readonly #asking = new AbortController()
  readonly #opened = Promise.withResolvers<void>()
  readonly #ended = Promise.withResolvers<Ending>()
  #signalCount = 0
  /** The job works in model calls and tools, which a stop waits for. */
  #hasSteps = false
  #settleMs = DEFAULT_SETTLE_MS
  #stopDeadlineMs = DEFAULT_STOP_DEADLINE_MS
  #asked: EndRequest | undefined
  /** What the user's request has come to; see `EndRequest.send`. */
  readonly #answered = Promise.withResolvers<JobView | undefined>()
  #deadline: NodeJS.Timeout | undefined

  constructor(options: Options) {
    this.#options = options
    this.#reporter = options.report(
      new ChildStreams({
        client: options.client,
        signal: this.#leaving.signal,
        noMore: this.#asking.signal,
        onDefect: this.#ended.reject,
      }),
    )
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
      this.#reporter.leave()
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
      this.#learn(event)
      await this.#reporter.show(event)
      const outcome = outcomeIn(event)
      if (outcome !== undefined) return await this.#concluded(outcome)
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
    if (job.result !== undefined) await this.#reporter.showResult(job.task, job.result)
    const outcome = outcomeOf(job)
    return outcome === undefined ? { exitCode: EXIT.failed, left: false } : await this.#concluded(outcome)
  }

  async #concluded(outcome: Outcome): Promise<Ending> {
    await this.#reporter.finish(outcome)
    return this.#told(outcome)
  }

  #told(outcome: Outcome): Ending {
    if (outcome.status !== 'succeeded') this.#options.screen.line(outcomeLine(outcome))
    return { exitCode: exitCodeOfOutcome(outcome.status), left: false }
  }

  #learn(event: JobEvent): void {
    if (event.type === 'model.started' || event.type === 'tool.started') this.#hasSteps = true
    if (event.type !== 'job.queued') return
    this.#settleMs = event.job.policy.settleMs
    this.#stopDeadlineMs = event.job.policy.stopDeadlineMs
    this.#armDeadline()
  }

  #take(signal: EndingSignal): void {
    const { firstSignal, screen, jobId } = this.#options
    this.#signalCount += 1
    if (this.#signalCount > 1 || firstSignal === 'leave') {
      this.#leave(`left job ${jobId}`)
      return
    }
    if (firstSignal === 'detach') {
      void this.#detach()
      return
    }
    void this.#end(firstSignal, REASONS[signal])
    screen.line(`${this.#endingText(firstSignal)} (again: leave at once)`)
  }

  #endingText(kind: CancelKind): string {
    const { jobId } = this.#options
    if (kind === 'cancel') return `cancelling job ${jobId}`
    return `stopping job ${jobId}${this.#hasSteps ? ', after the current model call or tool' : ''}`
  }

  /** Never rejects. */
  async #end(kind: CancelKind, reason: string): Promise<void> {
    const { client, jobId } = this.#options
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
      this.#leave(`cannot ${kind} job ${jobId}: ${messageOf(error)}; left it instead`)
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
      this.#leave(`detached: job ${jobId} runs on; "attach ${jobId}" shows it again`)
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
    const { jobId } = this.#options
    const outcome = job === undefined ? undefined : outcomeOf(job)
    if (outcome !== undefined) {
      this.#reporter.leave()
      this.#ended.resolve({ ...this.#told(outcome), left: true })
      return
    }
    const within = `within ${waitedMs} ms`
    this.#leave(
      failure === undefined
        ? `no outcome of job ${jobId} ${within}; left it`
        : `cannot ${kind} job ${jobId} ${within}: ${messageOf(failure)}; left it instead`,
    )
  }

  #leave(why: string): void {
    this.#reporter.leave()
    this.#options.screen.line(why)
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
