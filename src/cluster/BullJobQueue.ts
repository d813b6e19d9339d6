import { setTimeout as sleep } from 'node:timers/promises'
import { ErrorCode, type Job, Queue, WaitingError, Worker } from 'bullmq'
import type { JobRef } from '../job/key.ts'
import type { PauseReason } from '../jobs/JobQueue.ts'
import { StoreError } from '../store/JobStore.ts'
import { BullConnection } from './BullConnection.ts'
import { Gathered } from './Gathered.ts'
import { parseQueueName, queueName } from './names.ts'
import { TAKE_TURNS } from './scripts.ts'

export interface BullJobQueueOptions {
  /** As those of `RedisConnectionOptions`. */
  readonly url: string
  readonly commandTimeoutMs?: number
  /** Of all keys; in a cluster with a hash tag. */
  readonly prefix: string
  /** How many jobs this replica runs at once. */
  readonly concurrency: number
  /** How long a replica may give no sign of life before the others take what it runs for stalled. */
  readonly leaseMs: number
  /** How often stalled jobs are looked for, by one replica for all. Default 2000. */
  readonly stalledIntervalMs?: number
  /**
   * Called in the replica that got the job, which has a slot until the promise settles. Once for each `add`, unless Redis forgets
   * what it last did; so it must claim the job elsewhere first.
   */
  readonly onSlot: (ref: JobRef) => Promise<void>
  /**
   * Called in any replica for a job whose replica gave no sign of life, and again where the promise rejects. The job leaves the
   * queue when it is fulfilled; it may run on, or have ended, or nobody has claimed it: such a one is to be noted, and added
   * again some seconds later.
   */
  readonly onStalled: (ref: JobRef) => Promise<void>
  /** Told of trouble with Redis, each once a second at most. */
  readonly onError: (error: Error) => void
}

export interface CloseOptions {
  /** How long those that run are waited for. Default 0. */
  readonly graceMs?: number
}

/** In BullMQ lower goes first, and 0 before all: ours are turned round about this, so that none becomes 0. */
const TURNING_POINT = 2 ** 20
/** BullMQ's scores are the priority times this, and a count. */
const SCORES_A_PRIORITY = 2 ** 32
/** A worker that waits looks by itself after this, in case that it missed a call. */
const POLL_SECONDS = 2
/** BullMQ writes what happens to a log that nobody reads. */
const MAX_EVENTS = 100
const CLOSE_TIMEOUT_MS = 2000
const TURNS_AT_ONCE = 256
/** Where Redis refuses to give a job out, as for want of memory, BullMQ would ask again at once, and for ever. */
const REST_MS = 500
const SAME_ERROR_MS = 1000

/** BullMQ's own `remove` answers 1 for a job that it does not have too, and takes one out that is under way. */
const REMOVE_WAITING = `#!lua flags=allow-oom
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
return redis.call('DEL', KEYS[2])`

/** Leaves alone one that somebody took meanwhile, or that was added anew. */
const REMOVE_STALLED = `#!lua flags=allow-oom
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
return redis.call('DEL', KEYS[2])`

/** BullMQ's complaints that a job is not ours any more: the lease of the replica says that, and sooner. */
const LOST_LOCK: readonly unknown[] = [ErrorCode.JobNotExist, ErrorCode.JobLockNotExist, ErrorCode.JobLockMismatch]

/** BullMQ waits for 10 s after its connection was lost, when a call may have gone to the lost one. */
class SoonPollingWorker extends Worker {
  override get maximumBlockTimeout(): number {
    return POLL_SECONDS
  }
}

interface AddedJob {
  readonly ref: JobRef
  readonly priority: number
}

interface Slot {
  readonly freed: Promise<void>
  readonly free: () => void
}

/**
 * The queue that several replicas share: BullMQ says which job is next and which replica gets it. Nothing is run a second time:
 * what becomes of a job is for `onSlot`, and for whoever finds a replica dead. Two connections.
 */
export class BullJobQueue {
  readonly #options: BullJobQueueOptions
  readonly #connection: BullConnection
  readonly #queue: Queue
  readonly #worker: Worker
  readonly #watch: NodeJS.Timeout
  readonly #pauses = new Set<PauseReason>()
  readonly #slots = new Set<Slot>()
  readonly #turns = new Gathered((jobs: readonly AddedJob[]) => this.#takeTurns(jobs), TURNS_AT_ONCE)
  /** Found dead, and not told of yet. */
  readonly #stalled = new Set<string>()
  #isLooking = false
  readonly #reportedAtMs = new Map<string, number>()
  #resting: NodeJS.Timeout | undefined
  #closed: Promise<void> | undefined

