import { Command, Redis, type RedisOptions } from 'ioredis'
import { messageOf } from '../job/messageOf.ts'
import { StoreError } from '../store/JobStore.ts'
import { failureOf, RedisFailure, unreachableFailure } from './RedisFailure.ts'
import type { Script } from './scripts.ts'

export type Argument = string | number | Buffer

export interface RedisConnectionOptions {
  /** `redis://[USER:PASSWORD@]HOST:PORT[/DB]`, or `rediss:` for TLS. */
  readonly url: string
  /** How long an answer may take. Default 2000. */
  readonly commandTimeoutMs?: number
  /** Told when the connection is lost or refused, with each try to have it back, and when it is back. */
  readonly onTrouble?: (error: StoreError) => void
}

export const DEFAULT_COMMAND_TIMEOUT_MS = 2000
const CONNECT_TIMEOUT_MS = 2000
const FIRST_RETRY_MS = 50
const MAX_RETRY_MS = 1000
/** All processes lose Redis in the same moment: they shall not all be back in the same one. */
const RETRY_JITTER = 0.2

/** A connection that is given up is closed from here after this, where the other end does not answer to that either. */
const CLOSE_TIMEOUT_MS = 100

/** What every connection of ours has: it is made when `connect` is called, and made again, without end, when it is lost. */
export const CONNECTION_OPTIONS = {
  lazyConnect: true,
  maxLoadingRetryTime: MAX_RETRY_MS,
  connectTimeout: CONNECT_TIMEOUT_MS,
  disconnectTimeout: CLOSE_TIMEOUT_MS,
  disableClientInfo: true,
  // It was a primary and is none any more: what it was reached by may lead to the one that took its place.
  reconnectOnError: ({ message }) => message.startsWith('READONLY'),
  retryStrategy: (tries) =>
    Math.min(FIRST_RETRY_MS * 2 ** (tries - 1), MAX_RETRY_MS) * (1 + Math.random() * RETRY_JITTER),
} satisfies RedisOptions

/**
 * One connection, on which commands are sent in the order of the calls, without waiting. Without it a call is refused at once,
 * and one that was under way when it was cut is sent again where it is back at the second try (ioredis,
 * `maxRetriesPerRequest`): so whatever is sent must be safe to be sent twice. Nothing waits longer than `commandTimeoutMs`, and
 * what did is not sent again: many slow reads would make Redis slower with each try.
 */
export class RedisConnection {
  readonly address: string
  readonly #redis: Redis
  readonly #onTrouble: (error: StoreError) => void
  readonly #givenUp = new WeakSet<Command>()
  #lastTrouble = ''
  #isReplacing = false

  constructor(address: string, redis: Redis, onTrouble: (error: StoreError) => void) {
    this.address = address
    this.#redis = redis
    this.#onTrouble = onTrouble
    const send = redis.sendCommand.bind(redis)
    redis.sendCommand = (command, stream) => (this.#givenUp.has(command) ? command.promise : send(command, stream))
    redis.on('error', (error) => this.#noteTrouble(error))
    redis.on('close', () => {
      this.#isReplacing = false
    })
    redis.on('ready', () => {
      this.#lastTrouble = ''
    })
  }

  /** @throws {StoreError} where it is not there at the first try. */
  async connect(): Promise<void> {
    try {
      await this.#redis.connect()
    } catch (error) {
      this.#redis.disconnect()
      throw unreachableFailure(this.address, this.#lastTrouble || messageOf(error))
    }
  }

  get isReady(): boolean {
    return this.#redis.status === 'ready'
  }

  /** Calls `listener` each time that the connection is there again, before anything that is called later is sent. */
  onReady(listener: () => void): void {
    this.#redis.on('ready', listener)
  }

  /** Calls `listener` with each message on a channel that this connection has subscribed to. */
  onMessage(listener: (channel: string, text: string) => void): void {
    this.#redis.on('message', listener)
  }

  /** Rejects with a `RedisFailure`. Subscriptions are gone with the connection: `onReady` is where they are made again. */
  async call(name: string, args: readonly Argument[]): Promise<unknown> {
    if (!this.isReady) throw unreachableFailure(this.address, this.#lastTrouble)
    const command = new Command(name, [...args], { replyEncoding: 'utf8' })
    try {
      return await this.#redis.sendCommand(command)
    } catch (error) {
      const failure = failureOf(error, this.address, name, this.#lastTrouble)
      this.#givenUp.add(command)
      if (failure.fate === 'unknown') this.#replace()
      throw failure
    }
  }

  /** Runs a script that Redis may have forgotten, and that may then run later than what was called after it. */
  async run(script: Script, keys: readonly string[], args: readonly Argument[]): Promise<unknown> {
    const rest = [keys.length, ...keys, ...args]
    try {
      return await this.call('EVALSHA', [script.sha, ...rest])
    } catch (error) {
      if (!isForgotten(error)) throw error
      return this.call('EVAL', [script.text, ...rest])
    }
  }

  /** What was called before is not waited for. Settles when nothing is open any more. */
  async close(): Promise<void> {
    const ended = Promise.withResolvers<void>()
    this.#redis.once('end', ended.resolve)
    const { status } = this.#redis
    this.#redis.disconnect()
    // Between two tries nothing is open, and nothing is told.
    if (status === 'connecting' || status === 'connect' || status === 'ready') await ended.promise
  }

  /** Where nothing comes back, the other end may have gone without a word. */
  #replace(): void {
    if (!this.isReady || this.#isReplacing) return
    this.#isReplacing = true
    this.#redis.disconnect(true)
  }

  #noteTrouble(error: Error): void {
    this.#lastTrouble = error.message
    this.#onTrouble(
      new StoreError(`the connection to the Redis at ${this.address} failed (${error.message})`, { cause: error }),
    )
  }
}

function isForgotten(error: unknown): boolean {
  return error instanceof RedisFailure && error.code === 'NOSCRIPT'
}

/**
 * Connects.
 * @throws {StoreError} where the address is none, or nothing that takes us answers there at the first try.
 */
export async function openRedisConnection(options: RedisConnectionOptions): Promise<RedisConnection> {
  const { url, commandTimeoutMs = DEFAULT_COMMAND_TIMEOUT_MS, onTrouble = () => undefined } = options
  const address = addressOf(url)
  const redis = new Redis(url, {
    ...CONNECTION_OPTIONS,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 1,
    commandTimeout: commandTimeoutMs,
    autoResubscribe: false,
  })
  const connection = new RedisConnection(address, redis, onTrouble)
  await connection.connect()
  return connection
}

/**
 * Without what may be a password.
 * @throws {StoreError} where it is no address of a Redis.
 */
export function addressOf(url: string): string {
  const parsed = URL.parse(url)
  if (parsed === null || !/^rediss?:$/.test(parsed.protocol) || parsed.hostname === '') {
    throw new StoreError('the address of Redis must be redis://HOST:PORT, or rediss:// for TLS')
  }
  return `${parsed.hostname}:${parsed.port || '6379'}`
}
