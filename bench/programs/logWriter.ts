import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setImmediate as turn } from 'node:timers/promises'
import { systemClock } from '../../src/clock.ts'
import { EventLog } from '../../src/eventlog/EventLog.ts'
import { JobLog } from '../../src/eventlog/JobLog.ts'
import { mintJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT } from '../../src/job/key.ts'
import type { JobRecord } from '../../src/job/record.ts'
import { openSqliteJobStore } from '../../src/store/sqlite/SqliteJobStore.ts'
import { answerCalls } from '../Program.ts'

/** Each turn of the loop `jobs` jobs say `perJob` events of `text`, and all that is one transaction. */
export interface WriteOrder {
  readonly jobs: number
  readonly perJob: number
  readonly text: string
  readonly forMs: number
}

let folder: string | undefined

async function file(name: string): Promise<string> {
  folder ??= await mkdtemp(join(tmpdir(), 'tether-bench-log-'))
  return join(folder, name)
}

const calls = {
  /** Events a second through the log: emitted, numbered, encoded, committed and published. */
  async tether({ jobs, perJob, text, forMs }: WriteOrder): Promise<number> {
    const store = await openSqliteJobStore({
      path: await file(`tether-${Date.now()}.db`),
      durability: 'process',
      maxLogBytes: 2 ** 40,
    })
    const eventLog = new EventLog({ store, clock: systemClock, patienceMs: 5000, onRefused: refuse })
    const logs = await Promise.all(
      Array.from({ length: jobs }, async () => {
        const record = recordOf()
        const log = new JobLog(eventLog, systemClock, { tenant: record.tenant, id: record.id }, 0)
        await log.create(record, [{ type: 'job.queued', job: {} as never, position: 0 }])
        await log.move(
          'queued',
          { status: 'running', startedAt: 1, attempt: 1, replica: 'bench' },
          { type: 'job.started', attempt: 1, replica: 'bench' },
        )
        return log
      }),
    )
    let events = 0
    const beganMs = performance.now()
    while (performance.now() - beganMs < forMs) {
      let room = Promise.resolve()
      for (const log of logs) {
        for (let n = 0; n < perJob; n += 1)
          room = log.emit({ type: 'data', name: 'item', value: { n: (events += 1), text } })
      }
      await eventLog.flush()
      await room
    }
    const tookMs = performance.now() - beganMs
    await store.close()
    return (events / tookMs) * 1000
  },
  /** The same texts, a row for each job's events of a turn, in one transaction a turn; no index, nothing kept in memory. */
  async bare({ jobs, perJob, text, forMs }: WriteOrder): Promise<number> {
    const sqlite = new DatabaseSync(await file(`bare-${Date.now()}.db`))
    sqlite.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
      CREATE TABLE log (place INTEGER PRIMARY KEY, job INTEGER NOT NULL, seq INTEGER NOT NULL, lines TEXT NOT NULL) STRICT`)
    const insert = sqlite.prepare('INSERT INTO log (job, seq, lines) VALUES (?, ?, ?)')
    let events = 0
    const beganMs = performance.now()
    while (performance.now() - beganMs < forMs) {
      sqlite.exec('BEGIN IMMEDIATE')
      for (let job = 0; job < jobs; job += 1) {
        const lines: string[] = []
        const seq = events
        for (let n = 0; n < perJob; n += 1) {
          lines.push(
            JSON.stringify({
              type: 'data',
              at: new Date().toISOString(),
              name: 'item',
              value: { n: (events += 1), text },
            }),
          )
        }
        insert.run(job, seq, lines.join('\n'))
      }
      sqlite.exec('COMMIT')
      await turn()
    }
    const tookMs = performance.now() - beganMs
    sqlite.close()
    return (events / tookMs) * 1000
  },
}

export type LogWriterCalls = typeof calls

function refuse(change: { readonly kind: string }, why: string): never {
  throw new Error(`the store refused ${change.kind}: ${why}`)
}

function recordOf(): JobRecord {
  return {
    id: mintJobId(),
    tenant: DEFAULT_TENANT,
    task: 'bench',
    createdAt: Date.now(),
    input: null,
    policy: {} as JobRecord['policy'],
    metadata: {},
    fingerprint: '',
    state: { status: 'queued', attempt: 0 },
    lastSeq: 0,
  }
}

answerCalls(calls, async () => {
  if (folder !== undefined) await rm(folder, { recursive: true, force: true })
})
