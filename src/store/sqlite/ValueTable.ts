import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { text } from './columns.ts'

interface Statements {
  readonly get: StatementSync
  readonly set: StatementSync
  readonly delete: StatementSync
  readonly list: StatementSync
}

/** The last code point: after every key that begins with a prefix stands the prefix with this behind it. */
const LAST = '\u{10ffff}'

/** What jobs of a task keep between their runs. */
export class ValueTable {
  readonly #statements: Statements

  constructor(statements: Statements) {
    this.#statements = statements
  }

  get(tenant: string, task: string, key: string): string | undefined {
    const row = this.#statements.get.get(tenant, task, key)
    return row === undefined ? undefined : text(row, 'json')
  }

  /** `json` undefined deletes it. */
  set(tenant: string, task: string, key: string, json: string | undefined): void {
    if (json === undefined) this.#statements.delete.run(tenant, task, key)
    else this.#statements.set.run(tenant, task, key, json)
  }

  list(tenant: string, task: string, page: { prefix: string; after: string; limit: number }): readonly string[] {
    const { prefix, after, limit } = page
    return this.#statements.list
      .all({ tenant, task, prefix, after, last: prefix + LAST, limit })
      .map((row) => text(row, 'key'))
  }
}

export function openValueTable(sqlite: DatabaseSync): ValueTable {
  return new ValueTable({
    get: sqlite.prepare('SELECT json FROM task_values WHERE tenant = ? AND task = ? AND key = ?'),
    set: sqlite.prepare('INSERT OR REPLACE INTO task_values (tenant, task, key, json) VALUES (?, ?, ?, ?)'),
    delete: sqlite.prepare('DELETE FROM task_values WHERE tenant = ? AND task = ? AND key = ?'),
    list: sqlite.prepare(`SELECT key FROM task_values WHERE tenant = :tenant AND task = :task AND key > :after
      AND key >= :prefix AND (:prefix = '' OR key < :last) ORDER BY key LIMIT :limit`),
  })
}
