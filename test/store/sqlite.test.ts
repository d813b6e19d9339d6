import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { DatabaseSync } from 'node:sqlite'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { JobRef } from '../../src/job/key.ts'
import { type JobStore, type StoreChange, StoreError } from '../../src/store/JobStore.ts'
import { openSqliteJobStore, type SqliteJobStoreOptions } from '../../src/store/sqlite/SqliteJobStore.ts'
import { JumpingClock } from '../JumpingClock.ts'
import { describeJobStore, linesOf } from './contract.ts'
import { temporaryFolder } from './folder.ts'
import { append, batch, create, move, recordNamed, refTo, remove, upTo } from './records.ts'

describeJobStore('the embedded store', async (limits) => {
  const path = join(await temporaryFolder(), 'tether.db')
  const opened = { store: await openStore(path, limits), reopen }
  async function reopen(): Promise<JobStore> {
    await opened.store.close()
    opened.store = await openStore(path, limits)
    return opened.store
  }
  return opened
})

async function openStore(path: string, options: Partial<SqliteJobStoreOptions> = {}): Promise<JobStore> {
  const store = await openSqliteJobStore({ path, durability: 'process', maxLogBytes: 2 ** 28, ...options })
  onTestFinished(() => store.close())
  return store
}

/** A look at the file from outside, as it is on the disk. */
function look(path: string): DatabaseSync {
  const outside = new DatabaseSync(path, { timeout: 1_000 })
  onTestFinished(() => {
    if (outside.isOpen) outside.close()
  })
  return outside
}

function count(outside: DatabaseSync, table: string): number {
  return Number(outside.prepare(`SELECT count(*) AS count FROM ${table}`).get()?.['count'])
}

async function appendMany(store: JobStore, ref: JobRef, from: number, batches: number, bytes = 10): Promise<number> {
  let seq = from
  const step = 500
  for (let done = 0; done < batches; done += step) {
    const changes = Array.from({ length: Math.min(step, batches - done) }, (): StoreChange => {
      seq += 1
      return { kind: 'append', ref, events: batch(seq, 1, '.'.repeat(bytes)) }
    })
    expect((await store.commit(changes)).every(({ ok }) => ok)).toBe(true)
  }
  return seq
}

/** The tables of version 1, as far as they differ from today's. */
const VERSION_1_JOBS = `CREATE TABLE jobs (
  job INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, id TEXT NOT NULL, task TEXT NOT NULL, created_at INTEGER NOT NULL,
  status TEXT NOT NULL, last_seq INTEGER NOT NULL, group_id TEXT, parent_id TEXT, idempotency_key TEXT, fingerprint TEXT NOT NULL,
  policy TEXT NOT NULL, state TEXT NOT NULL, metadata TEXT NOT NULL, UNIQUE (tenant, id)
) STRICT`

/** Makes the file at `path` one of version 1, with what it holds. */
function makeVersion1(path: string): void {
  const file = new DatabaseSync(path)
  const [indexes] = [
    file.prepare("SELECT sql FROM sqlite_schema WHERE tbl_name = 'jobs' AND type = 'index' AND sql IS NOT NULL").all(),
  ]
  file.exec(`
    BEGIN;
    CREATE TABLE kept AS SELECT * FROM jobs;
    DROP TABLE jobs;
    DROP TABLE task_values;
    DROP TABLE tombstones;
    DROP TABLE requests;
    DROP TABLE strays;
    ${VERSION_1_JOBS};
    ${indexes
      .map(({ sql }) => String(sql))
      .filter((sql) => !sql.includes('ended_at'))
      .join(';\n')};
    INSERT INTO jobs SELECT job, tenant, id, task, created_at, status, last_seq, group_id, parent_id, idempotency_key, fingerprint,
      policy, state, metadata FROM kept;
    DROP TABLE kept;
    PRAGMA user_version = 1;
    COMMIT;
  `)
  file.close()
}

