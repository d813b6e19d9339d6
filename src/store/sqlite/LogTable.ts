import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { type EventBatch, type EventPage, StoreError } from '../JobStore.ts'
import { bytes, integer, type Row, text } from './columns.ts'
import type { LiveJob, LiveJobs } from './LiveJobs.ts'
import { decodePlaces, encodePlaces, type Place, placesFrom } from './places.ts'

/** A chapter's row is then 0.5 KiB, small enough to stay inside a page of the table's tree. */
const CHAPTER_BATCHES = 64

/** How many rows of the log an open looks through for tails; a tail that reaches further back is written as a chapter. */
const TAIL_WINDOW_ROWS = 65_536

interface Statements {
  readonly insertBatch: StatementSync
  readonly insertChapter: StatementSync
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
  #lastRow: number

  constructor(statements: Statements, live: LiveJobs, lastRow: number) {
    this.#statements = statements
    this.#live = live
    this.#lastRow = lastRow
  }

  append(live: LiveJob, { firstSeq, lastSeq, lines }: EventBatch): void {
    const row = Number(this.#statements.insertBatch.run(live.job, firstSeq, lastSeq, lines).lastInsertRowid)
    this.#lastRow = row
    this.#live.extend(live, { row, firstSeq }, lastSeq)
    if (live.tail.length >= CHAPTER_BATCHES) this.writeChapter(live)
  }

  /** Puts a job's tail into the file: what must be done for a job that ends. */
  writeChapter(live: LiveJob): void {
    const [first] = live.tail
    if (first === undefined) return
    this.#statements.insertChapter.run(live.job, first.firstSeq, live.lastSeq, first.row, encodePlaces(live.tail))
    this.#live.clearTail(live)
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
  read(job: number, live: LiveJob | undefined, after: number, maxBytes: number): EventPage {
    const batches: EventBatch[] = []
    let readBytes = 0
    for (const place of this.#placesAfter(job, live, after)) {
      const batch = this.#batchAt(job, place)
      batches.push(batch)
      readBytes += Buffer.byteLength(batch.lines)
      if (readBytes >= maxBytes) break
    }
    const firstChapter = this.#statements.chapterAfter.get(job, 0)
    const firstKeptSeq = firstChapter === undefined ? live?.tail[0]?.firstSeq : integer(firstChapter, 'first_seq')
    return { batches, firstKeptSeq: firstKeptSeq ?? after + 1 }
  }

  *#placesAfter(job: number, live: LiveJob | undefined, after: number): Generator<Place> {
    const { chapterAt, chapterAfter } = this.#statements
    let seq = after + 1
    let chapter: Row = chapterAt.get(job, seq) ?? chapterAfter.get(job, seq)
    while (chapter !== undefined) {
      const lastSeq = integer(chapter, 'last_seq')
      const first = { row: integer(chapter, 'first_place'), firstSeq: integer(chapter, 'first_seq') }
      if (lastSeq >= seq) yield* placesFrom(decodePlaces(first, bytes(chapter, 'offsets')), seq)
      seq = Math.max(seq, lastSeq + 1)
      chapter = chapterAfter.get(job, seq)
    }
    if (live !== undefined && live.lastSeq >= seq) yield* placesFrom(live.tail, seq)
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

export function openLogTable(sqlite: DatabaseSync, live: LiveJobs): LogTable {
  const chapter = 'SELECT first_seq, last_seq, first_place, offsets FROM chapters WHERE job = ? AND first_seq'
  const statements = {
    insertBatch: sqlite.prepare('INSERT INTO log (job, first_seq, last_seq, lines) VALUES (?, ?, ?, ?)'),
    insertChapter: sqlite.prepare(
      'INSERT INTO chapters (job, first_seq, last_seq, first_place, offsets) VALUES (?, ?, ?, ?, ?)',
    ),
    batchAt: sqlite.prepare('SELECT first_seq, last_seq, lines FROM log WHERE place = ? AND job = ?'),
    chapterAt: sqlite.prepare(`${chapter} <= ? ORDER BY first_seq DESC LIMIT 1`),
    chapterAfter: sqlite.prepare(`${chapter} >= ? ORDER BY first_seq LIMIT 1`),
    lastChapter: sqlite.prepare('SELECT last_seq FROM chapters WHERE job = ? ORDER BY first_seq DESC LIMIT 1'),
    batchesAfterRow: sqlite.prepare('SELECT place, job, first_seq, last_seq FROM log WHERE place > ? ORDER BY place'),
  }
  const lastRow = integer(sqlite.prepare('SELECT ifnull(max(place), 0) AS last FROM log').get(), 'last')
  return new LogTable(statements, live, lastRow)
}
