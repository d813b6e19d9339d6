import { randomUUID } from 'node:crypto'
import { type ChangeResult, StoreError, UncertainCommitError } from '../store/JobStore.ts'
import { resultsOf } from './changes.ts'
import type { RedisConnection } from './RedisConnection.ts'
import { RedisFailure } from './RedisFailure.ts'
import { COMMIT, COMMIT_ALWAYS, FENCE, type Script } from './scripts.ts'

export interface CommitLineOptions {
  readonly prefix: string
  readonly maxLogBytes: number
  /** Whose jobs those are that no change says an owner of. */
  readonly replica: string
}

interface Unanswered {
  readonly number: number
  readonly script: Script
  readonly changes: readonly string[]
  readonly settled: PromiseWithResolvers<readonly ChangeResult[]>
  tries: number
}

/** Each try needs something to have gone wrong anew in between. */
const MAX_TRIES = 5

/**
 * Commits of one process, sent in their order without waiting for the one before, and each written once.
 *
 * They are numbered. Redis keeps the number of the newest and the results of those whose answers this process has not yet
 * acknowledged, in the same step in which it writes (commit.lua). So a commit that arrives twice, because the connection was cut
 * and it was sent again, gets the answer of the first time; and one that arrives before its time, because Redis forgot the script
 * of the one before (SCRIPT FLUSH, a restart), is turned away. Then the line breaks: what is under way is awaited, and
 * everything that was turned away goes again, in its order.
 *
 * What still stood in the buffers of a connection that was cut is fenced off when the next one is there, before anything else is
 * answered.
 */
export class CommitLine {
  readonly #connection: RedisConnection
  readonly #prefix: string
  readonly #maxLogBytes: number
  readonly #replica: string
  readonly #session: string
  /** Those that were called and not answered, in their order. */
  readonly #unanswered = new Map<number, Unanswered>()
  #lastNumber = 0
  #underWay = 0
  /** Something is amiss with the numbers that Redis has: nothing is sent until nothing is under way. */
  #isBroken = false
  /** Numbers of commits whose results Redis need not keep any more. */
  #acknowledged: number[] = []

  constructor(connection: RedisConnection, options: CommitLineOptions) {
    const { prefix, maxLogBytes, replica } = options
    this.#connection = connection
    this.#prefix = prefix
    this.#maxLogBytes = maxLogBytes
    this.#replica = replica
    this.#session = `${prefix}session:${randomUUID()}`
  }

  /** Makes Redis ready for the first commit. */
  async start(): Promise<void> {
    this.#connection.onReady(() => this.#resume())
    await Promise.all(this.#prepare())
  }

  /** `isAlwaysTaken`: also where Redis is full. Rejects with a `StoreError`: it wrote nothing, unless it is an `UncertainCommitError`. */
  commit(changes: readonly string[], isAlwaysTaken: boolean): Promise<readonly ChangeResult[]> {
    const settled = Promise.withResolvers<readonly ChangeResult[]>()
    const number = this.#lastNumber + 1
    const script = isAlwaysTaken ? COMMIT_ALWAYS : COMMIT
    this.#lastNumber = number
    const commit: Unanswered = { number, script, changes, settled, tries: 0 }
    this.#unanswered.set(number, commit)
    if (this.#isBroken) this.#mend()
    else this.#send(commit)
    return settled.promise
  }

  /** Settles once every commit that was called before is answered or given up. */
  async drain(): Promise<void> {
    await Promise.allSettled([...this.#unanswered.values()].map(({ settled }) => settled.promise))
  }

  /** Lets Redis forget what it kept for this process. */
  async end(): Promise<void> {
    await this.#connection.call('UNLINK', [this.#session])
  }

  #send(commit: Unanswered): void {
    commit.tries += 1
    this.#underWay += 1
    const acknowledged = this.#acknowledged.join(' ')
    this.#acknowledged = []
    const settings = [this.#prefix, commit.number, acknowledged, this.#maxLogBytes, this.#replica]
    const args = [commit.script.sha, 1, this.#session, ...settings, ...commit.changes]
    void this.#connection.call('EVALSHA', args).then(
      (answer) => this.#answered(commit, answer),
      (error: unknown) => this.#failed(commit, error),
    )
  }

  #answered(commit: Unanswered, answer: unknown): void {
    this.#underWay -= 1
    this.#unanswered.delete(commit.number)
    this.#acknowledged.push(commit.number)
    try {
      commit.settled.resolve(resultsOf(answer))
    } catch (error) {
      commit.settled.reject(error)
    }
    if (this.#isBroken) this.#mend()
  }

  #failed(commit: Unanswered, error: unknown): void {
    this.#underWay -= 1
    // Whatever it was, Redis does not have this number, or may not, and turns away what comes after it.
    this.#isBroken = true
    if (!isTurnedAway(error) || commit.tries >= MAX_TRIES) {
      this.#unanswered.delete(commit.number)
      commit.settled.reject(this.#errorOf(commit, error))
    }
    this.#mend()
  }

  #errorOf({ number }: Unanswered, error: unknown): unknown {
    if (!(error instanceof RedisFailure) || error.fate !== 'unknown') return error
    const message = `${error.message}: whether the commit was written is not known`
    return new UncertainCommitError(message, () => this.#outcomeOf(number), { cause: error.cause })
  }

  /** Kept for a day after the last commit of the store. */
  async #outcomeOf(number: number): Promise<readonly ChangeResult[] | undefined> {
    const { address } = this.#connection
    // While commits before it can still be written, it is not fenced off.
    const [oldest = number] = this.#unanswered.keys()
    if (oldest < number) throw new StoreError(`the Redis at ${address} has not yet answered what was called before`)
    const answer = await this.#connection.run(FENCE, [this.#session], [number, number])
    return answer === null ? undefined : resultsOf(answer)
  }

  #mend(): void {
    if (this.#underWay > 0 || this.#unanswered.size === 0) return
    this.#isBroken = false
    this.#resume()
    for (const commit of this.#unanswered.values()) this.#send(commit)
  }

  /** Where the connection is there again, commits that were under way have been sent again before this. */
  #resume(): void {
    for (const prepared of this.#prepare()) prepared.catch(isTold)
  }

  /** Gives Redis the scripts, and lets what was given up never be written. */
  #prepare(): readonly Promise<unknown>[] {
    const [oldest = this.#lastNumber + 1] = this.#unanswered.keys()
    const load = (script: Script): Promise<unknown> => this.#connection.call('SCRIPT', ['LOAD', script.text])
    const fence = [FENCE.text, 1, this.#session, oldest - 1, '']
    return [load(COMMIT), load(COMMIT_ALWAYS), this.#connection.call('EVAL', fence)]
  }
}

/** Turned away before anything was written, for a reason that another try may not meet. */
function isTurnedAway(error: unknown): boolean {
  return error instanceof RedisFailure && (error.code === 'NOSCRIPT' || error.code === 'UNORDERED')
}

/** Commits that need it meet the same failure, and those who called them are told. */
function isTold(): void {}
