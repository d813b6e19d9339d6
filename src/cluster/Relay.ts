import PQueue from 'p-queue'
import type { Clock } from '../clock.ts'
import type { JobRef } from '../job/key.ts'
import { isTerminal, type JobStatus } from '../job/status.ts'
import { type EventBatch, StoreError } from '../store/JobStore.ts'
import { parseRefName, refName } from './names.ts'
import { openRedisConnection, type RedisConnection, type RedisConnectionOptions } from './RedisConnection.ts'
import { RedisFailure } from './RedisFailure.ts'
import { type Head, RemoteLog } from './RemoteLog.ts'
import { readLog } from './readLog.ts'
import { HEADS } from './scripts.ts'

export interface RelayOptions extends RedisConnectionOptions {
  /** Where logs are read. It stays open. */
  readonly connection: RedisConnection
  /**
   * What all keys begin with, and all channels: those know no databases (https://redis.io/docs/latest/develop/pubsub/), so servers
   * that are not one need prefixes of their own.
   */
  readonly prefix: string
  readonly clock: Clock
}

/** A change of a job's status: its event as a line of the log, with its number. */
export interface HeardChange {
  readonly ref: JobRef
  readonly seq: number
  readonly line: string
}

export interface ChangeWatcher {
  onChange(change: HeardChange): void
  /** Some may have been missed. */
  onMissed(): void
}

/** A job that is followed by one more. */
export interface FollowedJob {
  readonly log: RemoteLog
  /** Twice is harmless. */
  release(): void
}

interface Followed {
  readonly ref: JobRef
  readonly log: RemoteLog
  followers: number
}

/** The last message of a job may be lost, and then no other one shows it. */
const LOOK_EVERY_MS = 1000

/** Others wait for Redis meanwhile. */
const LOOK_AT_ONCE = 1000

const PAGE_BYTES = 64 * 1024
/** After Redis was away every log may have to be read; all their pages at once would take much memory. */
const READS_AT_ONCE = 16

/**
 * Logs of jobs that run in other processes, shown to readers of this one. Each entry of a log is published by the script that
 * writes it, on a channel of the job's (commit.lua). One connection hears all that are followed here; what it does not hear is
 * noticed and read.
 */
export class Relay {
  readonly #subscriber: RedisConnection
  readonly #connection: RedisConnection
  readonly #prefix: string
  readonly #clock: Clock
  readonly #onTrouble: (error: StoreError) => void
  readonly #reads = new PQueue({ concurrency: READS_AT_ONCE })
  /** By channel. */
  readonly #followed = new Map<string, Followed>()
  readonly #watchers = new Set<ChangeWatcher>()
  #cancelTimer: (() => void) | undefined
  #closed: Promise<void> | undefined

  private constructor(subscriber: RedisConnection, options: RelayOptions) {
    this.#subscriber = subscriber
    this.#connection = options.connection
    this.#prefix = options.prefix
    this.#clock = options.clock
    this.#onTrouble = options.onTrouble ?? (() => undefined)
  }

  /** @throws {StoreError} where Redis is not there at the first try. */
  static async open(options: RelayOptions): Promise<Relay> {
    const subscriber = await openRedisConnection(options)
    const relay = new Relay(subscriber, options)
    subscriber.onMessage((channel, text) => relay.#hear(channel, text))
    subscriber.onReady(() => {
      void relay.#subscribe([...relay.#followed.keys()])
      relay.#watchAgain()
    })
    return relay
  }

  /** Follows a job whose record says that it has not ended, with `lastSeq` as its last event. All who do share one log. */
  follow(ref: JobRef, lastSeq: number): FollowedJob {
    const channel = this.#channelOf(ref)
    const followed = this.#followed.get(channel) ?? this.#begin(channel, ref, lastSeq)
    followed.followers += 1
    let isReleased = false
    return {
      log: followed.log,
      release: () => {
        if (isReleased) return
        isReleased = true
        followed.followers -= 1
        if (followed.followers > 0) return
        followed.log.close()
        this.#end(channel, followed)
      },
    }
  }

  /** Whoever follows a job is told that the rest is not shown here. */
  lose(ref: JobRef, error: Error): void {
    this.#followed.get(this.#channelOf(ref))?.log.lose(error)
  }

  #channelOf(ref: JobRef): string {
    return `${this.#prefix}log:${refName(ref)}`
  }

