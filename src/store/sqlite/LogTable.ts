import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { type EventBatch, StoreError } from '../JobStore.ts'
import { splitBatch } from '../splitBatch.ts'
import { bytes, integer, type Row, text } from './columns.ts'
import type { LiveJob, LiveJobs } from './LiveJobs.ts'
import { decodePlaces, encodePlaces, type Place, placesFrom } from './places.ts'

/** A chapter's row is then 0.5 KiB, small enough to stay inside a page of the table's tree. */
const CHAPTER_BATCHES = 64

/** A row is what a reader gets at the least. */
const MAX_ROW_UNITS = 64 * 1024

/** How many rows of the log an open looks through for tails; a tail that reaches further back is written as a chapter. */
const TAIL_WINDOW_ROWS = 65_536

interface Statements {
  readonly insertBatch: StatementSync
  readonly insertChapter: StatementSync
  readonly deleteChapter: StatementSync
  readonly deleteOutput: StatementSync
  readonly batchAt: StatementSync
  readonly chapterAt: StatementSync
  readonly chapterAfter: StatementSync
  readonly lastChapter: StatementSync
  readonly batchesAfterRow: StatementSync
}

/**
 * The logs of all jobs: one table that only grows at its end, a row a batch. Where a job's rows are is written down apart, in
 * chapters of 64 batches; until a chapter is full (or old, or its job ends) it stands in memory, as the job's tail, and an
 * open finds it again in the last 65,536 rows (60 ms). So a job that appends touches no page of its own, which is what made
 * the plainer layouts slow. Measured with 200 bytes an event, 2 processors, Node 26 (events a second · bytes of write-ahead
 * log an event):
 *
 * |                                   | 1,000 jobs × 1 event a commit | 1 job × 64 events a commit |
 * | --------------------------------- | ----------------------------- | -------------------------- |
 * | chapters, this class              | 720,000–830,000 · 264         | 1,130,000–1,430,000        |
 * | bare node:sqlite, no index at all | 850,000–890,000 · 254         | 870,000–1,140,000 · 397    |
 * | an index on (job, first_seq)      | 112,000–126,000 · 2,403       | 1,090,000 · 466            |
 * | clustered by (job, first_seq)     | 30,000–39,000 · 8,213         | 916,000 · 495              |
 *
 * (The first row can beat the second because its checkpoints run in another thread.)
 */
export class LogTable {
  readonly #statements: Statements
  readonly #live: LiveJobs
  readonly #maxLogBytes: number
  #lastRow: number

  constructor(statements: Statements, live: LiveJobs, maxLogBytes: number, lastRow: number) {
    this.#statements = statements
    this.#live = live
    this.#maxLogBytes = maxLogBytes
    this.#lastRow = lastRow
  }

  append(live: LiveJob, batch: EventBatch): void {
    for (const part of splitBatch(batch, MAX_ROW_UNITS)) this.#appendRow(live, part)
    if (live.bytes > this.#maxLogBytes) this.#trim(live, this.#lastRow)
  }

  #appendRow(live: LiveJob, { firstSeq, lastSeq, lines }: EventBatch): void {
    const row = Number(this.#statements.insertBatch.run(live.job, firstSeq, lastSeq, lines).lastInsertRowid)
    this.#lastRow = row
    this.#live.extend(live, { row, firstSeq }, lastSeq)
    this.#live.grow(live, Buffer.byteLength(lines))
    if (live.tail.length >= CHAPTER_BATCHES) this.writeChapter(live)
  }

  /**
   * Removes the oldest output until the log is as long as it may be. With each batch that is written about as much goes, so no
   * commit ever removes much more than it writes.
   */
  #trim(live: LiveJob, newestRow: number): void {
    while (live.bytes > this.#maxLogBytes) {
      const chapter = this.#chapterFrom(live.job, live.trimmedSeq + 1)
      if (chapter !== undefined) {
        if (!this.#trimChapter(live, chapter, newestRow)) return
      } else if (live.tail.length > 1) this.writeChapter(live)
      else return
    }
  }

  /** Returns whether there may be more to remove: the newest batch stays. */
  #trimChapter(live: LiveJob, chapter: Row, newestRow: number): boolean {
    const { deleteOutput, deleteChapter } = this.#statements
    const { first, lastSeq, places } = chapterOf(chapter)
    const kept: Place[] = []
    let looked = 0
    for (const place of places) {
      if (live.bytes <= this.#maxLogBytes || place.row === newestRow) break
      looked += 1
      // What was looked at before and stands here still is an event of the job's status.
      const removed = place.firstSeq > live.trimmedSeq ? deleteOutput.get(place.row, live.job) : undefined
      if (removed === undefined) kept.push(place)
      else this.#live.grow(live, -integer(removed, 'bytes'))
      this.#live.trim(live, Math.max(live.trimmedSeq, (places[looked]?.firstSeq ?? lastSeq + 1) - 1))
    }
    deleteChapter.run(live.job, first.firstSeq)
    this.#insertChapter(live.job, [...kept, ...places.slice(looked)], lastSeq)
    return looked === places.length
  }

  /** Puts a job's tail into the file: what must be done for a job that ends. */
  writeChapter(live: LiveJob): void {
    this.#insertChapter(live.job, live.tail, live.lastSeq)
    this.#live.clearTail(live)
  }

  /** Harmless where there are no places. */
  #insertChapter(job: number, places: readonly Place[], lastSeq: number): void {
    const [first] = places
    if (first === undefined) return
    this.#statements.insertChapter.run(job, first.firstSeq, lastSeq, first.row, encodePlaces(places))
  }

