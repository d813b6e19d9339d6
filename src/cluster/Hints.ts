import type { Clock } from '../clock.ts'
import type { StoredRequest } from '../job/cancellation.ts'
import type { JobRef } from '../job/key.ts'
import type { HintCounts } from '../jobs/Replicas.ts'
import { StoreError } from '../store/JobStore.ts'
import { parseRefName, refName } from './names.ts'
import { openRedisConnection, type RedisConnection, type RedisConnectionOptions } from './RedisConnection.ts'
import { RedisFailure } from './RedisFailure.ts'
import { parseRequest } from './records.ts'

/**
 * `ask`: somebody asked for the end of the job. `policy`: its policy was changed. `lease`: the client of one of its holders, which
 * the receiver has, is alive.
 */
const HINT_KINDS = ['ask', 'policy', 'lease'] as const

/** What one process tells another of a job that it runs. The job's record has the rest. */
export interface Hint {
  readonly kind: (typeof HINT_KINDS)[number]
  readonly ref: JobRef
  /** Of an `ask`: what it was asked by, so that it need not be read. */
  readonly request?: StoredRequest
  /** Of a `lease`. */
  readonly holderId?: string
}

export interface ReceivedHint extends Hint {
  /** The replica that sent it. */
  readonly from: string
}

export interface HintsOptions extends Omit<RedisConnectionOptions, 'commandTimeoutMs'> {
  /** Where hints are sent. It stays open. */
  readonly connection: RedisConnection
  readonly prefix: string
  /** This process; unique to one start. */
  readonly replica: string
  readonly clock: Clock
}

/** What is not read is kept up to this. Its reader is dead, or will look at its jobs. */
const MAX_UNREAD = 10_000
const KEPT_MS = 3_600_000

const READ_AT_ONCE = 100
/** So many that were read are taken out of the stream together; fewer when nothing comes for a while. */
const TRIMMED_AT_ONCE = 100
const BLOCK_MS = 1000
/** A read that is cut off may never settle: what takes longer than this breaks the connection. */
const READ_TIMEOUT_MS = BLOCK_MS + 1500

/** After a read that failed. */
const PAUSE_MS = 50
const REFUSED_PAUSE_MS = 1000

/**
 * Hints between processes, that go through a stream of the one who gets them. Whoever is cut off reads on from its last place when
 * it is back. A hint may still be lost, with the data of Redis or with a process: who must not miss one looks for itself.
 */
export class Hints {
  readonly #reading: RedisConnection
  readonly #connection: RedisConnection
  readonly #prefix: string
  readonly #replica: string
  readonly #clock: Clock
  readonly #onTrouble: (error: StoreError) => void
  readonly #handlers = new Set<(hint: ReceivedHint) => void>()
  /** The number of the last hint to each receiver, who finds by it what was lost. */
  readonly #sentNumbers = new Map<string, number>()
  readonly #counts = { sent: 0, failed: 0, received: 0, lost: 0 }
  /** The number of the last hint of each sender: one that arrived and was not answered is sent again. */
  readonly #takenNumbers = new Map<string, number>()
  #place = '0-0'
  /** How many were read and are still in the stream. */
  #untrimmed = 0
  #readMs: number
  #isReading = false
  #endPause = (): void => undefined
  #closed: Promise<void> | undefined

  private constructor(reading: RedisConnection, options: HintsOptions) {
    this.#reading = reading
    this.#connection = options.connection
    this.#prefix = options.prefix
    this.#replica = options.replica
    this.#clock = options.clock
    this.#onTrouble = options.onTrouble ?? (() => undefined)
    this.#readMs = options.clock.monotonicMs()
  }

  /** @throws {StoreError} where Redis is not there at the first try. */
  static async open(options: HintsOptions): Promise<Hints> {
    const reading = await openRedisConnection({ ...options, commandTimeoutMs: READ_TIMEOUT_MS })
    return new Hints(reading, options)
  }

  /** How long ago the stream was last read; about a second at the most while all is well and somebody listens. */
  get unreadForMs(): number {
    return this.#clock.monotonicMs() - this.#readMs
  }