  /** Calls `watcher` with every change of a job's status. Returns its undo. */
  watch(watcher: ChangeWatcher): () => void {
    this.#watchers.add(watcher)
    if (this.#watchers.size === 1) this.#callFor('subscribe')
    this.#schedule()
    return () => {
      if (this.#watchers.delete(watcher) && this.#watchers.size === 0) this.#callFor('unsubscribe')
    }
  }

  #watchAgain(): void {
    if (this.#watchers.size === 0) return
    this.#callFor('subscribe')
    for (const watcher of this.#watchers) watcher.onMissed()
  }

  /** Where it fails the connection is gone, and it is called anew when that is back. */
  #callFor(name: 'subscribe' | 'unsubscribe'): void {
    this.#subscriber.call(name, [this.#changes]).catch((error: unknown) => this.#note(error))
  }

  get #changes(): string {
    return `${this.#prefix}changes`
  }

  /** Whoever still follows is told that the rest is not shown here. Settles when nothing is open any more. Twice is harmless. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.#cancelTimer?.()
    for (const { log } of this.#followed.values()) log.lose(closedError())
    await this.#subscriber.close()
  }

  #begin(channel: string, ref: JobRef, lastSeq: number): Followed {
    const log = new RemoteLog({
      ref,
      lastSeq,
      read: (after) => this.#reads.add(() => readLog(this.#connection, channel, after, PAGE_BYTES)),
      onOver: () => this.#end(channel, followed),
    })
    const followed: Followed = { ref, log, followers: 0 }
    if (this.#closed === undefined) {
      this.#followed.set(channel, followed)
      void this.#subscribe([channel])
      this.#schedule()
    } else {
      log.lose(closedError())
    }
    return followed
  }

  /** The job may be followed anew meanwhile, by another log. */
  #end(channel: string, followed: Followed): void {
    if (this.#followed.get(channel) !== followed) return
    this.#followed.delete(channel)
    // Where it fails the connection is gone, and the subscription with it.
    this.#subscriber.call('unsubscribe', [channel]).catch((error: unknown) => this.#note(error))
  }

  /** What was written before it took effect is looked for afterwards. */
  async #subscribe(channels: readonly string[]): Promise<void> {
    if (channels.length === 0) return
    try {
      await this.#subscriber.call('subscribe', channels)
    } catch (error) {
      this.#note(error)
      return
    }
    await this.#look(channels)
  }

  #hear(channel: string, text: string): void {
    if (channel === this.#changes) {
      const change = parseChange(text)
      if (change !== undefined) for (const watcher of this.#watchers) watcher.onChange(change)
      return
    }
    const followed = this.#followed.get(channel)
    const batch = followed === undefined ? undefined : parseMessage(text)
    if (batch !== undefined) followed?.log.receive(batch)
  }

  /** Nobody looks where nothing is heard. */
  #schedule(): void {
    if (this.#cancelTimer !== undefined || this.#closed !== undefined) return
    if (this.#followed.size === 0 && this.#watchers.size === 0) return
    this.#cancelTimer = this.#clock.schedule(LOOK_EVERY_MS, () => void this.#lookAround())
  }

  async #lookAround(): Promise<void> {
    const silent: string[] = []
    for (const [channel, { log }] of this.#followed) {
      if (log.isSilent) silent.push(channel)
      log.isSilent = true
    }
    // The other end may have gone without a word: what is not answered breaks the connection.
    this.#subscriber.call('ping', []).catch((error: unknown) => this.#note(error))
    await this.#look(silent)
    this.#cancelTimer = undefined
    this.#schedule()
  }

  /** Compares logs with where their jobs stand. */
  async #look(channels: readonly string[]): Promise<void> {
    for (let start = 0; start < channels.length; start += LOOK_AT_ONCE) {
      const looked = channels.slice(start, start + LOOK_AT_ONCE).flatMap((channel) => this.#followed.get(channel) ?? [])
      const seenSeqs = looked.map(({ log }) => log.publishedSeq)
      const keys = looked.map(({ ref }) => `${this.#prefix}job:${refName(ref)}`)
      try {
        const heads = headsOf(await this.#connection.run(HEADS, keys, []))
        for (const [index, { log }] of looked.entries()) log.compare(heads[index], seenSeqs[index] ?? 0)
      } catch (error) {
        this.#note(error)
        return
      }
    }
  }

  /** A connection that is away tells so by itself, and what was missed is looked for again. */
  #note(error: unknown): void {
    if (!(error instanceof RedisFailure)) throw error
    if (error.fate === 'refused') this.#onTrouble(error)
  }
}

/** As commit.lua writes it; undefined where somebody else did. */
function parseChange(text: string): HeardChange | undefined {
  const [, ref, seq, line] = /^(\S+) (\d+)\n(.*)$/s.exec(text) ?? []
  if (ref === undefined || line === undefined) return undefined
  return { ref: parseRefName(ref), seq: Number(seq), line }
}

function closedError(): StoreError {
  return new StoreError('this server stops: it shows no more of jobs that run elsewhere')
}

/** As commit.lua writes it; undefined where somebody else did. */
function parseMessage(text: string): EventBatch | undefined {
  const [head, firstSeq, lastSeq] = /^(\d+) (\d+)\n/.exec(text) ?? []
  if (head === undefined) return undefined
  return { firstSeq: Number(firstSeq), lastSeq: Number(lastSeq), lines: text.slice(head.length) }
}

/** What heads.lua answers. The status was written from a value of this type. */
function headsOf(answer: unknown): readonly (Head | undefined)[] {
  return (answer as readonly (readonly (string | null)[])[]).map(([status, lastSeq]) =>
    typeof status === 'string' ? { isTerminal: isTerminal(status as JobStatus), lastSeq: Number(lastSeq) } : undefined,
  )
}