  private constructor(options: BullJobQueueOptions, connection: BullConnection) {
    const { prefix, concurrency, leaseMs, stalledIntervalMs = 2000 } = options
    this.#options = options
    this.#connection = connection
    const shared = { connection: connection.client, prefix: `${prefix}queue`, skipVersionCheck: true }
    this.#queue = new Queue('jobs', { ...shared, streams: { events: { maxLen: MAX_EVENTS } } })
    this.#worker = new SoonPollingWorker('jobs', (job, token) => this.#take(job, token), {
      ...shared,
      autorun: false,
      concurrency,
      lockDuration: leaseMs,
      drainDelay: POLL_SECONDS,
      runRetryDelay: 1000,
      // Looked for below, also while this replica is paused.
      skipStalledCheck: true,
      stalledInterval: stalledIntervalMs,
      maxStalledCount: 0,
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
    })
    // All that it could tell of is the connection, of which the worker tells too.
    this.#queue.on('error', () => undefined)
    this.#worker.on('error', (error) => {
      this.#report(error)
      if (error.name === 'ReplyError') this.#rest()
    })
    // Nothing that runs fails here: this one was found dead, perhaps by somebody who died too, and BullMQ took it out.
    this.#worker.on('failed', (job) => {
      if (job?.id !== undefined) this.#stalled.add(job.id)
    })
    this.#watch = setInterval(() => void this.#lookForStalled(), stalledIntervalMs)
  }

  /**
   * The first job is taken when the caller has had a chance to pause it.
   * @throws {StoreError} where Redis is not there at the first try.
   */
  static async open(options: BullJobQueueOptions): Promise<BullJobQueue> {
    const connection = new BullConnection(options)
    await connection.connect()
    const queue = new BullJobQueue(options, connection)
    try {
      await queue.#worker.waitUntilReady()
    } catch (error) {
      await queue.close()
      throw new StoreError(`the Redis at ${connection.address} cannot be reached`, { cause: error })
    }
    queue.#startSoon()
    return queue
  }

  /** How many run in this replica. */
  get running(): number {
    return this.#slots.size
  }

  /** Whether this replica would have a slot for one more. */
  get hasFreeSlot(): boolean {
    return this.#slots.size < this.#options.concurrency
  }

  /** Twice is once, as long as it is in the queue or has a slot. @throws {StoreError} which leaves open whether it was added. */
  async add(ref: JobRef, priority: number): Promise<void> {
    await this.#connection.ask('evalsha', () =>
      this.#queue.add('job', null, { jobId: queueName(ref), priority: rankOf(priority) }),
    )
    // It is in the queue already, and may run; where this fails only its place is another.
    this.#turns.call({ ref, priority }).catch((error: unknown) => this.#report(error))
  }

  /** Takes a waiting job out, so that `onSlot` is never called. `false` where none waits. @throws {StoreError} */
  async remove(ref: JobRef): Promise<boolean> {
    return this.#runScript(REMOVE_WAITING, 'prioritized', queueName(ref))
  }

  /** How many wait now of this priority or a higher one. @throws {StoreError} */
  async positionOf(priority: number): Promise<number> {
    // Before the turns of the next one (takeTurns.lua).
    const end = `(${(rankOf(priority) + 0.5) * SCORES_A_PRIORITY}`
    return this.#connection.ask('zcount', () =>
      this.#connection.client.zcount(this.#queue.toKey('prioritized'), '-inf', end),
    )
  }

  /** How many wait, of all replicas. @throws {StoreError} */
  async countWaiting(): Promise<number> {
    return this.#connection.ask('zcard', () => this.#connection.client.zcard(this.#queue.toKey('prioritized')))
  }

  /** @throws {StoreError} where nothing can be put into it from here, or nothing comes out of it here. */
  async check(): Promise<void> {
    await this.countWaiting()
    if (!(await this.#isListening())) throw this.#connection.failure
  }

  /** No further job gets a slot in this replica; what it was about to get goes back to its place. */
  pause(reason: PauseReason): void {
    this.#pauses.add(reason)
    void this.#worker.pause(true)
  }

  resume(reason: PauseReason): void {
    if (this.#pauses.delete(reason)) this.#startSoon()
  }

  /** What waits is left to the others. Settles when nothing is open any more. */
  close({ graceMs = 0 }: CloseOptions = {}): Promise<void> {
    this.#closed ??= this.#close(graceMs)
    return this.#closed
  }

  async #close(graceMs: number): Promise<void> {
    clearInterval(this.#watch)
    clearTimeout(this.#resting)
    void this.#worker.pause(true)
    await settlesWithin(graceMs, Promise.all([...this.#slots].map(({ freed }) => freed)))
    // Out of BullMQ with them, so that nobody takes them for stalled.
    for (const { free } of this.#slots) free()
    const isThere = this.#connection.isReady && (await this.#isListening())
    const closed = this.#worker.close(!isThere)
    if (!(await settlesWithin(CLOSE_TIMEOUT_MS, closed))) {
      // What waits for an answer fails with this.
      this.#connection.client.disconnect()
      await settlesWithin(CLOSE_TIMEOUT_MS, closed)
    }
    await this.#queue.close()
    await this.#connection.close()
  }

  async #isListening(): Promise<boolean> {
    const waiting = await this.#worker.getBackend().blockingClient?.catch(() => undefined)
    return waiting?.status === 'ready'
  }

  get #mayTake(): boolean {
    return this.#pauses.size === 0 && this.#closed === undefined
  }

  /** Not at once: BullMQ does not hear of it while a loop that was paused is about to end. */
  #startSoon(): void {
    setImmediate(() => {
      if (this.#mayTake && this.#resting === undefined) void this.#worker.resume()
    })
  }

  #rest(): void {
    if (this.#resting !== undefined || this.#closed !== undefined) return
    void this.#worker.pause(true)
    this.#resting = setTimeout(() => {
      this.#resting = undefined
      this.#startSoon()
    }, REST_MS)
  }

  async #take(job: Job, token = ''): Promise<void> {
    if (!this.#mayTake) {
      await this.#putBack(job, token)
      throw new WaitingError()
    }
    const { promise: freed, resolve: free } = Promise.withResolvers<void>()
    const slot = { freed, free }
    this.#slots.add(slot)
    void this.#run(parseQueueName(job.id ?? '')).finally(free)
    // Which a close may bring about too.
    await freed
    this.#slots.delete(slot)
  }

  async #run(ref: JobRef): Promise<void> {
    try {
      await this.#options.onSlot(ref)
    } catch (error) {
      this.#options.onError(new Error('onSlot must not reject', { cause: error }))
    }
  }

  /** To the head of those of its priority. Where that fails it is found as stalled. */
  async #putBack(job: Job, token: string): Promise<void> {
    try {
      await job.moveToWait(token)
      const name = job.id ?? ''
      const turn = await this.#connection.client.hget(this.#queue.toKey(name), 'turn')
      if (turn !== null) await this.#connection.client.zadd(this.#queue.toKey('prioritized'), 'XX', turn, name)
      // BullMQ calls nobody for one that comes back.
      await this.#connection.client.zadd(this.#queue.toKey('marker'), 0, '0')
    } catch (error) {
      this.#report(error)
    }
  }

  /** Asked at all times, since an answer that does not come is how a connection is found dead. */
  async #lookForStalled(): Promise<void> {
    if (this.#isLooking) return
    this.#isLooking = true
    try {
      const found = await this.#connection.ask('evalsha', () => this.#worker.getBackend().moveStalledJobsToWait())
      for (const name of found) this.#stalled.add(name)
    } catch (error) {
      this.#report(error)
    }
    for (const name of this.#stalled) await this.#giveUp(name)
    this.#isLooking = false
  }

  async #giveUp(name: string): Promise<void> {
    try {
      await this.#options.onStalled(parseQueueName(name))
      await this.#runScript(REMOVE_STALLED, 'wait', name)
      this.#stalled.delete(name)
    } catch (error) {
      this.#report(error)
    }
  }

  async #takeTurns(jobs: readonly AddedJob[]): Promise<readonly undefined[]> {
    const names = jobs.map(({ ref }) => queueName(ref))
    const keys = ['prioritized', 'turns', ...names].map((name) => this.#queue.toKey(name))
    const args = jobs.flatMap(({ ref, priority }, index) => [names[index] ?? '', rankOf(priority), ref.tenant])
    const { client } = this.#connection
    await this.#connection.ask('eval', () => client.eval(TAKE_TURNS.text, keys.length, ...keys, ...args))
    return jobs.map(() => undefined)
  }

  async #runScript(script: string, list: 'prioritized' | 'wait', name: string): Promise<boolean> {
    const keys = [this.#queue.toKey(list), this.#queue.toKey(name)]
    return (await this.#connection.ask('eval', () => this.#connection.client.eval(script, 2, ...keys, name))) === 1
  }

  #report(error: unknown): void {
    if (!(error instanceof Error) || isOfNoConcern(error) || this.#closed !== undefined) return
    const nowMs = performance.now()
    if (nowMs - (this.#reportedAtMs.get(error.message) ?? -Infinity) < SAME_ERROR_MS) return
    for (const [message, atMs] of this.#reportedAtMs) {
      if (nowMs - atMs >= SAME_ERROR_MS) this.#reportedAtMs.delete(message)
    }
    this.#reportedAtMs.set(error.message, nowMs)
    const message = `the queue in the Redis at ${this.#connection.address} failed (${error.message})`
    this.#options.onError(error instanceof StoreError ? error : new StoreError(message, { cause: error }))
  }
}

function rankOf(priority: number): number {
  return TURNING_POINT - priority
}

function isOfNoConcern(error: Error): boolean {
  if ('code' in error && LOST_LOCK.includes(error.code)) return true
  // The connection tells why.
  return error.name === 'MaxRetriesPerRequestError' || error.message.startsWith('could not renew lock')
}

async function settlesWithin(ms: number, work: Promise<unknown>): Promise<boolean> {
  const timer = new AbortController()
  try {
    const late = sleep(ms, false, { signal: timer.signal }).catch(() => false)
    return await Promise.race([work.then(() => true), late])
  } finally {
    timer.abort()
  }
}