describe('opening', () => {
  test('takes a database of version 1 on to this one, with everything that is in it', async () => {
    const path = join(await temporaryFolder(), 'tether.db')
    const before = await openStore(path)
    const [ended, runs] = [recordNamed('a'), recordNamed('b')]
    await before.commit([...upTo(ended, 'succeeded').changes, ...upTo(runs, 'running').changes])
    const found = await Promise.all([ended, runs].map((job) => before.lookup(job)))
    await before.close()
    makeVersion1(path)
    const after = await openStore(path)
    expect(await Promise.all([ended, runs].map((job) => after.lookup(job)))).toEqual(found)
    expect(await after.listEndedBefore(3_000, 10)).toEqual([refTo(ended)])
    expect(await after.commit([move(runs, 'running', 'failed', 3)])).toEqual([{ ok: true }])
    expect(await after.listEndedBefore(3_000, 10)).toHaveLength(2)
    const request = { kind: 'cancel', by: 'somebody', at: 1_000, reason: '', outcome: 'accepted' } as const
    await after.commit([{ kind: 'requests', requests: [{ ref: refTo(runs), request }] }])
    expect(await after.listRequests(refTo(runs), { after: 0, limit: 10 })).toEqual([{ number: 1, ...request }])
    await after.close()
    // And from then on it is one of this version.
    expect(look(path).prepare('PRAGMA user_version').get()).toEqual({ user_version: 6 })
  })

  test('refuses a database from a newer version, and leaves it as it is', async () => {
    const path = join(await temporaryFolder(), 'tether.db')
    const newer = look(path)
    newer.exec('CREATE TABLE future (a); PRAGMA user_version = 99')
    newer.close()
    const before = statSync(path)
    await expect(openStore(path)).rejects.toThrow(/has version 99, and this program knows versions up to 6/)
    expect(statSync(path).mtimeMs).toBe(before.mtimeMs)
  })

  test("refuses another program's database", async () => {
    const path = join(await temporaryFolder(), 'tether.db')
    const other = look(path)
    other.exec('CREATE TABLE notes (a)')
    other.close()
    await expect(openStore(path)).rejects.toThrow(/belongs to another program/)
  })

  test('refuses a file that is no database', async () => {
    const path = join(await temporaryFolder(), 'tether.db')
    writeFileSync(path, 'all work and no play '.repeat(1_000))
    const opening = openStore(path)
    await expect(opening).rejects.toThrow(StoreError)
    await expect(opening).rejects.toThrow(`the database ${path} is damaged`)
  })

  test('refuses a damaged file', async () => {
    const path = join(await temporaryFolder(), 'tether.db')
    const store = await openStore(path)
    await store.commit([create(recordNamed('a'))])
    await store.close()
    const size = statSync(path).size
    const header = new DatabaseSync(path)
    header.close()
    writeFileSync(path, Buffer.alloc(size - 4096, 7), { flag: 'r+', flush: true })
    await expect(openStore(path)).rejects.toThrow(/is damaged/)
  })

  test('refuses a path that cannot be written', async () => {
    const folder = await temporaryFolder()
    mkdirSync(join(folder, 'folder.db'))
    for (const path of [join(folder, 'folder.db'), join(folder, 'missing', 'tether.db')]) {
      const opening = openStore(path)
      await expect(opening).rejects.toThrow(StoreError)
      await expect(opening).rejects.toThrow(`the database ${path} cannot be opened`)
    }
  })

  test('takes up an empty file, as a process leaves it that dies while it makes one', async () => {
    const path = join(await temporaryFolder(), 'tether.db')
    writeFileSync(path, '')
    const store = await openStore(path)
    await store.check()
    await store.close()
    expect(look(path).prepare('PRAGMA auto_vacuum').get()).toEqual({ auto_vacuum: 2 })
  })

  test('makes a file that is its owner’s alone', async () => {
    const path = join(await temporaryFolder(), 'tether.db')
    const store = await openStore(path)
    await store.check()
    expect(statSync(path).mode & 0o077).toBe(0)
    expect(statSync(`${path}-wal`).mode & 0o077).toBe(0)
  })

  test('with full durability makes every commit wait for the disk', async () => {
    const path = join(await temporaryFolder(), 'tether.db')
    const store = await openStore(path, { durability: 'full' })
    const job = recordNamed('a')
    expect(await store.commit([create(job)])).toEqual([{ ok: true }])
    expect(await linesOf(store, job)).toHaveLength(1)
  })
})

