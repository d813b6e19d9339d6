import type { StoredRequest } from '../job/cancellation.ts'
import type { GroupId } from '../job/id.ts'
import { groupKeyOf, type JobRef, keyOf } from '../job/key.ts'
import type { JobRecord } from '../job/record.ts'
import { StoreError } from '../store/JobStore.ts'
import { Gathered } from './Gathered.ts'
import { limitName, parseRefName, queueName, refName } from './names.ts'
import type { Argument, RedisConnection } from './RedisConnection.ts'
import { FIELDS, parsePolicy, parseRequest, recordOf, SHORT_FIELDS, shortRecordOf } from './records.ts'
import {
  ADMIT,
  ASK,
  BEAT,
  CLAIM,
  DUE,
  FORGET_REPLICA,
  GIVE_BACK,
  HOLD,
  LEAVE,
  LET_GO,
  NOTE_QUEUED,
  NOTE_UNQUEUED,
  type Script,
  SEAL,
  TAKE_DEAD,
} from './scripts.ts'

const SCRIPTS = [ADMIT, ASK, SEAL, CLAIM, HOLD, LEAVE, LET_GO, NOTE_QUEUED, BEAT, TAKE_DEAD, FORGET_REPLICA, DUE]

/** Inputs may be 1 MiB each, and an answer brings those of all. */
const CLAIMS_AT_ONCE = 16
const SEALS_AT_ONCE = 256
const NOTES_AT_ONCE = 256

/**
 * Where a job stands that was asked to end. `queued`: whoever asked moves it to its end, as `request` says, which is the one that
 * stands. `owned`: its owner does. `sealed`: its own outcome is certain and about to be written. `ended`, `unknown`: nothing was
 * asked.
 */
export type Asked =
  | { readonly kind: 'unknown' | 'ended' | 'sealed' }
  | { readonly kind: 'queued'; readonly request: StoredRequest }
  | { readonly kind: 'owned'; readonly owner: string }

/** `request` is the one that stands. `full`: too many are remembered already, and this one is not. */
export type Remembered =
  | { readonly kind: 'remembered'; readonly request: StoredRequest; readonly expiresAt: number }
  | { readonly kind: 'full' }

export interface RememberOptions {
  /** Whoever asks, as far as what is remembered is counted. */
  readonly client: string
  /** How long it is remembered from the last time that it was asked. */
  readonly keepMs: number
  readonly maxInAll: number
  readonly maxOfClient: number
}

/**
 * `claimed`: the job is this replica's. `asked`: it was asked to end and is not to be run: whoever claimed moves it to its end.
 * `limited`: one of its limits holds it back, until `listAdmitted` gives it. `lost`: this replica is not among those that live, and
 * gets none.
 */
export type Claim =
  | { readonly kind: 'claimed'; readonly record: JobRecord }
  | { readonly kind: 'asked'; readonly record: JobRecord; readonly request: StoredRequest }
  | { readonly kind: 'owned'; readonly owner: string }
  | { readonly kind: 'ended' | 'unknown' | 'limited' | 'lost' }

/**
 * `sealed`: the job's own outcome stands. `asked`: it was asked to end before, and that is to be followed first. `fenced`: the job
 * is not this replica's any more.
 */
export type Seal = { readonly kind: 'sealed' | 'fenced' } | { readonly kind: 'asked'; readonly request: StoredRequest }

export interface AdmittedJob {
  readonly ref: JobRef
  readonly priority: number
}

/** `ended`: also where the job is being cancelled, or is not there. `lost`: this replica is not among those that live. */
export type Hold = 'held' | 'ended' | 'lost'

/** `joined`: it was not in the list before, or had been taken out. `dead`: another clears up after it, and it does not count. */
export type Beat = 'joined' | 'kept' | 'dead'

/**
 * What several replicas decide about one job: who runs it, whether it was asked to end, who holds it; and which of them live.
 * Each method is one step in Redis, safe to be made twice, and rejects with a `StoreError` where that is away; what was asked
 * then may have been done. Times are by Redis' clock.
 */
