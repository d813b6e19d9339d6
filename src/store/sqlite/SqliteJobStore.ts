import type { StatementSync } from 'node:sqlite'
import { type Clock, systemClock } from '../../clock.ts'
import type { StoredTombstone } from '../../job/cancellation.ts'
import type { GroupId } from '../../job/id.ts'
import { type JobRef, keyOf } from '../../job/key.ts'
import type { JobRecord } from '../../job/record.ts'
import type { NumberedRequest } from '../../job/request.ts'
import { isTerminal } from '../../job/status.ts'
import { unreachable } from '../../job/unreachable.ts'
import {
  type ChangeResult,
  type EventBatch,
  type JobStore,
  type JobStoreLimits,
  type ListFilter,
  type Lookup,
  type StoreChange,
  StoreError,
} from '../JobStore.ts'
import { BackgroundErrors } from './BackgroundErrors.ts'
import { Checkpointer } from './Checkpointer.ts'
import { type JobList, openJobList } from './JobList.ts'
import { type JobTable, openJobTable } from './JobTable.ts'
import { type LiveJob, LiveJobs } from './LiveJobs.ts'
import { type LogSweeper, openLogSweeper } from './LogSweeper.ts'
import { type LogTable, openLogTable } from './LogTable.ts'
import { BOUND_OF_JOB, BOUND_OF_STRAY, openRequestTable, type RequestTable } from './RequestTable.ts'
import { openSpentIds, type SpentIds } from './SpentIds.ts'
import { type Durability, openSqliteFile, type SqliteFile } from './SqliteFile.ts'
import { openTombstoneTable, type TombstoneTable } from './TombstoneTable.ts'
import { openValueTable, type ValueTable } from './ValueTable.ts'

export interface SqliteJobStoreOptions extends JobStoreLimits {
  /** The database's file; its folder must be there. Made where it is not. */
  readonly path: string
  readonly durability: Durability
  /** Says whether a spent id is free again, and measures slices of background work. */
  readonly clock?: Clock
  /** Told when work in the background failed (checkpoints, removing logs). The next `check` rejects with it, and tries again. */
  readonly onBackgroundError?: (error: Error) => void
}

type ChangeOf<K extends StoreChange['kind']> = Extract<StoreChange, { kind: K }>
type Refusal = Extract<ChangeResult, { ok: false }>

const DONE: ChangeResult = { ok: true }

interface Parts {
  readonly file: SqliteFile
  readonly jobs: JobTable
  readonly live: LiveJobs
  readonly log: LogTable
  readonly list: JobList
  readonly spent: SpentIds
  readonly requests: RequestTable
  readonly values: ValueTable
  readonly tombstones: TombstoneTable
  readonly probe: StatementSync
}

/** About what a transaction adds to the write-ahead log besides the events: pages that it changes are written whole. */
const TRANSACTION_WAL_BYTES = 16 * 1024
const RECORD_WAL_BYTES = 4 * 1024

/**
 * Jobs in one SQLite file that this process alone writes (DirectoryLock.ts). Calls take effect in their order, and within the
 * call, except that commits wait for the end of a checkpoint now and then.
 */
class SqliteJobStore implements JobStore {
  readonly #parts: Parts
  readonly #sweeper: LogSweeper
  readonly #checkpointer: Checkpointer
  readonly #errors: BackgroundErrors
  readonly #clock: Clock
  #isClosed = false

  constructor(parts: Parts, sweeper: LogSweeper, checkpointer: Checkpointer, errors: BackgroundErrors, clock: Clock) {
    this.#parts = parts
    this.#sweeper = sweeper
    this.#checkpointer = checkpointer
    this.#errors = errors
    this.#clock = clock
  }