describe('a transaction that fails', () => {
  async function openPoisoned(): Promise<{ store: JobStore; heal: () => void }> {
    const path = join(await temporaryFolder(), 'tether.db')
    const store = await openStore(path)
    const outside = look(path)
    outside.exec(`CREATE TRIGGER poison BEFORE INSERT ON log WHEN NEW.lines = 'poison'
      BEGIN SELECT RAISE(ABORT, 'poisoned'); END`)
    return { store, heal: () => outside.exec('DROP TRIGGER poison') }
  }
  const poison = (ref: JobRef, seq: number): StoreChange => ({
    kind: 'append',
    ref,
    events: { firstSeq: seq, lastSeq: seq, lines: 'poison' },
  })

  test('rejects with the cause, undoes everything of its commit, and the next goes on as if it had not been', async () => {
    const { store } = await openPoisoned()
    const [running, ending, deleted, created] = ['a', 'b', 'c', 'd'].map((id) => recordNamed(id))
    if (!running || !ending || !deleted || !created) throw new Error('four jobs')
    await store.commit([running, ending].flatMap((job) => upTo(job, 'running').changes))
    await store.commit(upTo(deleted, 'failed').changes)
    // A tail that is near the end of its chapter, so that the commit ends the chapter.
    const seq = await appendMany(store, running, 2, 60)

    const changes = [
      ...Array.from({ length: 10 }, (_, index) => append(running, seq + 1 + index)),
      move(ending, 'running', 'succeeded', 3),
      remove(deleted),
      create(created),
      poison(running, seq + 11),
    ]
    const commit = store.commit(changes)
    await expect(commit).rejects.toThrow(StoreError)
    await expect(commit).rejects.toMatchObject({ cause: { message: 'poisoned' } })

    expect(await store.lookup(running)).toMatchObject({ record: { lastSeq: seq } })
    expect(await store.lookup(ending)).toMatchObject({ record: { state: { status: 'running' }, lastSeq: 2 } })
    expect(await store.lookup(deleted)).toMatchObject({ kind: 'found' })
    expect(await store.lookup(created)).toEqual({ kind: 'unknown' })
    expect(await linesOf(store, running)).toHaveLength(seq)
    expect(await store.commit(changes.slice(0, -1))).toEqual(changes.slice(0, -1).map(() => ({ ok: true })))
    expect(await linesOf(store, running)).toHaveLength(seq + 10)
  })

  test('leaves the log whole when the file is opened again', async () => {
    const path = join(await temporaryFolder(), 'tether.db')
    const store = await openStore(path)
    look(path).exec(`CREATE TRIGGER poison BEFORE INSERT ON log WHEN NEW.lines = 'poison'
      BEGIN SELECT RAISE(ABORT, 'poisoned'); END`)
    const job = recordNamed('a')
    await store.commit(upTo(job, 'running').changes)
    for (let seq = 3; seq < 200; seq++) {
      await expect(store.commit([append(job, seq), poison(job, seq + 1)])).rejects.toThrow('poisoned')
      await store.commit([append(job, seq)])
    }
    await store.close()
    expect(await linesOf(await openStore(path), job)).toEqual(batch(1, 199).lines.split('\n'))
  })
})

