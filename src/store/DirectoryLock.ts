import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { messageOf } from '../job/messageOf.ts'

/** Who holds a folder, as it stands in the note beside the lock. `startedAt` is ISO 8601. */
export interface DirectoryHolder {
  readonly pid: number
  readonly startedAt: string
  readonly address?: string
}

/** The folder belongs to another process. */
export class DirectoryHeldError extends Error {
  override readonly name = 'DirectoryHeldError'
  /** Undefined where the holder has not written its note yet. */
  readonly holder: DirectoryHolder | undefined

  constructor(dataDir: string, holder: DirectoryHolder | undefined, options: ErrorOptions) {
    super(
      `DATA_DIR ${dataDir} must be free, and is held by ${describe(holder)}: stop it, or use another folder`,
      options,
    )
    this.holder = holder
  }
}

const LOCK_FILE = 'lock.db'
const NOTE_FILE = 'lock.json'
const SQLITE_BUSY = 5

/**
 * One process's hold on a folder. The lock is SQLite's on a file of its own, in a transaction that never ends: the kernel drops
 * it with the process, however that dies, so nothing is ever stale and no pid is guessed at. Nothing else in this process may
 * open the lock's file, since closing any descriptor of it would drop the lock (POSIX, fcntl).
 */
export class DirectoryLock implements Disposable {
  readonly #dataDir: string
  readonly #lock: DatabaseSync
  #holder: DirectoryHolder

  constructor(dataDir: string, lock: DatabaseSync, holder: DirectoryHolder) {
    this.#dataDir = dataDir
    this.#lock = lock
    this.#holder = holder
  }

  /** Puts the address that the process now listens on into the note. */
  announce(address: string): void {
    this.#holder = { ...this.#holder, address }
    writeNote(this.#dataDir, this.#holder)
  }

  /** Twice is harmless. */
  release(): void {
    if (!this.#lock.isOpen) return
    // First the note: after the lock is gone, it may be the next holder's.
    rmSync(join(this.#dataDir, NOTE_FILE), { force: true })
    this.#lock.close()
  }

  [Symbol.dispose](): void {
    this.release()
  }
}

/**
 * Takes `dataDir` for this process, and makes it, for its owner alone, where it is not there.
 * @throws {DirectoryHeldError} where another process has it; names that process.
 */
export function lockDirectory(
  dataDir: string,
  self: { readonly pid: number; readonly address?: string },
): DirectoryLock {
  makeFolder(dataDir)
  const database = lockFile(dataDir)
  try {
    const holder = { ...self, startedAt: new Date().toISOString() }
    writeNote(dataDir, holder)
    return new DirectoryLock(dataDir, database, holder)
  } catch (error) {
    database.close()
    throw unlockable(dataDir, join(dataDir, NOTE_FILE), error)
  }
}

/** Makes `DATA_DIR` or a folder in it, for its owner alone. @throws {Error} naming the setting, the folder and the reason */
export function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  } catch (error) {
    const reason = messageOf(error)
    throw new Error(`DATA_DIR must be a folder that can be made and written, got ${folder}: ${reason}`, {
      cause: error,
    })
  }
}

function lockFile(dataDir: string): DatabaseSync {
  const path = join(dataDir, LOCK_FILE)
  const database = openLockFile(dataDir, path)
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE')
    return database
  } catch (error) {
    database.close()
    if (isBusy(error)) throw new DirectoryHeldError(dataDir, readNote(dataDir), { cause: error })
    throw unlockable(dataDir, path, error)
  }
}

function openLockFile(dataDir: string, path: string): DatabaseSync {
  try {
    return new DatabaseSync(path, { timeout: 0 })
  } catch (error) {
    throw unlockable(dataDir, path, error)
  }
}

function unlockable(dataDir: string, path: string, error: unknown): Error {
  const reason = messageOf(error)
  return new Error(`DATA_DIR ${dataDir} must be a folder that can be locked and written: ${path}: ${reason}`, {
    cause: error,
  })
}

function isBusy(error: unknown): boolean {
  return (
    error instanceof Error &&
    'errcode' in error &&
    typeof error.errcode === 'number' &&
    (error.errcode & 0xff) === SQLITE_BUSY
  )
}

/** Renamed into place, so that who reads it never sees half of it. */
function writeNote(dataDir: string, holder: DirectoryHolder): void {
  const path = join(dataDir, NOTE_FILE)
  const draft = `${path}.${holder.pid}`
  writeFileSync(draft, `${JSON.stringify(holder)}\n`)
  renameSync(draft, path)
}

/** The note only names the holder; what it says never decides who holds. So one that is missing or malformed is no error. */
function readNote(dataDir: string): DirectoryHolder | undefined {
  try {
    return parseNote(JSON.parse(readFileSync(join(dataDir, NOTE_FILE), 'utf8')))
  } catch (error) {
    if (error instanceof SyntaxError || (error instanceof Error && 'code' in error && error.code === 'ENOENT')) {
      return undefined
    }
    throw error
  }
}

function parseNote(note: unknown): DirectoryHolder | undefined {
  if (typeof note !== 'object' || note === null) return undefined
  if (!('pid' in note && typeof note.pid === 'number')) return undefined
  if (!('startedAt' in note && typeof note.startedAt === 'string')) return undefined
  const address = 'address' in note && typeof note.address === 'string' ? { address: note.address } : {}
  return { pid: note.pid, startedAt: note.startedAt, ...address }
}

function describe(holder: DirectoryHolder | undefined): string {
  if (holder === undefined) return 'another process'
  const address = holder.address === undefined ? '' : `, ${holder.address}`
  return `process ${holder.pid} (started at ${holder.startedAt}${address})`
}
