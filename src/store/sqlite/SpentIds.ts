import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { JobRef } from '../../job/key.ts'
import { integer } from './columns.ts'

interface Statements {
  readonly spend: StatementSync
  readonly until: StatementSync
  readonly forgetEnded: StatementSync
}

/** Ids of deleted jobs, which cannot be started again for a while. Times are wall time in ms. */
export class SpentIds {
  readonly #statements: Statements

  constructor(statements: Statements) {
    this.#statements = statements
  }

  spend({ tenant, id }: JobRef, until: number, now: number): void {
    this.#statements.forgetEnded.run(now)
    if (until > now) this.#statements.spend.run(tenant, id, until)
  }

  isSpent({ tenant, id }: JobRef, now: number): boolean {
    const row = this.#statements.until.get(tenant, id)
    return row !== undefined && integer(row, 'until') > now
  }
}

export function openSpentIds(sqlite: DatabaseSync): SpentIds {
  return new SpentIds({
    spend: sqlite.prepare('INSERT OR REPLACE INTO spent (tenant, id, until) VALUES (?, ?, ?)'),
    until: sqlite.prepare('SELECT until FROM spent WHERE tenant = ? AND id = ?'),
    forgetEnded: sqlite.prepare('DELETE FROM spent WHERE until <= ?'),
  })
}
