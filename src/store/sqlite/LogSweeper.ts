import type { StatementSync } from 'node:sqlite'
import type { Clock } from '../../clock.ts'
import type { Checkpointer } from './Checkpointer.ts'
import { bytes, integer, type Row } from './columns.ts'
import { decodePlaces } from './places.ts'
import type { SqliteFile } from './SqliteFile.ts'

/** How long one slice may hold up the event loop. */
const SLICE_MS = 3

/** Pages that one slice of the vacuum gives back to the disk, about a millisecond's worth. */
const VACUUM_PAGES = 64

/** Free pages up to an eighth of the file stay in it for the next events: giving one back costs as much as writing one. */
const KEPT_FREE_SHARE = 1 / 8

/** About what a slice adds to the write-ahead log. */
const SLICE_WAL_BYTES = 512 * 1024

interface Statements {
  readonly doom: StatementSync
  readonly nextDoomed: StatementSync
  readonly forgetDoomed: StatementSync
  readonly nextChapter: StatementSync
  readonly deleteChapter: StatementSync
  readonly deleteBatch: StatementSync
  readonly pageCount: StatementSync
  readonly freePageCount: StatementSync
}

/**
 * Removes the logs of deleted jobs, and gives their pages back to the disk, in slices between turns of the event loop: for a
 * log of 100 MB the loop stops for 3 ms at a time, and in one piece it would for 190 ms. What is still to be done stands in
 * `doomed`, so a process that dies on the way leaves it to the next open.
 */
export class LogSweeper {
  readonly #file: SqliteFile
  readonly #statements: Statements
  readonly #checkpointer: Checkpointer
  readonly #clock: Clock
  readonly #onError: (error: unknown) => void
  #next: NodeJS.Immediate | undefined

  constructor(
    file: SqliteFile,
    statements: Statements,
    checkpointer: Checkpointer,
    clock: Clock,
    onError: (error: unknown) => void,
  ) {
    this.#file = file
    this.#statements = statements
    this.#checkpointer = checkpointer
    this.#clock = clock
    this.#onError = onError
  }

  /** Part of the transaction that deletes the job's record. */
  doom(job: number): void {
    this.#statements.doom.run(job)
  }

  /** Goes on until nothing is left, or a slice fails, which `onError` is told. Harmless where it runs already. */
  start(): void {
    this.#next ??= setImmediate(() => this.#runSlice())
  }

  stop(): void {
    clearImmediate(this.#next)
    this.#next = undefined
  }

  #runSlice(): void {
    this.#next = undefined
    if (this.#checkpointer.hold !== undefined) {
      this.start()
      return
    }
    try {
      if (!this.#sweep() && !this.#vacuum()) return
      this.#checkpointer.wrote(SLICE_WAL_BYTES)
      this.start()
    } catch (error) {
      this.#onError(error)
    }
  }

  /** Returns whether there was something to remove. */
  #sweep(): boolean {
    const first = this.#file.guard(() => this.#statements.nextDoomed.get())
    if (first === undefined) return false
    const endMs = this.#clock.monotonicMs() + SLICE_MS
    this.#file.transaction(() => {
      for (let doomed: Row = first; doomed !== undefined; doomed = this.#statements.nextDoomed.get()) {
        if (!this.#removeLog(integer(doomed, 'job'), endMs)) return
      }
    })
    return true
  }

  /** Returns whether the whole log is gone; at `endMs` it leaves the rest. */
  #removeLog(job: number, endMs: number): boolean {
    const { nextChapter, deleteChapter, deleteBatch, forgetDoomed } = this.#statements
    for (let chapter = nextChapter.get(job); chapter !== undefined; chapter = nextChapter.get(job)) {
      const first = { row: integer(chapter, 'first_place'), firstSeq: integer(chapter, 'first_seq') }
      for (const place of decodePlaces(first, bytes(chapter, 'offsets'))) {
        // A chapter is left for the next slice as it is; the rows of it that are gone by then are no longer this job's.
        if (this.#clock.monotonicMs() >= endMs) return false
        deleteBatch.run(place.row, job)
      }
      deleteChapter.run(job, first.firstSeq)
    }
    forgetDoomed.run(job)
    return true
  }

  /** Returns whether pages were given back. */
  #vacuum(): boolean {
    return this.#file.guard(() => {
      const free = integer(this.#statements.freePageCount.get(), 'freelist_count')
      if (free <= integer(this.#statements.pageCount.get(), 'page_count') * KEPT_FREE_SHARE) return false
      // `exec`, because one step of a prepared statement gives back one page.
      this.#file.sqlite.exec(`PRAGMA incremental_vacuum(${VACUUM_PAGES})`)
      return true
    })
  }
}

export function openLogSweeper(
  file: SqliteFile,
  checkpointer: Checkpointer,
  clock: Clock,
  onError: (error: unknown) => void,
): LogSweeper {
  const { sqlite } = file
  const statements = {
    doom: sqlite.prepare('INSERT INTO doomed (job) VALUES (?)'),
    nextDoomed: sqlite.prepare('SELECT job FROM doomed ORDER BY job LIMIT 1'),
    forgetDoomed: sqlite.prepare('DELETE FROM doomed WHERE job = ?'),
    nextChapter: sqlite.prepare(
      'SELECT first_seq, first_place, offsets FROM chapters WHERE job = ? ORDER BY first_seq LIMIT 1',
    ),
    deleteChapter: sqlite.prepare('DELETE FROM chapters WHERE job = ? AND first_seq = ?'),
    deleteBatch: sqlite.prepare('DELETE FROM log WHERE place = ? AND job = ?'),
    pageCount: sqlite.prepare('PRAGMA page_count'),
    freePageCount: sqlite.prepare('PRAGMA freelist_count'),
  }
  return new LogSweeper(file, statements, checkpointer, clock, onError)
}
