import { closeSync, openSync } from 'node:fs'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { StoreError } from '../JobStore.ts'
import { text } from './columns.ts'
import { createSchema, inspectSchema, migrateSchema } from './schema.ts'

/** What a resolved commit survives: the death of this process, or of the machine too (an fsync for each commit). */
export type Durability = 'process' | 'full'

/** Only a tool from outside can be in the way, and waiting for it holds up the event loop: who writes tries again by itself. */
const BUSY_TIMEOUT_MS = 20

const CACHE_KIB = 16 * 1024

/** Where the checkpointer does not keep the write-ahead log below this many pages (64 MiB), SQLite checkpoints within a commit. */
const MAX_WAL_PAGES = 16_384

/** After a burst the write-ahead log is cut back to this. */
const MAX_IDLE_WAL_BYTES = 64 * 1024 * 1024

/** SQLite's primary result codes that get a sentence of their own (https://sqlite.org/rescode.html). */
const SENTENCES: Readonly<Record<number, string>> = {
  5: 'is locked by another process',
  8: 'cannot be written: it is read-only',
  11: 'is damaged: restore it from a copy, or move it away to start empty',
  13: 'cannot be written: the disk is full',
  14: 'cannot be opened',
  26: 'is damaged: it is not a database; restore it from a copy, or move it away to start empty',
}

/** One connection to one file: transactions, and errors that name the file. */
export class SqliteFile {
  readonly path: string
  readonly sqlite: DatabaseSync
  readonly #begin: StatementSync
  readonly #commit: StatementSync
  readonly #rollback: StatementSync

  constructor(
    path: string,
    sqlite: DatabaseSync,
    statements: { begin: StatementSync; commit: StatementSync; rollback: StatementSync },
  ) {
    this.path = path
    this.sqlite = sqlite
    this.#begin = statements.begin
    this.#commit = statements.commit
    this.#rollback = statements.rollback
  }

  /**
   * Runs `work` in one transaction, which is rolled back where anything throws.
   * @throws {StoreError} where SQLite failed; what else `work` throws comes out as it is.
   */
  transaction<T>(work: () => T): T {
    return this.guard(() => {
      this.#begin.run()
      try {
        const result = work()
        this.#commit.run()
        return result
      } catch (error) {
        // After some errors (disk full, I/O) SQLite has rolled back by itself.
        if (this.sqlite.isTransaction) this.#rollback.run()
        throw error
      }
    })
  }

  /** Turns an error of SQLite inside `work` into a `StoreError`. */
  guard<T>(work: () => T): T {
    try {
      return work()
    } catch (error) {
      throw storeErrorOf(error, this.path)
    }
  }

  close(): void {
    this.guard(() => this.sqlite.close())
  }
}

/**
 * Opens the file, or makes it. Its folder must be there.
 * @throws {StoreError} where it cannot be written, is damaged, from a newer version, or another program's.
 */
export function openSqliteFile(path: string, durability: Durability): SqliteFile {
  const sqlite = connect(path)
  try {
    prepareFile(sqlite, path, durability)
    return new SqliteFile(path, sqlite, {
      begin: sqlite.prepare('BEGIN IMMEDIATE'),
      commit: sqlite.prepare('COMMIT'),
      rollback: sqlite.prepare('ROLLBACK'),
    })
  } catch (error) {
    sqlite.close()
    throw storeErrorOf(error, path)
  }
}

function connect(path: string): DatabaseSync {
  try {
    createPrivately(path)
    return new DatabaseSync(path, { timeout: BUSY_TIMEOUT_MS })
  } catch (error) {
    throw storeErrorOf(error, path)
  }
}

/** Inputs may hold secrets: the file is its owner's alone, and SQLite gives the files beside it the same mode. */
function createPrivately(path: string): void {
  try {
    closeSync(openSync(path, 'wx', 0o600))
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
}

function prepareFile(sqlite: DatabaseSync, path: string, durability: Durability): void {
  const found = inspectSchema(sqlite, path)
  if (found === 'empty') createSchema(sqlite)
  const journal = text(sqlite.prepare('PRAGMA journal_mode = WAL').get(), 'journal_mode')
  if (journal !== 'wal') {
    throw new StoreError(`the database ${path} must be on a disk that allows journal mode wal, got ${journal}`)
  }
  sqlite.exec(`
    PRAGMA synchronous = ${durability === 'full' ? 'FULL' : 'NORMAL'};
    PRAGMA wal_autocheckpoint = ${MAX_WAL_PAGES};
    PRAGMA cache_size = -${CACHE_KIB};
    PRAGMA journal_size_limit = ${MAX_IDLE_WAL_BYTES};
    PRAGMA secure_delete = FAST;
  `)
  if (found === 'older') migrateSchema(sqlite)
}

/** Errors of SQLite and of the file system become a `StoreError` that names the file; any other is a defect and stays. */
export function storeErrorOf(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || error instanceof StoreError) return error
  if ('errcode' in error && typeof error.errcode === 'number') {
    const sentence = SENTENCES[error.errcode & 0xff] ?? 'failed'
    return new StoreError(`the database ${path} ${sentence} (SQLite: ${error.message})`, { cause: error })
  }
  if ('syscall' in error)
    return new StoreError(`the database ${path} cannot be opened (${error.message})`, { cause: error })
  return error
}