  /** What was sent and received since the start. `lost`: numbers of senders that never came here. */
  get counts(): HintCounts {
    return { ...this.#counts }
  }

  /** Settles with whether it was sent, and never rejects. To this process itself nothing is, nor after `close`. */
  async send(replica: string, { kind, ref, request, holderId = '' }: Hint): Promise<boolean> {
    if (replica === this.#replica || this.#closed !== undefined) return false
    const number = (this.#sentNumbers.get(replica) ?? 0) + 1
    this.#sentNumbers.set(replica, number)
    const key = this.#keyOf(replica)
    const fields = [
      'kind',
      kind,
      'ref',
      refName(ref),
      'from',
      this.#replica,
      'number',
      number,
      'holder',
      holderId,
      'request',
      request === undefined ? '' : JSON.stringify(request),
    ]
    const sent = this.#connection.call('XADD', [key, 'MAXLEN', '~', MAX_UNREAD, '*', ...fields])
    const expiring = this.#connection.call('PEXPIRE', [key, KEPT_MS])
    const [result] = await Promise.allSettled([sent, expiring])
    const isSent = result.status === 'fulfilled'
    if (isSent) this.#counts.sent += 1
    else this.#counts.failed += 1
    return isSent
  }

  /**
   * Calls `handler`, which must not throw, with each hint; the first one also with those that came before. Twice is once.
   * Returns its undo.
   */
  onHint(handler: (hint: ReceivedHint) => void): () => void {
    this.#handlers.add(handler)
    if (!this.#isReading) void this.#read()
    return () => {
      this.#handlers.delete(handler)
    }
  }

  /** Settles when nothing is open any more. Twice is harmless. */
  close(): Promise<void> {
    this.#closed ??= this.#reading.close()
    this.#endPause()
    return this.#closed
  }

  #keyOf(replica: string): string {
    return `${this.#prefix}hints:${replica}`
  }

  async #read(): Promise<void> {
    this.#isReading = true
    const key = this.#keyOf(this.#replica)
    while (this.#closed === undefined) {
      try {
        const args = ['COUNT', READ_AT_ONCE, 'BLOCK', BLOCK_MS, 'STREAMS', key, this.#place]
        const entries = entriesOf(await this.#reading.call('XREAD', args))
        this.#readMs = this.#clock.monotonicMs()
        for (const entry of entries) this.#take(entry)
        this.#untrimmed += entries.length
        if (this.#untrimmed >= TRIMMED_AT_ONCE || entries.length === 0) this.#trim(key)
      } catch (error) {
        if (!(error instanceof RedisFailure)) throw error
        if (error.fate === 'refused') this.#onTrouble(error)
        await this.#pause(error.fate === 'refused' ? REFUSED_PAUSE_MS : PAUSE_MS)
      }
    }
  }

  /** All but the last one. Where it fails they stay until others are read, or nobody has sent any for an hour. */
  #trim(key: string): void {
    if (this.#untrimmed === 0) return
    this.#untrimmed = 0
    this.#connection.call('XTRIM', [key, 'MINID', this.#place]).catch((error: unknown) => {
      if (!(error instanceof RedisFailure)) throw error
    })
  }

  #take([id, fields]: Entry): void {
    this.#place = id
    const hint = hintOf(fields)
    if (hint === undefined || this.#closed !== undefined) return
    const { from, number, ...rest } = hint
    const last = this.#takenNumbers.get(from) ?? 0
    if (from === this.#replica || number <= last) return
    this.#takenNumbers.set(from, number)
    this.#counts.received += 1
    this.#counts.lost += number - last - 1
    for (const handler of this.#handlers) handler({ ...rest, from })
  }

  #pause(ms: number): Promise<void> {
    if (this.#closed !== undefined) return Promise.resolve()
    return new Promise((resolve) => {
      const cancelTimer = this.#clock.schedule(ms, resolve)
      this.#endPause = () => {
        cancelTimer()
        resolve()
      }
    })
  }
}

type Entry = readonly [id: string, fields: readonly string[]]

/** What XREAD answers for one stream; null where nothing came. */
function entriesOf(answer: unknown): readonly Entry[] {
  const streams = answer as readonly (readonly [key: string, entries: readonly Entry[]])[] | null
  return streams?.[0]?.[1] ?? []
}

/** Undefined where there is none, or one of another version: then it is read. */
function requestOf(text: string | undefined): StoredRequest | undefined {
  if (text === undefined || text === '') return undefined
  try {
    return parseRequest(text)
  } catch (error) {
    if (error instanceof StoreError) return undefined
    throw error
  }
}

/** Undefined for a kind of a later version. */
function hintOf(fields: readonly string[]): (ReceivedHint & { readonly number: number }) | undefined {
  const values = new Map<string, string>()
  for (let n = 0; n + 1 < fields.length; n += 2) values.set(fields[n] ?? '', fields[n + 1] ?? '')
  const kind = HINT_KINDS.find((name) => name === values.get('kind'))
  const ref = values.get('ref')
  const from = values.get('from')
  if (kind === undefined || ref === undefined || from === undefined) return undefined
  const holderId = values.get('holder') ?? ''
  const number = Number(values.get('number'))
  const request = requestOf(values.get('request'))
  return {
    kind,
    ref: parseRefName(ref),
    from,
    number,
    ...(holderId === '' ? {} : { holderId }),
    ...(request === undefined ? {} : { request }),
  }
}
