import { randomUUID } from 'node:crypto'
import type { StoredTombstone } from '../job/cancellation.ts'
import type { GroupId } from '../job/id.ts'
import type { JobRef } from '../job/key.ts'
import type { JobRecord } from '../job/record.ts'
import type { NumberedRequest } from '../job/request.ts'
import { isTerminal, STATUSES } from '../job/status.ts'
import {
  type ChangeResult,
  type EventBatch,
  type JobStore,
  type JobStoreLimits,
  type ListFilter,
  type Lookup,
  type StoreChange,
  StoreError,
} from '../store/JobStore.ts'
import { CommitLine } from './CommitLine.ts'
import { argumentsOf, isAlwaysTaken } from './changes.ts'
import { indexNames, parseActiveName, parseRefName, placeName, refName, tenantName, valuesName } from './names.ts'
import {
  type Argument,
  openRedisConnection,
  type RedisConnection,
  type RedisConnectionOptions,
} from './RedisConnection.ts'
import { readLog } from './readLog.ts'
import { FIELDS, parseJobRequest, parseRequest, recordOf, SHORT_FIELDS, shortRecordOf } from './records.ts'
import { assertKeepsKeys, assertUsable } from './requirements.ts'
import { SharedJobs } from './SharedJobs.ts'
import { LIST } from './scripts.ts'

export interface RedisJobStoreOptions extends JobStoreLimits, RedisConnectionOptions {
  /** What all keys begin with. Default `tether:`. */
  readonly prefix?: string
  /** The id of this replica. By default a new one. */
  readonly replica?: string
}

/** What this process has of the jobs in Redis; both halves use one connection, which the store closes. */
export interface RedisJobs {
  readonly store: JobStore
  readonly shared: SharedJobs
  readonly connection: RedisConnection
}

/** Inputs may be 1 MiB each. */
const RECORDS_AT_ONCE = 32

/** About 2 µs each, and Redis does nothing else meanwhile; more than a page that asks for one thing looks at. */
const LOOKED_AT_ONCE = 2000

/** After all keys that begin with a prefix: no text in UTF-8 has this byte. */
const LAST_BYTE = Buffer.from([0xff])

/**
 * Jobs in one Redis (7 or later, or Valkey) that any number of processes write. It differs from the embedded store in this:
 *
 * - A commit is one script: all its changes or none, and no other process sees the half of it. For that all keys must be on one
 *   server. On Redis Cluster they are where the prefix has a hash tag (`{tether}:`), then in one slot; spread over the slots, each
 *   job's keys would need a tag of their own, a commit would be one script a job, no longer one transaction, and the lists,
 *   tombstones and idempotency keys, which belong to no one job, would be written beside it and mended after a crash.
 * - A commit whose answer was lost rejects with an `UncertainCommitError`, which tells later what became of it. Where the
 *   connection is back at the second try there is none: the commit is sent again and written once.
 * - While Redis is away every call rejects at once.
 * - What a commit resolved survives the death of this process. What survives that of Redis is what its persistence keeps: with
 *   `appendonly yes` and `appendfsync everysec` a power failure takes the last second. Data that is lost is not noticed here.
 * - When ids that are spent and tombstones expire is told by Redis' clock.
 * - Where Redis has used up `maxmemory`, changes are refused, but for those that end jobs or give memory back.
 */
class RedisJobStore implements JobStore {
  readonly #connection: RedisConnection
  readonly #commits: CommitLine
  readonly #prefix: string
  #closed: Promise<void> | undefined

  constructor(connection: RedisConnection, commits: CommitLine, prefix: string) {
    this.#connection = connection
    this.#commits = commits
    this.#prefix = prefix
  }

  async commit(changes: readonly StoreChange[]): Promise<readonly ChangeResult[]> {
    this.#assertOpen()
    if (changes.length === 0) return []
    return this.#commits.commit(changes.flatMap(argumentsOf), changes.some(isAlwaysTaken))
  }

  async lookup(ref: JobRef): Promise<Lookup> {
    // In this order: an id whose job is deleted meanwhile is not taken for one that never was.
    const [record, spent] = await Promise.all([
      this.#record(ref),
      this.#call('EXISTS', [this.#key('spent', refName(ref))]),
    ])
    if (record !== undefined) return { kind: 'found', record }
    return { kind: spent === 1 ? 'spent' : 'unknown' }
  }

