import { type JobKey, type JobRef, keyOf } from '../../src/job/key.ts'
import type { JobRecord } from '../../src/job/record.ts'
import { isTerminal } from '../../src/job/status.ts'
import { unreachable } from '../../src/job/unreachable.ts'
import type { ChangeResult, EventBatch, ListFilter, Lookup, StoreChange } from '../../src/store/JobStore.ts'
import type { ChangeOf } from './records.ts'

interface Kept {
  record: JobRecord
  readonly lines: string[]
}

const DONE: ChangeResult = { ok: true }

/** What a store promises, written down as simply as can be; every real one is compared with it. */
export class ModelStore {
  readonly #jobs = new Map<JobKey, Kept>()
  readonly #spentUntil = new Map<JobKey, number>()

  apply(change: StoreChange): ChangeResult {
    if (change.kind === 'create') return this.#create(change)
    if (change.kind === 'value' || change.kind === 'tombstone' || change.kind === 'requests')
      throw new Error('what stands apart from jobs has tests of its own')
    const kept = this.#jobs.get(keyOf(change.ref))
    if (kept === undefined) return { ok: false, why: 'missing' }
    const { state } = kept.record
    switch (change.kind) {
      case 'move':
        if (state.status !== change.from) return { ok: false, why: 'status' }
        if (!this.#follows(kept, change.events)) return { ok: false, why: 'sequence' }
        kept.record = { ...kept.record, state: change.state, ...('input' in change ? { input: change.input } : {}) }
        return this.#log(kept, change.events)
      case 'append':
        if (state.status === 'cancelling' || isTerminal(state.status)) return { ok: false, why: 'status' }
        if (!this.#follows(kept, change.events)) return { ok: false, why: 'sequence' }
        return this.#log(kept, change.events)
      case 'policy':
        if (isTerminal(state.status)) return { ok: false, why: 'status' }
        kept.record = { ...kept.record, policy: change.policy }
        return DONE
      case 'settled':
        if (state.status !== 'abandoned') return { ok: false, why: 'status' }
        kept.record = { ...kept.record, state: { ...state, settledAt: change.settledAt } }
        return DONE
      case 'delete':
        if (!isTerminal(state.status)) return { ok: false, why: 'status' }
        this.#jobs.delete(keyOf(change.ref))
        this.#spentUntil.set(keyOf(change.ref), change.spentUntil)
        return DONE
      default:
        return unreachable(change)
    }
  }

  lookup(ref: JobRef): Lookup {
    const kept = this.#jobs.get(keyOf(ref))
    if (kept !== undefined) return { kind: 'found', record: kept.record }
    return { kind: this.#isSpent(ref) ? 'spent' : 'unknown' }
  }

  recordByKey(tenant: string, key: string): JobRecord | undefined {
    return this.#records().find((record) => record.tenant === tenant && record.idempotencyKey === key)
  }

  list({ tenant, statuses, task, group, parentId, limit, before }: ListFilter): readonly JobRecord[] {
    return this.#records()
      .filter((record) => record.tenant === tenant)
      .filter(({ state }) => statuses === undefined || statuses.includes(state.status))
      .filter((record) => task === undefined || record.task === task)
      .filter((record) => group === undefined || record.group === group)
      .filter((record) => parentId === undefined || record.parentId === parentId)
      .toSorted((a, b) => -oldestFirst(a, b))
      .filter((record) => before === undefined || oldestFirst(record, { ...before, tenant }) < 0)
      .slice(0, limit)
      .map(shortened)
  }

  listActive(): readonly JobRecord[] {
    return this.#records()
      .filter(({ state }) => !isTerminal(state.status))
      .toSorted(oldestFirst)
  }

  /** Every line of the job's log, in order. */
  linesOf(ref: JobRef): readonly string[] {
    return this.#jobs.get(keyOf(ref))?.lines ?? []
  }

  lastSeqOf(ref: JobRef): number {
    return this.linesOf(ref).length
  }

  #create({ record, events }: ChangeOf<'create'>): ChangeResult {
    if (this.#jobs.has(keyOf(record))) return { ok: false, why: 'exists' }
    if (this.#isSpent(record)) return { ok: false, why: 'spent' }
    const { tenant, idempotencyKey } = record
    if (idempotencyKey !== undefined && this.recordByKey(tenant, idempotencyKey)) return { ok: false, why: 'key_taken' }
    const kept = { record, lines: [] }
    if (!this.#follows(kept, events)) return { ok: false, why: 'sequence' }
    this.#jobs.set(keyOf(record), kept)
    return this.#log(kept, events)
  }

  #log(kept: Kept, events: EventBatch): ChangeResult {
    kept.lines.push(...events.lines.split('\n'))
    kept.record = { ...kept.record, lastSeq: events.lastSeq }
    return DONE
  }

  #follows(kept: Kept, events: EventBatch): boolean {
    return events.firstSeq === kept.lines.length + 1
  }

  #isSpent(ref: JobRef): boolean {
    return (this.#spentUntil.get(keyOf(ref)) ?? 0) > Date.now()
  }

  #records(): JobRecord[] {
    return [...this.#jobs.values()].map(({ record }) => record)
  }
}

interface Ordered {
  readonly createdAt: number
  readonly id: string
  readonly tenant?: string
}

/** An id stands in two tenants only where those of all tenants are asked for. */
function oldestFirst(a: Ordered, b: Ordered): number {
  return a.createdAt - b.createdAt || compared(a.id, b.id) || compared(a.tenant ?? '', b.tenant ?? '')
}

function compared(a: string, b: string): number {
  if (a === b) return 0
  return a < b ? -1 : 1
}

/** As a list shows it. */
export function shortened(record: JobRecord): JobRecord {
  const { state } = record
  return { ...record, input: null, state: state.status === 'succeeded' ? { ...state, result: null } : state }
}