export class SharedJobs {
  readonly replica: string
  readonly #connection: RedisConnection
  readonly #prefix: string
  readonly #claims = new Gathered<JobRef, unknown>(
    (refs) => this.#runOnAll(CLAIM, refs, [this.replica, FIELDS.length, ...FIELDS, ...refs.map(refName)]),
    CLAIMS_AT_ONCE,
  )
  readonly #seals = new Gathered<JobRef, unknown>((refs) => this.#runOnAll(SEAL, refs, [this.replica]), SEALS_AT_ONCE)
  readonly #notes = new Gathered<JobRef, unknown>((refs) => {
    const names = refs.flatMap((ref) => [refName(ref), queueName(ref)])
    return this.#runOnAll(NOTE_QUEUED, refs, names)
  }, NOTES_AT_ONCE)

  constructor(connection: RedisConnection, prefix: string, replica: string) {
    this.#connection = connection
    this.#prefix = prefix
    this.replica = replica
  }

  /** Gives Redis the scripts, now and after each time that the connection was lost, so that calls are answered in their order. */
  async start(): Promise<void> {
    const load = (): readonly Promise<unknown>[] =>
      SCRIPTS.map(({ text }) => this.#connection.call('SCRIPT', ['LOAD', text]))
    this.#connection.onReady(() => {
      // Calls that need one bring it along.
      for (const loaded of load()) loaded.catch(() => undefined)
    })
    await Promise.all(load())
  }

  /** Asks for the end of a job. Cancel beats stop; otherwise the first stands. What is accepted is followed, whoever dies. */
  async ask(ref: JobRef, request: StoredRequest): Promise<Asked> {
    return askedOf(await this.#runOn(ref, ASK, [refName(ref), JSON.stringify(request)]))
  }

  /** The same; where the job is not known, the request is remembered for the first that is created with its id. */
  async askOrRemember(ref: JobRef, request: StoredRequest, options: RememberOptions): Promise<Asked | Remembered> {
    const remember = rememberArguments(keyOf(ref), options)
    const answer = await this.#runOn(ref, ASK, [refName(ref), JSON.stringify(request), ...remember])
    return rememberedOf(answer) ?? askedOf(answer)
  }

  /** Remembers a request for every job that is created with this group. */
  async rememberGroup(
    tenant: string,
    group: GroupId,
    request: StoredRequest,
    options: RememberOptions,
  ): Promise<Remembered> {
    const remember = rememberArguments(groupKeyOf(tenant, group), options)
    const answer = await this.#run(ASK, 'tombstones', ['', JSON.stringify(request), ...remember])
    return rememberedOf(answer) ?? malformed(answer)
  }

  /**
   * Takes a job out of the queue. Twice is answered like once until the job is moved: a replica tells its own runs apart, and one
   * that got no answer claims again, since the job may be its own.
   */
  async claim(ref: JobRef): Promise<Claim> {
    const [kind, second, third] = partsOf(await this.#claims.call(ref))
    switch (kind) {
      case 'claimed':
        return { kind, record: requiredRecord(second) }
      case 'asked':
        return { kind, record: requiredRecord(second), request: parseRequest(String(third)) }
      case 'owned':
        return { kind, owner: String(second) }
      case 'ended':
      case 'unknown':
      case 'limited':
      case 'lost':
        return { kind }
      default:
        return malformed(kind, second)
    }
  }

  /** A job that `owner` took and has not begun waits for any replica again. `false` where it is not such a one. */
  async giveBack(ref: JobRef, owner: string, waitsUntil?: number): Promise<boolean> {
    const until = waitsUntil === undefined ? [] : [waitsUntil]
    return (await this.#runOn(ref, GIVE_BACK, [refName(ref), owner, ...until])) === 1
  }

  /** Before a job of this replica's ends by itself: from here on it is too late to ask. */
  async seal(ref: JobRef): Promise<Seal> {
    const [kind, second] = partsOf(await this.#seals.call(ref))
    if (kind === 'asked') return { kind, request: parseRequest(String(second)) }
    return kind === 'sealed' || kind === 'fenced' ? { kind } : malformed(kind, second)
  }

  /** The request that the job does not follow yet. */
  async asked(ref: JobRef): Promise<StoredRequest | undefined> {
    const request = await this.#connection.call('HGET', [this.#jobKey(ref), 'asked'])
    return typeof request === 'string' ? parseRequest(request) : undefined
  }

  /** This replica has holders of the job. `from`: those that were this replica's, which is dead. */
  async hold(ref: JobRef, from?: string): Promise<Hold> {
    const other = from === undefined ? [] : [from]
    const kind = await this.#runOn(ref, HOLD, [refName(ref), this.replica, ...other])
    return kind === 'held' || kind === 'ended' || kind === 'lost' ? kind : malformed(kind)
  }

  /**
   * This replica has no holders of the job any more. The record where no other has one either and the job has not ended; its
   * `input` is null. What follows from that is the others' to do where this replica dies before it lets go of the job.
   */
  async leave(ref: JobRef): Promise<JobRecord | undefined> {
    const values = await this.#runOn(ref, LEAVE, [refName(ref), this.replica, ...SHORT_FIELDS])
    return values === null ? undefined : shortRecordOf(valuesOf(values))
  }

  /** What followed from the leave of the last holder has been done. */
  async letGo(ref: JobRef): Promise<void> {
    await this.#runOn(ref, LET_GO, [refName(ref), this.replica])
  }

  /** This replica lives, and counts as living for `leaseMs`. */
  async beat(leaseMs: number): Promise<Beat> {
    const kind = await this.#run(BEAT, 'replicas', [this.replica, leaseMs])
    return kind === 'joined' || kind === 'kept' || kind === 'dead' ? kind : malformed(kind)
  }

  /** This replica ends: the others need not wait for its lease to clear up after it. */
  async retire(): Promise<void> {
    await this.#connection.call('ZADD', [`${this.#prefix}replicas`, 'XX', 0, this.replica])
  }

  /** Which replica owns a job, and which have holders of it. */
  async whoHas(ref: JobRef): Promise<{ readonly owner: string | undefined; readonly holders: readonly string[] }> {
    const [owner, holders] = await Promise.all([
      this.#connection.call('HGET', [this.#jobKey(ref), 'owner']),
      this.#connection.call('HKEYS', [`${this.#prefix}holders:${refName(ref)}`]),
    ])
    return { owner: typeof owner === 'string' && owner !== '' ? owner : undefined, holders: textsOf(holders) }
  }

  /**
   * Replicas that are dead, to be cleared up after: `ownedBy`, `heldBy`, then `forgetReplica`. No other gets them for `clearMs`,
   * and one does after that unless they were forgotten.
   */
  async takeDead(clearMs: number): Promise<readonly string[]> {
    return textsOf(await this.#run(TAKE_DEAD, 'replicas', [this.replica, clearMs]))
  }

  /** The jobs that a replica owns and that have not ended. */
  ownedBy(replica: string): Promise<readonly JobRef[]> {
    return this.#members('owned', replica)
  }

  /** The jobs that a replica has holders of. */
  heldBy(replica: string): Promise<readonly JobRef[]> {
    return this.#members('held', replica)
  }

  /** `false` where it still owns or holds jobs. Only then it may come back. */
  async forgetReplica(replica: string): Promise<boolean> {
    return (await this.#run(FORGET_REPLICA, 'replicas', [replica])) === 1
  }

  /** Jobs that were recorded `ageMs` ago or earlier and never noted as being in the queue, the oldest first. */
  listUnqueued(ageMs: number, limit: number): Promise<readonly JobRef[]> {
    return this.#due('unqueued', ageMs, limit)
  }

  /** The job was put into the queue. Where it does not wait there, it stays noted as being in none until it is claimed. */
  async noteQueued(ref: JobRef): Promise<void> {
    await this.#notes.call(ref)
  }

  /** The job may have left the queue before anybody claimed it; where that is so, `listUnqueued` gives it in time. */
  async noteUnqueued(ref: JobRef): Promise<void> {
    await this.#runOn(ref, NOTE_UNQUEUED, [refName(ref)])
  }

  /**
   * Jobs that a limit has held back and that may run now, of limits with these names, or of any. They count as being in no queue,
   * and keep their place among those of their name until they are claimed.
   */
  async listAdmitted(limits: readonly string[], limit: number): Promise<readonly AdmittedJob[]> {
    const found = textsOf(await this.#run(ADMIT, 'limits', [limit, ...limits.map(limitName)]))
    return Array.from({ length: found.length / 2 }, (_, index) => {
      const [name = '', policy = ''] = found.slice(2 * index)
      return { ref: parseRefName(name), priority: parsePolicy(policy).priority }
    })
  }

  /** How many jobs limits hold back. */
  async countBlocked(): Promise<number> {
    return Number(await this.#connection.call('SCARD', [`${this.#prefix}blocked`]))
  }

  /** Jobs that still wait in the queue and should not any more, the longest overdue first. */
  listOverdue(limit: number): Promise<readonly JobRef[]> {
    return this.#due('waits', 0, limit)
  }

  async #due(kind: string, ageMs: number, limit: number): Promise<readonly JobRef[]> {
    return textsOf(await this.#run(DUE, kind, [ageMs, limit])).map(parseRefName)
  }

  async #members(kind: string, replica: string): Promise<readonly JobRef[]> {
    return textsOf(await this.#connection.call('SMEMBERS', [`${this.#prefix}${kind}:${replica}`])).map(parseRefName)
  }

  async #runOnAll(script: Script, refs: readonly JobRef[], args: readonly Argument[]): Promise<readonly unknown[]> {
    const keys = refs.map((ref) => this.#jobKey(ref))
    return partsOf(await this.#connection.run(script, keys, [this.#prefix, ...args]))
  }

  #runOn(ref: JobRef, script: Script, args: readonly Argument[]): Promise<unknown> {
    return this.#connection.run(script, [this.#jobKey(ref)], [this.#prefix, ...args])
  }

  #run(script: Script, kind: string, args: readonly Argument[]): Promise<unknown> {
    return this.#connection.run(script, [`${this.#prefix}${kind}`], [this.#prefix, ...args])
  }

  #jobKey(ref: JobRef): string {
    return `${this.#prefix}job:${refName(ref)}`
  }
}

function rememberArguments(name: string, options: RememberOptions): readonly Argument[] {
  const { client, keepMs, maxInAll, maxOfClient } = options
  return [name, client, keepMs, maxInAll, maxOfClient]
}

function askedOf(answer: unknown): Asked {
  const [kind, second] = partsOf(answer)
  switch (kind) {
    case 'queued':
      return { kind, request: parseRequest(String(second)) }
    case 'owned':
      return { kind, owner: String(second) }
    case 'unknown':
    case 'ended':
    case 'sealed':
      return { kind }
    default:
      return malformed(kind)
  }
}

function rememberedOf(answer: unknown): Remembered | undefined {
  const [kind, request, expiresAt] = partsOf(answer)
  if (kind === 'full') return { kind }
  if (kind !== 'remembered') return undefined
  return { kind, request: parseRequest(String(request)), expiresAt: Number(expiresAt) }
}

function requiredRecord(values: unknown): JobRecord {
  return recordOf(valuesOf(values)) ?? malformed(values)
}

function malformed(answer: unknown, why: unknown = ''): never {
  throw new StoreError(
    `the answer of a script in Redis must be one of those that it has, got ${String(answer)} ${String(why)}`,
  )
}

// What the scripts answer with, as ioredis gives it.

function partsOf(answer: unknown): readonly unknown[] {
  return answer as readonly unknown[]
}

function valuesOf(answer: unknown): readonly (string | null)[] {
  return answer as readonly (string | null)[]
}

function textsOf(answer: unknown): readonly string[] {
  return answer as readonly string[]
}
