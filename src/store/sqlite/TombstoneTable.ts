import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { StoredTombstone } from '../../job/cancellation.ts'
import { StoreError } from '../JobStore.ts'
import { integer, text } from './columns.ts'

interface Statements {
  readonly set: StatementSync
  readonly delete: StatementSync
  readonly forgetExpired: StatementSync
  readonly all: StatementSync
}

/** Requests to end jobs that are not known yet. Times are wall time in ms. */
export class TombstoneTable {
  readonly #statements: Statements

  constructor(statements: Statements) {
    this.#statements = statements
  }

  /** Undefined forgets it. */
  set(name: string, tombstone: StoredTombstone | undefined, now: number): void {
    if (tombstone === undefined) {
      this.#statements.delete.run(name)
      return
    }
    this.#statements.forgetExpired.run(now)
    this.#statements.set.run(name, JSON.stringify(tombstone.request), tombstone.expiresAt)
  }

  live(now: number): readonly StoredTombstone[] {
    return this.#statements.all.all(now).map((row) => ({
      name: text(row, 'name'),
      request: requestOf(text(row, 'request')),
      expiresAt: integer(row, 'expires_at'),
    }))
  }
}

/** Written by `set` from a value of this type. */
function requestOf(json: string): StoredTombstone['request'] {
  try {
    return JSON.parse(json)
  } catch (error) {
    throw new StoreError('the database is damaged: a remembered request must be JSON', { cause: error })
  }
}

export function openTombstoneTable(sqlite: DatabaseSync): TombstoneTable {
  return new TombstoneTable({
    set: sqlite.prepare('INSERT OR REPLACE INTO tombstones (name, request, expires_at) VALUES (?, ?, ?)'),
    delete: sqlite.prepare('DELETE FROM tombstones WHERE name = ?'),
    forgetExpired: sqlite.prepare('DELETE FROM tombstones WHERE expires_at <= ?'),
    all: sqlite.prepare('SELECT name, request, expires_at FROM tombstones WHERE expires_at > ?'),
  })
}
