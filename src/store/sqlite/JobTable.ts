import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { JobId } from '../../job/id.ts'
import type { Json } from '../../job/json.ts'
import type { JobRef } from '../../job/key.ts'
import type { JobPolicy } from '../../job/policy.ts'
import type { JobRecord } from '../../job/record.ts'
import type { JobState } from '../../job/state.ts'
import { type ActiveStatus, isStatus, isTerminal, type JobStatus, STATUSES } from '../../job/status.ts'
import { StoreError } from '../JobStore.ts'
import { integer, type Row, text } from './columns.ts'
import { RECORD_COLUMNS, recordOf, splitState } from './records.ts'

interface Statements {
  readonly insert: StatementSync
  readonly insertInput: StatementSync
  readonly insertResult: StatementSync
  readonly move: StatementSync
  readonly replaceInput: StatementSync
  readonly setPolicy: StatementSync
  readonly setSettledAt: StatementSync
  readonly delete: StatementSync
  readonly deleteInput: StatementSync
  readonly deleteResult: StatementSync
  readonly place: StatementSync
  readonly keyTaken: StatementSync
  readonly record: StatementSync
  readonly recordByKey: StatementSync
  readonly activeRecords: StatementSync
  readonly activePlaces: StatementSync
  readonly endedBefore: StatementSync
}

/** Where a record stands, without reading it. */
export interface JobPlace {
  readonly job: number
  readonly status: JobStatus
}

export interface ActivePlace {
  readonly ref: JobRef
  readonly job: number
  readonly status: ActiveStatus
  /** As of the job's last move. */
  readonly lastSeq: number
}

/** The records of jobs: what is read and written of one. It decides nothing; `SqliteJobStore` does. */
export class JobTable {
  readonly #statements: Statements

  constructor(statements: Statements) {
    this.#statements = statements
  }

  /** Returns the number of the new job. */
  insert(record: JobRecord, lastSeq: number): number {
    const { json, result } = splitState(record.state)
    const { lastInsertRowid } = this.#statements.insert.run(
      record.tenant,
      record.id,
      record.task,
      record.createdAt,
      record.state.status,
      lastSeq,
      record.group ?? null,
      record.parentId ?? null,
      record.idempotencyKey ?? null,
      record.fingerprint,
      JSON.stringify(record.policy),
      json,
      JSON.stringify(record.metadata),
      endedAtOf(record.state),
      record.workspaceOf ?? null,
      record.trace === undefined ? null : JSON.stringify(record.trace),
    )
    const job = Number(lastInsertRowid)
    this.#statements.insertInput.run(job, JSON.stringify(record.input))
    if (result !== undefined) this.#statements.insertResult.run(job, result)
    return job
  }

  /** Compare-and-set. The caller has seen the job in `from` already; where the file says otherwise, somebody else wrote it. */
  move(job: number, from: ActiveStatus, state: JobState, lastSeq: number): void {
    const { json, result } = splitState(state)
    const { changes } = this.#statements.move.run(state.status, json, lastSeq, endedAtOf(state), job, from)
    if (changes !== 1)
      throw new StoreError(`the record of job ${job} must be ${from}: another process changed the database`)
    if (result !== undefined) this.#statements.insertResult.run(job, result)
  }

  replaceInput(job: number, input: Json): void {
    this.#statements.replaceInput.run(JSON.stringify(input), job)
  }

  setPolicy(job: number, policy: JobPolicy): void {
    this.#statements.setPolicy.run(JSON.stringify(policy), job)
  }

  setSettledAt(job: number, settledAt: number): void {
    this.#statements.setSettledAt.run(settledAt, job)
  }

  delete(job: number): void {
    this.#statements.delete.run(job)
    this.#statements.deleteInput.run(job)
    this.#statements.deleteResult.run(job)
  }

  placeOf({ tenant, id }: JobRef): JobPlace | undefined {
    const row = this.#statements.place.get(tenant, id)
    if (row === undefined) return undefined
    return { job: integer(row, 'job'), status: statusOf(text(row, 'status')) }
  }

  isKeyTaken(tenant: string, idempotencyKey: string): boolean {
    return this.#statements.keyTaken.get(tenant, idempotencyKey) !== undefined
  }

  record({ tenant, id }: JobRef): JobRecord | undefined {
    const row = this.#statements.record.get(tenant, id)
    return row === undefined ? undefined : recordOf(row)
  }

  recordByKey(tenant: string, idempotencyKey: string): JobRecord | undefined {
    const row = this.#statements.recordByKey.get(tenant, idempotencyKey)
    return row === undefined ? undefined : recordOf(row)
  }

  /** Oldest first. */
  activeRecords(): readonly JobRecord[] {
    return this.#statements.activeRecords.all().map(recordOf)
  }

  /** The longest ago first. */
  endedBefore(time: number, limit: number): readonly JobRef[] {
    return this.#statements.endedBefore.all(time, limit).map(refOf)
  }

  activePlaces(): readonly ActivePlace[] {
    return this.#statements.activePlaces.all().map((row) => ({
      ref: refOf(row),
      job: integer(row, 'job'),
      status: activeStatusOf(text(row, 'status')),
      lastSeq: integer(row, 'last_seq'),
    }))
  }
}