describe('the log', () => {
  test('is whole after a reopening, whether a job wrote last a moment or 70,000 batches ago', async () => {
    const path = join(await temporaryFolder(), 'tether.db')
    const [quiet, busy] = [recordNamed('quiet'), recordNamed('busy')]
    const store = await openStore(path)
    await store.commit([...upTo(quiet, 'running').changes, append(quiet, 3), ...upTo(busy, 'running').changes])
    const busySeq = await appendMany(store, busy, 2, 70_000)
    await store.close()

    const again = await openStore(path)
    expect(await again.lookup(quiet)).toMatchObject({ record: { lastSeq: 3 } })
    expect(await again.lookup(busy)).toMatchObject({ record: { lastSeq: busySeq } })
    expect(await linesOf(again, quiet)).toEqual(batch(1, 3).lines.split('\n'))
    expect(await linesOf(again, busy, busySeq - 300)).toHaveLength(300)
    expect(await again.commit([append(quiet, 4), append(busy, busySeq + 1)])).toEqual([{ ok: true }, { ok: true }])
  })

  test('of a deleted job leaves the disk bit by bit, while commits go on', async () => {
    const path = join(await temporaryFolder(), 'tether.db')
    const [big, other] = [recordNamed('big'), recordNamed('other')]
    const store = await openStore(path)
    await store.commit([...upTo(big, 'running').changes, ...upTo(other, 'running').changes])
    const seq = await appendMany(store, big, 2, 8_000, 4_000)
    await store.commit([move(big, 'running', 'succeeded', seq + 1), remove(big)])
    const outside = look(path)
    const pagesBefore = Number(outside.prepare('PRAGMA page_count').get()?.['page_count'])
    expect(count(outside, 'doomed')).toBe(1)

    let otherSeq = 2
    await expect
      .poll(
        async () => {
          otherSeq += 1
          expect(await store.commit([append(other, otherSeq)])).toEqual([{ ok: true }])
          return Number(outside.prepare('PRAGMA page_count').get()?.['page_count'])
        },
        { timeout: 20_000, interval: 1 },
      )
      .toBeLessThan(pagesBefore / 4)
    expect(count(outside, 'doomed')).toBe(0)
    expect(await linesOf(store, other)).toHaveLength(otherSeq)
  })

  test('of a deleted job is removed at the next open where the process ended before', async () => {
    const path = join(await temporaryFolder(), 'tether.db')
    const [job, next] = [recordNamed('a'), recordNamed('b')]
    const store = await openStore(path)
    await store.commit(upTo(job, 'running').changes)
    const seq = await appendMany(store, job, 2, 3_000)
    await store.commit([move(job, 'running', 'failed', seq + 1), remove(job)])
    await store.close()
    const outside = look(path)
    expect(count(outside, 'log')).toBeGreaterThan(0)

    const again = await openStore(path)
    await again.commit(upTo(next, 'running').changes)
    await expect.poll(() => count(outside, 'doomed')).toBe(0)
    expect(count(outside, 'log')).toBe(2)
    expect(count(outside, 'chapters')).toBe(0)
    expect(await linesOf(again, next)).toEqual(batch(1, 2).lines.split('\n'))
  })

  test('of a deleted job that cannot be removed is reported, and tried again', async () => {
    const path = join(await temporaryFolder(), 'tether.db')
    const reported: unknown[] = []
    const store = await openStore(path, { onBackgroundError: (error) => reported.push(error) })
    const outside = look(path)
    outside.exec(`CREATE TRIGGER stuck BEFORE DELETE ON log BEGIN SELECT RAISE(ABORT, 'stuck'); END`)
    const job = recordNamed('a')
    await store.commit([...upTo(job, 'failed').changes, remove(job)])
    await expect.poll(() => reported).toHaveLength(1)
    expect(count(outside, 'log')).toBe(3)
    outside.exec('DROP TRIGGER stuck')
    await expect(store.check()).rejects.toThrow('stuck')
    await expect.poll(() => count(outside, 'log')).toBe(0)
    await store.check()
  })
})