  async lookupKinds(refs: readonly JobRef[]): Promise<readonly Lookup['kind'][]> {
    return Promise.all(
      refs.map(async (ref) => {
        if ((await this.#call('EXISTS', [this.#key('job', refName(ref))])) === 1) return 'found'
        return (await this.#call('EXISTS', [this.#key('spent', refName(ref))])) === 1 ? 'spent' : 'unknown'
      }),
    )
  }

  async findByIdempotencyKey(tenant: string, key: string): Promise<JobRecord | undefined> {
    const name = await this.#call('HGET', [this.#key('keys', tenantName(tenant)), key])
    if (typeof name !== 'string') return undefined
    const record = await this.#record(parseRefName(name))
    // It may be another by now.
    return record?.idempotencyKey === key ? record : undefined
  }

  async list(filter: ListFilter): Promise<readonly JobRecord[]> {
    this.#assertOpen()
    const { tenant, task, group, parentId, statuses = STATUSES, limit, before } = filter
    const statusSet = [...new Set(statuses)]
    if (statusSet.length === 0) return []
    const index = indexNames(filter).at(-1) ?? ''
    // What the index does not say.
    const filters = [
      group === undefined || parentId === undefined ? [] : ['group', group],
      task === undefined || (parentId ?? group) === undefined ? [] : ['task', task],
    ].flat()
    const keys = statusSet.map((status) => this.#key('index', `${index}:${status}`))
    const jobs = this.#key('job', `${tenantName(tenant)}:`)
    const fields = [filters.length, ...filters, SHORT_FIELDS.length, ...SHORT_FIELDS]
    const records: JobRecord[] = []
    let last = before === undefined ? '' : placeName(before)
    do {
      const page = [jobs, limit - records.length, last === '' ? '+' : `(${last}`, LOOKED_AT_ONCE]
      const [next, rows] = pageOf(await this.#connection.run(LIST, keys, [...page, ...fields]))
      records.push(...rows.map(shortRecordOf))
      last = next
    } while (last !== '')
    return records
  }

  async findListed(ref: JobRef): Promise<JobRecord | undefined> {
    const values = valuesOf(await this.#call('HMGET', [this.#key('job', refName(ref)), ...SHORT_FIELDS]))
    return values[0] === null ? undefined : shortRecordOf(values)
  }

  async countEnded(tenant: string, group: GroupId): Promise<number> {
    const index = indexNames({ tenant, group }).at(-1) ?? ''
    const ended = STATUSES.filter(isTerminal)
    const counts = await Promise.all(
      ended.map((status) => this.#call('ZCARD', [this.#key('index', `${index}:${status}`)])),
    )
    return counts.reduce<number>((sum, count) => sum + Number(count), 0)
  }

  async listActive(): Promise<readonly JobRecord[]> {
    const refs = textsOf(await this.#call('ZRANGE', [this.#key('active'), 0, -1])).map(parseActiveName)
    const found: JobRecord[] = []
    for (let start = 0; start < refs.length; start += RECORDS_AT_ONCE) {
      const records = await Promise.all(refs.slice(start, start + RECORDS_AT_ONCE).map((ref) => this.#record(ref)))
      // Some may have ended meanwhile.
      for (const record of records) {
        if (record !== undefined && !isTerminal(record.state.status)) found.push(record)
      }
    }
    return found
  }

  async readEvents(ref: JobRef, after: number, maxBytes: number): Promise<readonly EventBatch[]> {
    this.#assertOpen()
    return readLog(this.#connection, this.#key('log', refName(ref)), after, maxBytes)
  }

  async listEndedBefore(time: number, limit: number): Promise<readonly JobRef[]> {
    const range = ['-inf', `(${time}`, 'BYSCORE', 'LIMIT', 0, limit]
    return textsOf(await this.#call('ZRANGE', [this.#key('ended'), ...range])).map(parseRefName)
  }

  async listRequests(
    ref: JobRef,
    { after, limit }: { readonly after: number; readonly limit: number },
  ): Promise<readonly NumberedRequest[]> {
    const page = [this.#key('requests', refName(ref)), `(${after}-0`, '+', 'COUNT', limit]
    return entriesOf(await this.#call('XRANGE', page)).map(([id, [, json]]) => ({
      number: Number(id.slice(0, id.indexOf('-'))),
      ...parseJobRequest(json ?? ''),
    }))
  }

  async listTombstones(): Promise<readonly StoredTombstone[]> {
    const [time, kept, ends] = await Promise.all([
      this.#call('TIME', []),
      this.#call('HGETALL', [this.#key('tombstones')]),
      this.#call('ZRANGE', [this.#key('tombstones:ends'), 0, -1, 'WITHSCORES']),
    ])
    const [seconds, microseconds] = textsOf(time)
    const now = Number(seconds) * 1000 + Number(microseconds) / 1000
    const requests = pairsOf(kept)
    // One that came or went between the two has no part in one of them.
    return [...pairsOf(ends)].flatMap(([name, expiresAt]) => {
      const request = requests.get(name)
      if (request === undefined || Number(expiresAt) <= now) return []
      return [{ name, request: parseRequest(request), expiresAt: Number(expiresAt) }]
    })
  }

  async getValue(tenant: string, task: string, key: string): Promise<string | undefined> {
    const json = await this.#call('HGET', [this.#key('values', valuesName(tenant, task)), key])
    return typeof json === 'string' ? json : undefined
  }

  async listValueKeys(
    tenant: string,
    task: string,
    page: { readonly prefix: string; readonly after: string; readonly limit: number },
  ): Promise<readonly string[]> {
    const { prefix, after, limit } = page
    // Redis compares bytes, and in UTF-8 they sort as code points do.
    const isBefore = Buffer.compare(Buffer.from(after), Buffer.from(prefix)) < 0
    const first = isBefore ? `[${prefix}` : `(${after}`
    const last = prefix === '' ? '+' : Buffer.concat([Buffer.from(`(${prefix}`), LAST_BYTE])
    const key = this.#key('valuekeys', valuesName(tenant, task))
    return textsOf(await this.#call('ZRANGE', [key, first, last, 'BYLEX', 'LIMIT', 0, limit]))
  }

  async check(): Promise<void> {
    const count = await this.#call('INCR', [this.#key('probe')])
    if (typeof count !== 'number') {
      throw new StoreError(`the Redis at ${this.#connection.address} must give back the probe that was written`)
    }
    await assertKeepsKeys(this.#connection)
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    await this.#commits.drain()
    // Behind everything that was called, so that reads come through too. Redis forgets a session by itself in the end.
    await this.#commits.end().catch(() => undefined)
    await this.#connection.close()
  }

  async #record(ref: JobRef): Promise<JobRecord | undefined> {
    const values = await this.#call('HMGET', [this.#key('job', refName(ref)), ...FIELDS])
    return recordOf(valuesOf(values))
  }

  async #call(name: string, args: readonly Argument[]): Promise<unknown> {
    this.#assertOpen()
    return this.#connection.call(name, args)
  }

  #key(kind: string, name?: string): string {
    return name === undefined ? `${this.#prefix}${kind}` : `${this.#prefix}${kind}:${name}`
  }

  #assertOpen(): void {
    if (this.#closed !== undefined) throw new StoreError(`the store at ${this.#connection.address} is closed`)
  }
}

/** Opens the store alone; otherwise like `openRedisJobs`. */
export async function openRedisJobStore(options: RedisJobStoreOptions): Promise<JobStore> {
  return (await openRedisJobs(options)).store
}

/**
 * Opens what is in the Redis at `url`.
 * @throws {StoreError} where nothing answers there at the first try, or it may not be used: too old, or set to throw away keys.
 */
export async function openRedisJobs(options: RedisJobStoreOptions): Promise<RedisJobs> {
  const { prefix = 'tether:', replica = randomUUID(), maxLogBytes } = options
  const connection = await openRedisConnection(options)
  try {
    await assertUsable(connection, prefix)
    const commits = new CommitLine(connection, { prefix, maxLogBytes, replica })
    await commits.start()
    const shared = new SharedJobs(connection, prefix, replica)
    await shared.start()
    return { store: new RedisJobStore(connection, commits, prefix), shared, connection }
  } catch (error) {
    await connection.close()
    throw error
  }
}

// What the commands above answer with, as ioredis gives it.

function valuesOf(answer: unknown): readonly (string | null)[] {
  return answer as readonly (string | null)[]
}

/** What list.lua answers. */
function pageOf(answer: unknown): readonly [next: string, rows: readonly (readonly (string | null)[])[]] {
  const [next, ...rows] = answer as readonly [string, ...(readonly (string | null)[])[]]
  return [next, rows]
}

function entriesOf(answer: unknown): readonly (readonly [id: string, fields: readonly string[]])[] {
  return answer as readonly (readonly [string, readonly string[]])[]
}

function textsOf(answer: unknown): readonly string[] {
  return answer as readonly string[]
}

/** Names and values that stand one behind the other. */
function pairsOf(answer: unknown): ReadonlyMap<string, string> {
  const texts = textsOf(answer)
  return new Map(
    texts.flatMap((name, index): [string, string][] => (index % 2 === 0 ? [[name, texts[index + 1] ?? '']] : [])),
  )
}
