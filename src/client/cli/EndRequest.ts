import type { CancelKind } from '../../job/cancellation.ts'
import type { JobView } from '../../job/view.ts'
import { Backoff } from '../Backoff.ts'
import type { CancelAnswer } from '../CancelAnswer.ts'
import { TetherApiError } from '../error.ts'
import { pause } from '../pause.ts'
import type { TetherClient } from '../TetherClient.ts'
import { type Attempt, persist } from '../tryAgain.ts'

interface Options {
  readonly client: TetherClient
  readonly jobId: string
  readonly kind: CancelKind
  readonly reason: string
  /** How long the server may wait for the outcome, asked for with each sending. */
  readonly waitSeconds: () => number
  /** Ends it. */
  readonly signal: AbortSignal
}

/**
 * The user's cancel or stop of the job that is followed: sent until the server has it, since it must be honoured, and sent again
 * for the outcome where the stream is gone that would have said it. To send it twice changes nothing.
 */
export class EndRequest {
  readonly kind: CancelKind
  readonly askedAtMs = performance.now()
  readonly #options: Options
  readonly #streamLost = Promise.withResolvers<void>()
  #isStreamLost = false
  #isTaken = false
  #failure: unknown
  #job: JobView | undefined

  constructor(options: Options) {
    this.kind = options.kind
    this.#options = options
  }

  /** The job as it ended, once the server has said it, which may be before the stream gets there. */
  get job(): JobView | undefined {
    return this.#job
  }

  /** Why the last try to hand it to the server failed; undefined once the server has it, and while the first is under way. */
  get failure(): unknown {
    return this.#isTaken ? undefined : this.#failure
  }

  /** From now on only the answer can tell the outcome. */
  noteStreamLost(): void {
    this.#isStreamLost = true
    this.#streamLost.resolve()
  }

  /**
   * To be called once. Settles with the job when it has ended; with undefined where the server does not know it and its start is
   * not on its way any more. Rejects with the server's refusal, and with the reason of the signal.
   */
  async send(): Promise<JobView | undefined> {
    const backoff = new Backoff()
    for (;;) {
      const wasStreamLost = this.#isStreamLost
      const answer = await this.#ask()
      this.#isTaken = true
      if (answer.kind === 'ended') return (this.#job = answer.job)
      if (answer.kind === 'remembered' && wasStreamLost) return undefined
      await this.#streamLost.promise
      await pause(backoff.nextMs(), this.#options.signal)
    }
  }

  /** `remember`: the start may still be on its way, and the request must win also where it comes first. */
  async #ask(): Promise<CancelAnswer> {
    const { client, jobId, kind, reason, waitSeconds } = this.#options
    try {
      return await this.#persist((signal) =>
        client[kind](jobId, { reason, ifUnknown: 'remember', waitSeconds: waitSeconds(), signal }),
      )
    } catch (error) {
      if (!(error instanceof TetherApiError) || error.code !== 'TETHER_JOB_FINISHED') throw error
      return { kind: 'ended', job: await this.#persist((signal) => client.job(jobId, { signal })), delivery: undefined }
    }
  }

  async #persist<T>(attempt: Attempt<T>): Promise<T> {
    const { signal } = this.#options
    return await persist(
      async () => {
        try {
          return await attempt(signal)
        } catch (error) {
          this.#failure = error
          throw error
        }
      },
      { signal },
    )
  }
}
