import fc from 'fast-check'
import { parseGroupId, parseJobId } from '../../src/job/id.ts'
import type { JobRef } from '../../src/job/key.ts'
import { type ActiveStatus, type JobStatus, STATUS_TABLE, STATUSES } from '../../src/job/status.ts'
import { unreachable } from '../../src/job/unreachable.ts'
import type { ListFilter, StoreChange } from '../../src/store/JobStore.ts'
import type { ModelStore } from './ModelStore.ts'
import { batch, HOUR_MS, POLICY, recordNamed, stateOf } from './records.ts'

/** Few, so that what is done meets what was done before. */
const TENANTS = ['default', 'other'] as const
const NAMES = ['a', 'b', 'c'] as const
const ACTIVE = ['queued', 'running', 'stopping', 'cancelling'] as const satisfies readonly ActiveStatus[]

export const REFS: readonly JobRef[] = TENANTS.flatMap((tenant) =>
  NAMES.map((name) => ({ tenant, id: recordNamed(name).id })),
)

/** A change without its event numbers: `skew` is how far these are from what would be right. */
export type Op =
  | {
      readonly kind: 'create'
      readonly name: string
      readonly tenant: string
      readonly createdAt: number
      readonly task: string
      readonly grouped: boolean
      readonly child: boolean
      readonly key: string | undefined
      readonly count: number
      readonly skew: number
    }
  | {
      readonly kind: 'move'
      readonly ref: JobRef
      readonly from: ActiveStatus
      readonly to: JobStatus
      readonly erase: boolean
      readonly skew: number
    }
  | { readonly kind: 'append'; readonly ref: JobRef; readonly count: number; readonly skew: number }
  | { readonly kind: 'policy'; readonly ref: JobRef; readonly priority: number }
  | { readonly kind: 'settled'; readonly ref: JobRef; readonly settledAt: number }
  | { readonly kind: 'delete'; readonly ref: JobRef; readonly spent: boolean }

const ref = fc.constantFrom(...REFS)
const skew = fc.oneof({ weight: 12, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constantFrom(-1, 1) })
const count = fc.integer({ min: 1, max: 3 })

const legalMove = fc.constantFrom(...ACTIVE.flatMap((from) => STATUS_TABLE[from].map((to) => ({ from, to }))))

const op: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('create' as const),
      name: fc.constantFrom(...NAMES),
      tenant: fc.constantFrom(...TENANTS),
      createdAt: fc.constantFrom(1_000, 1_001),
      task: fc.constantFrom('agent', 'command'),
      grouped: fc.boolean(),
      child: fc.boolean(),
      key: fc.constantFrom(undefined, undefined, 'key-1', 'key-2'),
      count,
      skew,
    }),
  },
  {
    weight: 8,
    arbitrary: fc
      .record({ kind: fc.constant('move' as const), ref, step: legalMove, erase: fc.boolean(), skew })
      .map(({ step, ...rest }) => ({ ...rest, ...step })),
  },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('append' as const), ref, count, skew }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('policy' as const), ref, priority: fc.integer({ min: -9, max: 9 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('settled' as const), ref, settledAt: fc.nat() }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('delete' as const), ref, spent: fc.boolean() }) },
)

/** Commits one after another; after some of them the store is closed and opened again. */
export const rounds = fc.array(
  fc.record({
    ops: fc.array(op, { minLength: 1, maxLength: 25 }),
    reopen: fc.oneof({ weight: 4, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
  }),
  { minLength: 1, maxLength: 10 },
)

export const listFilters: fc.Arbitrary<readonly ListFilter[]> = fc.array(
  fc.record(
    {
      tenant: fc.constantFrom(...TENANTS),
      limit: fc.integer({ min: 1, max: 4 }),
      statuses: fc.subarray([...STATUSES]),
      task: fc.constantFrom('agent', 'command'),
      group: fc.constant(parseGroupId('group-one')),
      parentId: fc.constant(parseJobId('job_parent')),
      before: fc.record({ createdAt: fc.constantFrom(1_000, 1_001), id: fc.constantFrom(...REFS.map(({ id }) => id)) }),
    },
    { requiredKeys: ['tenant', 'limit'] },
  ),
  { maxLength: 3 },
)

/** The op as a change whose numbers fit where the model now is, but for its skew. */
export function concrete(op: Op, model: ModelStore): StoreChange {
  switch (op.kind) {
    case 'create': {
      const record = recordNamed(op.name, {
        tenant: op.tenant,
        createdAt: op.createdAt,
        task: op.task,
        lastSeq: op.count,
        ...(op.grouped ? { group: parseGroupId('group-one') } : {}),
        ...(op.child ? { parentId: parseJobId('job_parent') } : {}),
        ...(op.key === undefined ? {} : { idempotencyKey: op.key }),
      })
      return { kind: 'create', record, events: batch(1 + op.skew, op.count) }
    }
    case 'move': {
      const events = batch(model.lastSeqOf(op.ref) + 1 + op.skew)
      const change = { kind: 'move', ref: op.ref, from: op.from, state: stateOf(op.to), events } as const
      return op.erase ? { ...change, input: { command: '[redacted]' } } : change
    }
    case 'append': {
      const found = model.lookup(op.ref)
      // A job that waits says nothing: where several processes share it, it is nobody's.
      if (found.kind === 'found' && found.record.state.status === 'queued')
        return { kind: 'policy', ref: op.ref, policy: { ...POLICY, priority: op.count } }
      return { kind: 'append', ref: op.ref, events: batch(model.lastSeqOf(op.ref) + 1 + op.skew, op.count) }
    }
    case 'policy':
      return { kind: 'policy', ref: op.ref, policy: { ...POLICY, priority: op.priority } }
    case 'settled':
      return { kind: 'settled', ref: op.ref, settledAt: op.settledAt }
    case 'delete':
      return { kind: 'delete', ref: op.ref, spentUntil: op.spent ? Date.now() + HOUR_MS : 1 }
    default:
      return unreachable(op)
  }
}