describe('checkpoints', () => {
  test('carry the events into the database beside the commits, so that the write-ahead log stays small', async () => {
    const path = join(await temporaryFolder(), 'tether.db')
    const errors: unknown[] = []
    const store = await openStore(path, { onBackgroundError: (error) => errors.push(error) })
    const job = recordNamed('a')
    await store.commit(upTo(job, 'running').changes)
    let seq = 2
    for (let cycle = 0; cycle < 5; cycle++) {
      const sizeBefore = statSync(path).size
      await expect
        .poll(
          async () => {
            // Several at once: some of them meet a checkpoint that they have to wait for.
            const commits = Array.from({ length: 4 }, () => {
              seq += 10
              return store.commit([{ kind: 'append', ref: job, events: batch(seq - 9, 10, '.'.repeat(20_000)) }])
            })
            expect(await Promise.all(commits)).toEqual(commits.map(() => [{ ok: true }]))
            return statSync(path).size
          },
          { interval: 5, timeout: 10_000 },
        )
        .toBeGreaterThan(sizeBefore + 10_000_000)
    }
    expect(await linesOf(store, job, seq - 20)).toHaveLength(20)
    expect(errors).toEqual([])
    // Less than what makes SQLite checkpoint within a commit.
    expect(statSync(`${path}-wal`).size).toBeLessThan(60 * 1024 * 1024)
  })

  test('are awaited by a close, and what was committed before it is there', async () => {
    const path = join(await temporaryFolder(), 'tether.db')
    const store = await openStore(path)
    const job = recordNamed('a')
    await store.commit(upTo(job, 'running').changes)
    const commits = Array.from({ length: 40 }, (_, index) =>
      store.commit([{ kind: 'append', ref: job, events: batch(3 + index, 1, '.'.repeat(1_000_000)) }]),
    )
    await store.close()
    expect(await Promise.all(commits)).toEqual(commits.map(() => [{ ok: true }]))
    const again = await openStore(path)
    expect(await again.lookup(job)).toMatchObject({ record: { lastSeq: 42 } })
  })
})

test("what was asked of ids that are nobody's any more leaves the disk, a little with each check", async () => {
  const path = join(await temporaryFolder(), 'tether.db')
  const clock = new JumpingClock()
  const store = await openStore(path, { clock })
  const request = { kind: 'cancel', by: 'somebody', at: 1_000, reason: '', outcome: 'accepted' } as const
  const [job, deleted] = [recordNamed('a'), recordNamed('b')]
  const strays = Array.from({ length: 50 }, (_, n) => recordNamed(`s${n}`))
  await store.commit([
    create(job),
    ...upTo(deleted, 'failed').changes,
    { kind: 'requests', requests: [job, deleted, ...strays].map((record) => ({ ref: refTo(record), request })) },
    remove(deleted, clock.now() + 1_000),
  ])
  const outside = look(path)
  await store.check()
  expect(count(outside, 'requests')).toBe(52)
  clock.jump(25 * 3_600_000)
  for (let n = 0; n < 3; n += 1) await store.check()
  expect(count(outside, 'requests')).toBe(1)
  expect(count(outside, 'strays') + count(outside, 'spent')).toBe(0)
  expect(await store.listRequests(job, { after: 0, limit: 10 })).toHaveLength(1)
})

test('what was committed survives kill -9, whole', { timeout: 60_000 }, async () => {
  const path = join(await temporaryFolder(), 'tether.db')
  const pair = [recordNamed('left'), recordNamed('right')]
  let printedSeq = 0
  for (const commitsBeforeKill of [3, 150, 400]) {
    const child = spawn(process.execPath, [join(import.meta.dirname, 'commitLoop.ts'), path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    onTestFinished(() => void child.kill('SIGKILL'))
    let commits = 0
    for await (const line of createInterface({ input: child.stdout })) {
      printedSeq = Number(line)
      commits += 1
      if (commits === commitsBeforeKill) child.kill('SIGKILL')
    }
    if (child.signalCode === null && child.exitCode === null) await once(child, 'exit')
    expect(child.signalCode).toBe('SIGKILL')

    const store = await openStore(path)
    const found = await Promise.all(pair.map((job) => store.lookup(job)))
    const [left, right] = found.map((lookup) => (lookup.kind === 'found' ? lookup.record.lastSeq : 0))
    expect(left).toBeGreaterThanOrEqual(printedSeq)
    expect(right).toBe(left)
    for (const job of pair) expect(await linesOf(store, job)).toEqual(batch(1, left).lines.split('\n'))
    const outside = look(path)
    await expect.poll(() => count(outside, 'doomed')).toBe(0)
    expect(count(outside, 'jobs')).toBe(2)
    expect(outside.prepare('SELECT count(*) AS count FROM log WHERE job NOT IN (SELECT job FROM jobs)').get()).toEqual({
      count: 0,
    })
    expect(outside.prepare('PRAGMA integrity_check').get()).toEqual({ integrity_check: 'ok' })
    outside.close()
    await store.close()
  }
})
