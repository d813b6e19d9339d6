import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { JobRef } from '../../job/key.ts'
import { integer, refIn } from './columns.ts'

interface Statements {
  readonly spend: StatementSync
  readonly until: StatementSync
  readonly forget: StatementSync
  readonly takeEnded: StatementSync
}

/** More than one for each that is spent, so that they become fewer. */
const TAKEN_AT_ONCE = 20

/** Ids of deleted jobs, which cannot be started again for a while. Times are wall time in ms. */
export class SpentIds {
  readonly #statements: Statements

  constructor(statements: Statements) {
    this.#statements = statements
  }

  spend({ tenant, id }: JobRef, until: number): void {
    this.#statements.spend.run(tenant, id, until)
  }

  isSpent(ref: JobRef, now: number): boolean {
    return (this.#untilOf(ref) ?? 0) > now
  }

  /** `false` where the id cannot be used; where it was spent and is free again, that is forgotten, and `onFreed` called. */
  take(ref: JobRef, now: number, onFreed: () => void): boolean {
    const until = this.#untilOf(ref)
    if (until === undefined) return true
    if (until > now) return false
    this.#statements.forget.run(ref.tenant, ref.id)
    onFreed()
    return true
  }

  /** Ids that are free again, and not among the spent any more. */
  takeEnded(now: number): readonly JobRef[] {
    return this.#statements.takeEnded.all(now, TAKEN_AT_ONCE).map(refIn)
  }

  #untilOf({ tenant, id }: JobRef): number | undefined {
    const row = this.#statements.until.get(tenant, id)
    return row === undefined ? undefined : integer(row, 'until')
  }
}

export function openSpentIds(sqlite: DatabaseSync): SpentIds {
  return new SpentIds({
    spend: sqlite.prepare('INSERT OR REPLACE INTO spent (tenant, id, until) VALUES (?, ?, ?)'),
    until: sqlite.prepare('SELECT until FROM spent WHERE tenant = ? AND id = ?'),
    forget: sqlite.prepare('DELETE FROM spent WHERE tenant = ? AND id = ?'),
    takeEnded:
      sqlite.prepare(`DELETE FROM spent WHERE (tenant, id) IN (SELECT tenant, id FROM spent WHERE until <= ? LIMIT ?)
      RETURNING tenant, id`),
  })
}