  async commit(changes: readonly StoreChange[]): Promise<readonly ChangeResult[]> {
    const { file, live, log } = this.#open()
    if (changes.length === 0) return []
    // Those that waited go on in their order, and before any that is called later: nothing else runs between.
    while (this.#checkpointer.hold !== undefined) await this.#checkpointer.hold
    try {
      const results = file.transaction(() => {
        const applied = changes.map((change) => this.#apply(change))
        log.writeOldTails()
        return applied
      })
      live.keep()
      this.#checkpointer.wrote(walBytesOf(changes))
      if (changes.some(({ kind }) => kind === 'delete')) this.#sweeper.start()
      return results
    } catch (error) {
      live.restore()
      throw error
    }
  }

  async lookup(ref: JobRef): Promise<Lookup> {
    const { file, jobs, spent } = this.#open()
    return file.guard(() => {
      const record = jobs.record(ref)
      if (record !== undefined) return { kind: 'found', record: this.#current(record) }
      return { kind: spent.isSpent(ref, this.#clock.now()) ? 'spent' : 'unknown' }
    })
  }

  async lookupKinds(refs: readonly JobRef[]): Promise<readonly Lookup['kind'][]> {
    const { file, jobs, spent } = this.#open()
    const now = this.#clock.now()
    return file.guard(() =>
      refs.map((ref) => {
        if (jobs.placeOf(ref) !== undefined) return 'found'
        return spent.isSpent(ref, now) ? 'spent' : 'unknown'
      }),
    )
  }

  async findByIdempotencyKey(tenant: string, key: string): Promise<JobRecord | undefined> {
    const { file, jobs } = this.#open()
    const record = file.guard(() => jobs.recordByKey(tenant, key))
    return record && this.#current(record)
  }

  async list(filter: ListFilter): Promise<readonly JobRecord[]> {
    const { file, list } = this.#open()
    return file.guard(() => list.page(filter)).map((record) => this.#current(record))
  }

  async findListed(ref: JobRef): Promise<JobRecord | undefined> {
    const { file, jobs, list } = this.#open()
    const record = file.guard(() => {
      const place = jobs.placeOf(ref)
      return place && list.record(place.job)
    })
    return record && this.#current(record)
  }

  async countEnded(tenant: string, group: GroupId): Promise<number> {
    const { file, list } = this.#open()
    return file.guard(() => list.countEnded(tenant, group))
  }

  async listActive(): Promise<readonly JobRecord[]> {
    const { file, jobs } = this.#open()
    return file.guard(() => jobs.activeRecords()).map((record) => this.#current(record))
  }

  async readEvents(ref: JobRef, after: number, maxBytes: number): Promise<readonly EventBatch[]> {
    const { file, jobs, live, log } = this.#open()
    return file.guard(() => {
      const found = live.get(keyOf(ref))
      const job = found?.job ?? jobs.placeOf(ref)?.job
      return job === undefined ? [] : log.read(job, found, after, maxBytes)
    })
  }

  async listEndedBefore(time: number, limit: number): Promise<readonly JobRef[]> {
    const { file, jobs } = this.#open()
    return file.guard(() => jobs.endedBefore(time, limit))
  }

  async listRequests(
    ref: JobRef,
    { after, limit }: { readonly after: number; readonly limit: number },
  ): Promise<readonly NumberedRequest[]> {
    const { file, requests } = this.#open()
    return file.guard(() => {
      const isKept = this.#isOfJob(ref) || requests.isStray(ref, this.#clock.now())
      return isKept ? requests.page(ref, after, limit) : []
    })
  }

  async listTombstones(): Promise<readonly StoredTombstone[]> {
    const { file, tombstones } = this.#open()
    return file.guard(() => tombstones.live(this.#clock.now()))
  }

  async getValue(tenant: string, task: string, key: string): Promise<string | undefined> {
    const { file, values } = this.#open()
    return file.guard(() => values.get(tenant, task, key))
  }

  async listValueKeys(
    tenant: string,
    task: string,
    page: { readonly prefix: string; readonly after: string; readonly limit: number },
  ): Promise<readonly string[]> {
    const { file, values } = this.#open()
    return file.guard(() => values.list(tenant, task, page))
  }

  async check(): Promise<void> {
    const { file, probe } = this.#open()
    const written = file.transaction(() => {
      // Where nothing is asked of jobs any more, this is what clears away what was.
      this.#forgetRequests()
      return probe.get()
    })
    if (written === undefined)
      throw new StoreError(`the database ${file.path} must give back the probe that was written`)
    const failure = this.#errors.takeLast()
    this.#sweeper.start()
    if (failure !== undefined) throw failure
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#sweeper.stop()
    // Commits that waited for a checkpoint come through before this goes on: it waits for the same, and asked later.
    await this.#checkpointer.stop()
    this.#parts.file.close()
  }

  #open(): Parts {
    if (this.#isClosed) throw new StoreError(`the database ${this.#parts.file.path} is closed`)
    return this.#parts
  }

  #apply(change: StoreChange): ChangeResult {
    switch (change.kind) {
      case 'create':
        return this.#create(change)
      case 'move':
        return this.#move(change)
      case 'append':
        return this.#append(change)
      case 'policy':
        return this.#setPolicy(change)
      case 'settled':
        return this.#setSettledAt(change)
      case 'delete':
        return this.#delete(change)
      case 'tombstone':
        this.#parts.tombstones.set(change.name, change.tombstone, this.#clock.now())
        return DONE
      case 'value':
        this.#parts.values.set(change.tenant, change.task, change.key, change.json)
        return DONE
      case 'requests':
        return this.#noteRequests(change)
      default:
        return unreachable(change)
    }
  }

  #create({ record, events }: ChangeOf<'create'>): ChangeResult {
    const { jobs, live, log, spent, requests } = this.#parts
    const now = this.#clock.now()
    if (jobs.placeOf(record) !== undefined) return refused('exists')
    if (!spent.take(record, now, () => requests.remove(record))) return refused('spent')
    if (record.idempotencyKey !== undefined && jobs.isKeyTaken(record.tenant, record.idempotencyKey)) {
      return refused('key_taken')
    }
    if (!follows(events, 0)) return refused('sequence')
    requests.adopt(record, now)
    const { status } = record.state
    const job = jobs.insert(record, events.lastSeq)
    const created = live.add({ job, key: keyOf(record), status: isTerminal(status) ? 'queued' : status, lastSeq: 0 })
    log.append(created, events)
    if (isTerminal(status)) this.#end(created)
    return DONE
  }

  #move({ ref, from, state, input, events }: ChangeOf<'move'>): ChangeResult {
    const { jobs, live, log } = this.#parts
    const job = live.get(keyOf(ref))
    if (job === undefined) return this.#refuseNotLive(ref)
    if (job.status !== from) return refused('status')
    if (!follows(events, job.lastSeq)) return refused('sequence')
    jobs.move(job.job, from, state, events.lastSeq)
    if (input !== undefined) jobs.replaceInput(job.job, input)
    log.append(job, events)
    if (isTerminal(state.status)) this.#end(job)
    else live.setStatus(job, state.status)
    return DONE
  }

  #append({ ref, events }: ChangeOf<'append'>): ChangeResult {
    const job = this.#parts.live.get(keyOf(ref))
    if (job === undefined) return this.#refuseNotLive(ref)
    if (job.status === 'cancelling') return refused('status')
    if (!follows(events, job.lastSeq)) return refused('sequence')
    this.#parts.log.append(job, events)
    return DONE
  }

  #setPolicy({ ref, policy }: ChangeOf<'policy'>): ChangeResult {
    const job = this.#parts.live.get(keyOf(ref))
    if (job === undefined) return this.#refuseNotLive(ref)
    this.#parts.jobs.setPolicy(job.job, policy)
    return DONE
  }

  #setSettledAt({ ref, settledAt }: ChangeOf<'settled'>): ChangeResult {
    const place = this.#parts.jobs.placeOf(ref)
    if (place === undefined) return refused('missing')
    if (place.status !== 'abandoned') return refused('status')
    this.#parts.jobs.setSettledAt(place.job, settledAt)
    return DONE
  }

  #delete({ ref, spentUntil }: ChangeOf<'delete'>): ChangeResult {
    const { jobs, spent, requests } = this.#parts
    const place = jobs.placeOf(ref)
    if (place === undefined) return refused('missing')
    if (!isTerminal(place.status)) return refused('status')
    jobs.delete(place.job)
    this.#sweeper.doom(place.job)
    this.#forgetRequests()
    if (spentUntil > this.#clock.now()) spent.spend(ref, spentUntil)
    else requests.remove(ref)
    return DONE
  }

  #noteRequests({ requests }: ChangeOf<'requests'>): ChangeResult {
    const now = this.#clock.now()
    this.#forgetRequests()
    for (const { ref, request } of requests) {
      const isOfJob = this.#isOfJob(ref)
      this.#parts.requests.append(ref, request, isOfJob ? BOUND_OF_JOB : BOUND_OF_STRAY)
      if (!isOfJob) this.#forgetRequestsOf(this.#parts.requests.keepStray(ref, now))
    }
    return DONE
  }

  /** Of some ids that are nobody's any more. */
  #forgetRequests(): void {
    const { requests, spent } = this.#parts
    const now = this.#clock.now()
    this.#forgetRequestsOf([...requests.takeExpired(now), ...spent.takeEnded(now)])
  }

  #forgetRequestsOf(refs: readonly JobRef[]): void {
    const { requests } = this.#parts
    for (const ref of refs) {
      if (!this.#isOfJob(ref) && !requests.isStray(ref, this.#clock.now())) requests.remove(ref)
    }
  }

  /** Whether there is a job with this id, or was one whose id is still spent. */
  #isOfJob(ref: JobRef): boolean {
    return this.#parts.jobs.placeOf(ref) !== undefined || this.#parts.spent.isSpent(ref, this.#clock.now())
  }