function refOf(row: Row): JobRef {
  return { tenant: text(row, 'tenant'), id: text(row, 'id') as JobId }
}

function endedAtOf(state: JobState): number | null {
  return 'endedAt' in state ? state.endedAt : null
}

function statusOf(name: string): JobStatus {
  if (!isStatus(name)) throw new StoreError(`the database is damaged: status ${name} is none of ${STATUSES.join(', ')}`)
  return name
}

function activeStatusOf(name: string): ActiveStatus {
  const status = statusOf(name)
  if (isTerminal(status)) throw new StoreError(`the database is damaged: status ${name} stands among the active ones`)
  return status
}

export function openJobTable(sqlite: DatabaseSync): JobTable {
  const whole = `SELECT ${RECORD_COLUMNS}, inputs.json AS input, results.json AS result
    FROM jobs JOIN inputs ON inputs.job = jobs.job LEFT JOIN results ON results.job = jobs.job`
  const active = `status IN (${STATUSES.filter((status) => !isTerminal(status))
    .map((status) => `'${status}'`)
    .join(', ')})`
  return new JobTable({
    insert:
      sqlite.prepare(`INSERT INTO jobs (tenant, id, task, created_at, status, last_seq, group_id, parent_id, idempotency_key,
      fingerprint, policy, state, metadata, ended_at, workspace_of, trace) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`),
    insertInput: sqlite.prepare('INSERT INTO inputs (job, json) VALUES (?, ?)'),
    insertResult: sqlite.prepare('INSERT INTO results (job, json) VALUES (?, ?)'),
    move: sqlite.prepare(
      'UPDATE jobs SET status = ?, state = ?, last_seq = ?, ended_at = ? WHERE job = ? AND status = ?',
    ),
    replaceInput: sqlite.prepare('UPDATE inputs SET json = ? WHERE job = ?'),
    setPolicy: sqlite.prepare('UPDATE jobs SET policy = ? WHERE job = ?'),
    setSettledAt: sqlite.prepare(`UPDATE jobs SET state = json_set(state, '$.settledAt', ?) WHERE job = ?`),
    delete: sqlite.prepare('DELETE FROM jobs WHERE job = ?'),
    deleteInput: sqlite.prepare('DELETE FROM inputs WHERE job = ?'),
    deleteResult: sqlite.prepare('DELETE FROM results WHERE job = ?'),
    place: sqlite.prepare('SELECT job, status FROM jobs WHERE tenant = ? AND id = ?'),
    keyTaken: sqlite.prepare('SELECT 1 FROM jobs WHERE tenant = ? AND idempotency_key = ?'),
    record: sqlite.prepare(`${whole} WHERE tenant = ? AND id = ?`),
    recordByKey: sqlite.prepare(`${whole} WHERE tenant = ? AND idempotency_key = ?`),
    activeRecords: sqlite.prepare(`${whole} WHERE ${active} ORDER BY created_at, id, tenant`),
    activePlaces: sqlite.prepare(`SELECT job, tenant, id, status, last_seq FROM jobs WHERE ${active}`),
    endedBefore: sqlite.prepare('SELECT tenant, id FROM jobs WHERE ended_at < ? ORDER BY ended_at LIMIT ?'),
  })
}
