import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { JobRef } from '../../job/key.ts'
import type { JobRequest, NumberedRequest } from '../../job/request.ts'
import { StoreError } from '../JobStore.ts'
import {
  FIRST_REQUESTS_OF_JOB,
  FIRST_REQUESTS_OF_STRAY,
  MAX_REQUESTS_OF_JOB,
  MAX_REQUESTS_OF_STRAY,
  MAX_STRAYS,
  STRAY_MS,
} from '../requestLimits.ts'
import { integer, type Row, refIn, text } from './columns.ts'

interface Statements {
  readonly lastNumber: StatementSync
  readonly insert: StatementSync
  readonly deleteOne: StatementSync
  readonly deleteAll: StatementSync
  readonly page: StatementSync
  readonly prolongStray: StatementSync
  readonly addStray: StatementSync
  readonly strayUntil: StatementSync
  readonly forgetStray: StatementSync
  readonly takeExpired: StatementSync
  readonly takeTooMany: StatementSync
}

/** How many requests of one id are kept: `max` in all, of which the `first` stay. */
interface RequestBound {
  readonly max: number
  readonly first: number
}

export const BOUND_OF_JOB: RequestBound = { max: MAX_REQUESTS_OF_JOB, first: FIRST_REQUESTS_OF_JOB }
export const BOUND_OF_STRAY: RequestBound = { max: MAX_REQUESTS_OF_STRAY, first: FIRST_REQUESTS_OF_STRAY }

/** So many ids whose time is over are cleared away at once: a thousand rows each at the most. */
const CLEARED_AT_ONCE = 20

/**
 * What was asked of jobs, and `strays`: ids without a job of which something was asked, and until when that is kept. Whether an id
 * has a job, or had one, is for `SqliteJobStore` to say. Times are wall time in ms.
 */
export class RequestTable {
  readonly #statements: Statements

  constructor(statements: Statements) {
    this.#statements = statements
  }

  append({ tenant, id }: JobRef, request: JobRequest, { max, first }: RequestBound): void {
    const number = integer(this.#statements.lastNumber.get(tenant, id), 'number') + 1
    this.#statements.insert.run(tenant, id, number, JSON.stringify(request))
    // With each that comes one goes, the oldest behind the first ones.
    if (number > max) this.#statements.deleteOne.run(tenant, id, number - (max - first))
  }

  page({ tenant, id }: JobRef, after: number, limit: number): readonly NumberedRequest[] {
    return this.#statements.page.all(tenant, id, after, limit).map(numberedOf)
  }

  remove({ tenant, id }: JobRef): void {
    this.#statements.deleteAll.run(tenant, id)
  }

  /**
   * No job has this id. What that pushes out is returned, and still has its requests. One that is known keeps its place: whoever asks
   * of one id again and again pushes out no other.
   */
  keepStray({ tenant, id }: JobRef, now: number): readonly JobRef[] {
    const { prolongStray, addStray, takeTooMany } = this.#statements
    const until = now + STRAY_MS
    if (prolongStray.run(until, tenant, id).changes !== 0) return []
    addStray.run(tenant, id, until)
    return takeTooMany.all(MAX_STRAYS).map(refIn)
  }

  isStray({ tenant, id }: JobRef, now: number): boolean {
    const row = this.#statements.strayUntil.get(tenant, id)
    return row !== undefined && integer(row, 'until') > now
  }

  /** The id has a job now, whose requests these are; none where their time was over. */
  adopt(ref: JobRef, now: number): void {
    const row = this.#statements.forgetStray.get(ref.tenant, ref.id)
    if (row !== undefined && integer(row, 'until') <= now) this.remove(ref)
  }

  /** Some whose time is over, no longer strays and still with their requests. */
  takeExpired(now: number): readonly JobRef[] {
    return this.#statements.takeExpired.all(now, CLEARED_AT_ONCE).map(refIn)
  }
}

/** Written by `append` from a value of this type. */
function numberedOf(row: Row): NumberedRequest {
  try {
    const request: JobRequest = JSON.parse(text(row, 'json'))
    return { number: integer(row, 'number'), ...request }
  } catch (error) {
    if (error instanceof StoreError) throw error
    throw new StoreError('the database is damaged: a request of a job must be JSON', { cause: error })
  }
}

export function openRequestTable(sqlite: DatabaseSync): RequestTable {
  return new RequestTable({
    lastNumber: sqlite.prepare('SELECT coalesce(max(number), 0) AS number FROM requests WHERE tenant = ? AND id = ?'),
    insert: sqlite.prepare('INSERT INTO requests (tenant, id, number, json) VALUES (?, ?, ?, ?)'),
    deleteOne: sqlite.prepare('DELETE FROM requests WHERE tenant = ? AND id = ? AND number = ?'),
    deleteAll: sqlite.prepare('DELETE FROM requests WHERE tenant = ? AND id = ?'),
    page: sqlite.prepare(
      'SELECT number, json FROM requests WHERE tenant = ? AND id = ? AND number > ? ORDER BY number LIMIT ?',
    ),
    prolongStray: sqlite.prepare('UPDATE strays SET until = ? WHERE tenant = ? AND id = ?'),
    addStray: sqlite.prepare('INSERT INTO strays (tenant, id, until) VALUES (?, ?, ?)'),
    strayUntil: sqlite.prepare('SELECT until FROM strays WHERE tenant = ? AND id = ?'),
    forgetStray: sqlite.prepare('DELETE FROM strays WHERE tenant = ? AND id = ? RETURNING until'),
    takeExpired: sqlite.prepare(`DELETE FROM strays WHERE place IN (SELECT place FROM strays WHERE until <= ? LIMIT ?)
      RETURNING tenant, id`),
    // By their count: places are given once, also those of ids that have a job by now.
    takeTooMany: sqlite.prepare(`DELETE FROM strays WHERE place IN
      (SELECT place FROM strays ORDER BY place LIMIT max(0, (SELECT count(*) FROM strays) - ?)) RETURNING tenant, id`),
  })
}