  #end(job: LiveJob): void {
    this.#parts.log.writeChapter(job)
    this.#parts.live.remove(job)
  }

  #refuseNotLive(ref: JobRef): Refusal {
    return refused(this.#parts.jobs.placeOf(ref) === undefined ? 'missing' : 'status')
  }

  /** Appends leave `last_seq` in the file behind. */
  #current(record: JobRecord): JobRecord {
    const job = this.#parts.live.get(keyOf(record))
    return job === undefined ? record : { ...record, lastSeq: job.lastSeq }
  }
}

/**
 * Opens the embedded store. Takes up what an earlier process left: the places of the newest events, half-removed logs.
 * @throws {StoreError} where the file cannot be written, is damaged, from a newer version, or another program's.
 */
export async function openSqliteJobStore(options: SqliteJobStoreOptions): Promise<JobStore> {
  const { path, durability, maxLogBytes, clock = systemClock, onBackgroundError = () => undefined } = options
  const file = openSqliteFile(path, durability)
  try {
    return file.guard(() => {
      const parts = openParts(file, maxLogBytes)
      const errors = new BackgroundErrors(path, onBackgroundError)
      const report = (error: unknown): void => errors.report(error)
      const checkpointer = new Checkpointer(path, report)
      const sweeper = openLogSweeper(file, checkpointer, clock, report)
      sweeper.start()
      return new SqliteJobStore(parts, sweeper, checkpointer, errors, clock)
    })
  } catch (error) {
    file.close()
    throw error
  }
}

