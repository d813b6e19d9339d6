import { modelFailureOf, retryWaitOf } from './modelFailure.ts'

/** One call is made so often at the most, with waits that double between (ms), or longer ones that the server names. */
const MAX_ATTEMPTS = 5
const FIRST_WAIT_MS = 500
const MAX_WAIT_MS = 16_000

/** What a call works with: the parts of `TaskContext` that it needs. */
export interface Asking {
  /** A boundary, also in the middle: a stop or cancel ends the wait. @throws {JobStopped} */
  sleep(ms: number): Promise<void>
  checkpoint(): void
  /** Told before each wait, so that readers see why nothing comes. */
  data(name: string, value: { readonly [key: string]: string | number }): Promise<void>
}

export interface RepeatedCall<T> {
  /** As readers are told of it. */
  readonly model: string
  readonly make: () => Promise<T>
  /** Whether something came of it that cannot be taken back. */
  readonly hasBegun: () => boolean
}

/**
 * Makes a call of a model server, and makes it again where it failed before anything came of it and that may help (429, 5xx, no
 * connection). Rejects with what the last one did.
 * @throws {JobStopped}
 */
export async function repeated<T>({ model, make, hasBegun }: RepeatedCall<T>, asking: Asking): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await make()
    } catch (error) {
      const retry = hasBegun() || attempt >= MAX_ATTEMPTS ? undefined : retryWaitOf(error, Date.now())
      if (retry === undefined) throw error
      // Where the job was asked to stop meanwhile, nobody is told of a call that will not be made.
      asking.checkpoint()
      const ownMs = Math.min(FIRST_WAIT_MS * 2 ** (attempt - 1), MAX_WAIT_MS) * jitter()
      const waitMs = Math.round(Math.max(ownMs, retry.leastMs))
      const reason = modelFailureOf(error, model).message.slice(0, 500)
      await asking.data('model.retry', { model, attempt, waitMs, reason })
      await asking.sleep(waitMs)
    }
  }
}

function jitter(): number {
  return 0.75 + Math.random() / 2
}
