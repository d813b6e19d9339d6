import type { DatabaseSync } from 'node:sqlite'
import { STATUSES } from '../../job/status.ts'
import { StoreError } from '../JobStore.ts'
import { integer } from './columns.ts'

/** What `user_version` says in a file of this program. A change of the tables below counts it up and comes with its migration. */
const SCHEMA_VERSION = 6

/**
 * - `jobs.job` is what every other table names a job by. AUTOINCREMENT: what is left of a deleted job's log must never be taken
 *   for another's.
 * - `inputs` and `results` may be 1 MiB each and stand apart, so that a list never reads past them.
 * - In the indexes the status stands before the time: a list asks once for each status and merges, so that a rare status among
 *   100,000 jobs costs as little as a common one, and one index serves a filter with and without a status.
 *   `jobs_by_status` begins with the status and not with the tenant because the active jobs of all tenants are asked for at open.
 * - `ended_at` stands in `state` too; here it has an index of its own, for jobs that are kept long enough.
 * - `requests` and `strays`: see RequestTable.ts. They name a job by its id, since they outlive it and come before it.
 * - `log` and `chapters`: see LogTable.ts. `doomed`: deleted jobs whose log is not yet gone. `spent`: ids not to be used again.
 */
const TABLES = `
  CREATE TABLE jobs (
    job INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    task TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN (${STATUSES.map((status) => `'${status}'`).join(', ')})),
    last_seq INTEGER NOT NULL,
    group_id TEXT,
    parent_id TEXT,
    idempotency_key TEXT,
    fingerprint TEXT NOT NULL,
    policy TEXT NOT NULL,
    state TEXT NOT NULL,
    metadata TEXT NOT NULL,
    ended_at INTEGER,
    workspace_of TEXT,
    trace TEXT,
    UNIQUE (tenant, id)
  ) STRICT;
  CREATE UNIQUE INDEX jobs_by_key ON jobs (tenant, idempotency_key) WHERE idempotency_key IS NOT NULL;
  CREATE INDEX jobs_by_status ON jobs (status, tenant, created_at, id);
  CREATE INDEX jobs_by_task ON jobs (tenant, task, status, created_at, id);
  CREATE INDEX jobs_by_group ON jobs (tenant, group_id, status, created_at, id) WHERE group_id IS NOT NULL;
  CREATE INDEX jobs_by_parent ON jobs (tenant, parent_id, status, created_at, id) WHERE parent_id IS NOT NULL;
  CREATE INDEX jobs_by_end ON jobs (ended_at) WHERE ended_at IS NOT NULL;

  CREATE TABLE inputs (job INTEGER PRIMARY KEY, json TEXT NOT NULL) STRICT;
  CREATE TABLE results (job INTEGER PRIMARY KEY, json TEXT NOT NULL) STRICT;

  CREATE TABLE log (
    place INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    lines TEXT NOT NULL
  ) STRICT;
  CREATE TABLE chapters (
    job INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    first_place INTEGER NOT NULL,
    offsets BLOB NOT NULL,
    PRIMARY KEY (job, first_seq)
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE doomed (job INTEGER PRIMARY KEY) STRICT;
  CREATE TABLE spent (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX spent_by_end ON spent (until);

  CREATE TABLE task_values (
    tenant TEXT NOT NULL,
    task TEXT NOT NULL,
    key TEXT NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (tenant, task, key)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE tombstones (name TEXT PRIMARY KEY, request TEXT NOT NULL, expires_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE INDEX tombstones_by_end ON tombstones (expires_at);

  CREATE TABLE requests (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    number INTEGER NOT NULL,
    json TEXT NOT NULL,
    PRIMARY KEY (tenant, id, number)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE strays (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    until INTEGER NOT NULL,
    UNIQUE (tenant, id)
  ) STRICT;
  CREATE INDEX strays_by_end ON strays (until);

  CREATE TABLE probe (one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER NOT NULL) STRICT;

  PRAGMA user_version = ${SCHEMA_VERSION};
`

/** What takes a file from the version before to this one. Each runs in one transaction with the new `user_version`. */
const MIGRATIONS: Readonly<Record<number, string>> = {
  2: `
    ALTER TABLE jobs ADD COLUMN ended_at INTEGER;
    UPDATE jobs SET ended_at = json_extract(state, '$.endedAt') WHERE json_type(state, '$.endedAt') = 'integer';
    CREATE INDEX jobs_by_end ON jobs (ended_at) WHERE ended_at IS NOT NULL;
  `,
  3: `
    CREATE TABLE task_values (
      tenant TEXT NOT NULL,
      task TEXT NOT NULL,
      key TEXT NOT NULL,
      json TEXT NOT NULL,
      PRIMARY KEY (tenant, task, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE tombstones (name TEXT PRIMARY KEY, request TEXT NOT NULL, expires_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX tombstones_by_end ON tombstones (expires_at);
  `,
  4: `
    ALTER TABLE jobs ADD COLUMN workspace_of TEXT;
  `,
  5: `
    CREATE TABLE requests (
      tenant TEXT NOT NULL,
      id TEXT NOT NULL,
      number INTEGER NOT NULL,
      json TEXT NOT NULL,
      PRIMARY KEY (tenant, id, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE strays (
      place INTEGER PRIMARY KEY AUTOINCREMENT,
      tenant TEXT NOT NULL,
      id TEXT NOT NULL,
      until INTEGER NOT NULL,
      UNIQUE (tenant, id)
    ) STRICT;
    CREATE INDEX strays_by_end ON strays (until);
  `,
  6: `
    ALTER TABLE jobs ADD COLUMN trace TEXT;
  `,
}

/**
 * Whether the file is ours, of an older version (`migrateSchema` takes it on), or empty and to be made ours. Reads only, so that
 * a foreign file stays as it is.
 * @throws {StoreError} where the file is from a newer version or is another program's.
 */
export function inspectSchema(sqlite: DatabaseSync, path: string): 'empty' | 'older' | 'current' {
  const version = versionOf(sqlite)
  if (version === SCHEMA_VERSION) return 'current'
  if (version > 0 && version < SCHEMA_VERSION) return 'older'
  if (version > SCHEMA_VERSION) {
    throw new StoreError(
      `the database ${path} has version ${version}, and this program knows versions up to ${SCHEMA_VERSION}: start the newer program, or use another folder`,
    )
  }
  const tables = integer(sqlite.prepare('SELECT count(*) AS count FROM sqlite_schema').get(), 'count')
  if (version !== 0 || tables !== 0) {
    throw new StoreError(
      `the database ${path} belongs to another program (version ${version}, ${tables} tables and indexes)`,
    )
  }
  return 'empty'
}

/**
 * One transaction: a process that dies here leaves an empty file, which the next one takes up again. Pages that deletes set
 * free can go back to the disk in slices only where `auto_vacuum` is set before anything is written, a switch to WAL included.
 */
export function createSchema(sqlite: DatabaseSync): void {
  sqlite.exec(`PRAGMA auto_vacuum = INCREMENTAL; BEGIN IMMEDIATE; ${TABLES} COMMIT;`)
}

/** One version after the other: a process that dies here leaves a file of one of them, never of half of one. */
export function migrateSchema(sqlite: DatabaseSync): void {
  for (let version = versionOf(sqlite) + 1; version <= SCHEMA_VERSION; version += 1) {
    sqlite.exec(`BEGIN IMMEDIATE; ${MIGRATIONS[version] ?? ''} PRAGMA user_version = ${version}; COMMIT;`)
  }
}

function versionOf(sqlite: DatabaseSync): number {
  return integer(sqlite.prepare('PRAGMA user_version').get(), 'user_version')
}
