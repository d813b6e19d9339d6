import { Redis } from 'ioredis'
import type { StoreError } from '../store/JobStore.ts'
import { addressOf, CONNECTION_OPTIONS, DEFAULT_COMMAND_TIMEOUT_MS } from './RedisConnection.ts'
import { failureOf, unreachableFailure } from './RedisFailure.ts'

export interface BullConnectionOptions {
  /** As that of `RedisConnectionOptions`. */
  readonly url: string
  /** How long an answer may take. Default 2000. */
  readonly commandTimeoutMs?: number
}

/**
 * ioredis asks each new connection for `INFO`, and waits for the answer for ever where there is no `commandTimeout`, which would
 * end the waiting calls of BullMQ too. Copies are guarded too.
 */
function guarded(redis: Redis, readyTimeoutMs: number): Redis {
  let timer: NodeJS.Timeout | undefined
  redis.on('connect', () => {
    timer = setTimeout(() => redis.disconnect(true), readyTimeoutMs)
  })
  for (const event of ['ready', 'close']) redis.on(event, () => clearTimeout(timer))
  const duplicate = redis.duplicate.bind(redis)
  redis.duplicate = (override) => guarded(duplicate(override), readyTimeoutMs)
  return redis
}

/**
 * The connection on which BullMQ sends its commands, and which it copies for the one on which it waits. What is under way when
 * it is cut fails at once and is not sent again: a second `moveToActive` would claim a second job. What BullMQ sends while it is
 * away fails with the next try that fails: at once would make the loop of BullMQ's worker spin.
 */
export class BullConnection {
  readonly address: string
  readonly client: Redis
  readonly #commandTimeoutMs: number
  #lastTrouble = ''

  constructor({ url, commandTimeoutMs = DEFAULT_COMMAND_TIMEOUT_MS }: BullConnectionOptions) {
    this.address = addressOf(url)
    this.#commandTimeoutMs = commandTimeoutMs
    this.client = guarded(new Redis(url, { ...CONNECTION_OPTIONS, maxRetriesPerRequest: 0 }), commandTimeoutMs)
    this.client.on('error', (error) => {
      this.#lastTrouble = error.message
    })
    this.client.on('ready', () => {
      this.#lastTrouble = ''
    })
  }

  /** @throws {StoreError} where it is not there at the first try. */
  async connect(): Promise<void> {
    try {
      await this.client.connect()
    } catch (error) {
      this.client.disconnect()
      throw unreachableFailure(this.address, this.#lastTrouble || String(error))
    }
  }

  get isReady(): boolean {
    return this.client.status === 'ready'
  }

  /** Why there is no connection. */
  get failure(): StoreError {
    return unreachableFailure(this.address, this.#lastTrouble)
  }

  /**
   * What `call` sends, for somebody who does not wait for Redis to come back. `commandName`: what `call` sends, as Redis names it.
   * @throws {RedisFailure}
   */
  async ask<T>(commandName: string, call: () => Promise<T>): Promise<T> {
    if (!this.isReady) throw this.failure
    const late = Promise.withResolvers<never>()
    const timer = setTimeout(() => late.reject(new Error('timed out')), this.#commandTimeoutMs)
    try {
      return await Promise.race([call(), late.promise])
    } catch (error) {
      const failure = failureOf(error, this.address, commandName, this.#lastTrouble)
      // Where nothing comes back, the other end may have gone without a word.
      if (failure.fate === 'unknown' && this.isReady) this.client.disconnect(true)
      throw failure
    } finally {
      clearTimeout(timer)
    }
  }

  /** What was called before is not waited for. Settles when it is not open any more. */
  async close(): Promise<void> {
    const ended = Promise.withResolvers<void>()
    this.client.once('end', ended.resolve)
    const { status } = this.client
    this.client.disconnect()
    // Between two tries nothing is open, and nothing is told.
    if (status === 'connecting' || status === 'connect' || status === 'ready') await ended.promise
  }
}