function openParts(file: SqliteFile, maxLogBytes: number): Parts {
  const { sqlite } = file
  const jobs = openJobTable(sqlite)
  const live = new LiveJobs()
  const log = openLogTable(sqlite, live, maxLogBytes)
  const byNumber = new Map(
    jobs.activePlaces().map(({ ref, ...place }) => [place.job, live.add({ ...place, key: keyOf(ref) })]),
  )
  log.recover(byNumber)
  live.keep()
  const probe = sqlite.prepare(
    'INSERT INTO probe (one, count) VALUES (1, 1) ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count',
  )
  return {
    file,
    jobs,
    live,
    log,
    list: openJobList(sqlite),
    spent: openSpentIds(sqlite),
    requests: openRequestTable(sqlite),
    values: openValueTable(sqlite),
    tombstones: openTombstoneTable(sqlite),
    probe,
  }
}

function walBytesOf(changes: readonly StoreChange[]): number {
  let bytes = TRANSACTION_WAL_BYTES
  for (const change of changes) {
    if ('events' in change) bytes += change.events.lines.length
    if ('json' in change) bytes += change.json?.length ?? 0
    if ('requests' in change) bytes += change.requests.length * RECORD_WAL_BYTES
    if (change.kind !== 'append') bytes += RECORD_WAL_BYTES
  }
  return bytes
}

function follows(events: EventBatch, lastSeq: number): boolean {
  return events.firstSeq === lastSeq + 1 && events.lastSeq >= events.firstSeq
}

function refused(why: Refusal['why']): Refusal {
  return { ok: false, why }
}