  /** Belongs at the end of every transaction: after it, no tail begins before the rows that an open looks through. */
  writeOldTails(): void {
    for (;;) {
      const oldest = this.#live.oldestTail()
      const begin = oldest?.tail[0]?.row
      if (oldest === undefined || begin === undefined || begin > this.#lastRow - TAIL_WINDOW_ROWS) return
      this.writeChapter(oldest)
    }
  }

  /** Finds the tails of the live jobs in a file that was just opened. */
  recover(byNumber: ReadonlyMap<number, LiveJob>): void {
    const inChapters = new Map<number, number>()
    for (const live of byNumber.values()) {
      const chapter = this.#statements.lastChapter.get(live.job)
      if (chapter === undefined) continue
      const lastSeq = integer(chapter, 'last_seq')
      inChapters.set(live.job, lastSeq)
      this.#live.advance(live, lastSeq)
    }
    for (const found of this.#statements.batchesAfterRow.iterate(this.#lastRow - TAIL_WINDOW_ROWS)) {
      const live = byNumber.get(integer(found, 'job'))
      const firstSeq = integer(found, 'first_seq')
      if (live === undefined || firstSeq <= (inChapters.get(live.job) ?? 0)) continue
      this.#live.extend(live, { row: integer(found, 'place'), firstSeq }, integer(found, 'last_seq'))
    }
  }

  /** `live` where the job is so; else all of its log is in chapters. */
  read(job: number, live: LiveJob | undefined, after: number, maxBytes: number): readonly EventBatch[] {
    const batches: EventBatch[] = []
    let readBytes = 0
    for (const place of this.#placesAfter(job, live, after)) {
      const batch = this.#batchAt(job, place)
      // Of the batch before a hole nothing is asked for.
      if (batch.lastSeq <= after) continue
      batches.push(batch)
      readBytes += Buffer.byteLength(batch.lines)
      if (readBytes >= maxBytes) break
    }
    return batches
  }

  *#placesAfter(job: number, live: LiveJob | undefined, after: number): Generator<Place> {
    let seq = after + 1
    for (;;) {
      const row = this.#chapterFrom(job, seq)
      if (row === undefined) break
      const { lastSeq, places } = chapterOf(row)
      yield* placesFrom(places, seq)
      seq = lastSeq + 1
    }
    if (live !== undefined && live.lastSeq >= seq) yield* placesFrom(live.tail, seq)
  }

  /** The first chapter that has something at or after `seq`, or reached there before it was trimmed. */
  #chapterFrom(job: number, seq: number): Row {
    const { chapterAt, chapterAfter } = this.#statements
    const at = chapterAt.get(job, seq)
    return at !== undefined && integer(at, 'last_seq') >= seq ? at : chapterAfter.get(job, seq)
  }

  #batchAt(job: number, place: Place): EventBatch {
    const found = this.#statements.batchAt.get(place.row, job)
    if (found === undefined || integer(found, 'first_seq') !== place.firstSeq) {
      throw new StoreError(
        `the database is damaged: row ${place.row} of the log must hold event ${place.firstSeq} of job ${job}`,
      )
    }
    return { firstSeq: place.firstSeq, lastSeq: integer(found, 'last_seq'), lines: text(found, 'lines') }
  }
}

function chapterOf(row: Row): { readonly first: Place; readonly lastSeq: number; readonly places: readonly Place[] } {
  const first = { row: integer(row, 'first_place'), firstSeq: integer(row, 'first_seq') }
  return { first, lastSeq: integer(row, 'last_seq'), places: decodePlaces(first, bytes(row, 'offsets')) }
}

export function openLogTable(sqlite: DatabaseSync, live: LiveJobs, maxLogBytes: number): LogTable {
  const chapter = 'SELECT first_seq, last_seq, first_place, offsets FROM chapters WHERE job = ? AND first_seq'
  const statements = {
    insertBatch: sqlite.prepare('INSERT INTO log (job, first_seq, last_seq, lines) VALUES (?, ?, ?, ?)'),
    insertChapter: sqlite.prepare(
      'INSERT INTO chapters (job, first_seq, last_seq, first_place, offsets) VALUES (?, ?, ?, ?, ?)',
    ),
    deleteChapter: sqlite.prepare('DELETE FROM chapters WHERE job = ? AND first_seq = ?'),
    // A batch is of outputs or of status events, never of both (JobLog.ts).
    deleteOutput: sqlite.prepare(`DELETE FROM log WHERE place = ? AND job = ? AND lines NOT LIKE '{"type":"job.%'
      RETURNING octet_length(lines) AS bytes`),
    batchAt: sqlite.prepare('SELECT first_seq, last_seq, lines FROM log WHERE place = ? AND job = ?'),
    chapterAt: sqlite.prepare(`${chapter} <= ? ORDER BY first_seq DESC LIMIT 1`),
    chapterAfter: sqlite.prepare(`${chapter} >= ? ORDER BY first_seq LIMIT 1`),
    lastChapter: sqlite.prepare('SELECT last_seq FROM chapters WHERE job = ? ORDER BY first_seq DESC LIMIT 1'),
    batchesAfterRow: sqlite.prepare('SELECT place, job, first_seq, last_seq FROM log WHERE place > ? ORDER BY place'),
  }
  const lastRow = integer(sqlite.prepare('SELECT ifnull(max(place), 0) AS last FROM log').get(), 'last')
  return new LogTable(statements, live, maxLogBytes, lastRow)
}
