import type { StoredRequest } from '../job/cancellation.ts'
import type { GroupId, JobId } from '../job/id.ts'
import type { Json } from '../job/json.ts'
import type { JobPolicy } from '../job/policy.ts'
import type { JobRecord } from '../job/record.ts'
import type { JobRequest } from '../job/request.ts'
import type { JobState } from '../job/state.ts'
import type { TraceCarrier } from '../job/trace.ts'
import { StoreError } from '../store/JobStore.ts'

/** Fields of a job's hash from which `shortRecordOf` makes a record. */
export const SHORT_FIELDS = [
  'id',
  'tenant',
  'task',
  'createdAt',
  'policy',
  'metadata',
  'group',
  'parentId',
  'workspaceOf',
  'idempotencyKey',
  'trace',
  'fingerprint',
  'state',
  'settledAt',
  'lastSeq',
] as const

/** The same for `recordOf`: what may be 1 MiB each stands apart, so that a list never reads it. */
export const FIELDS = [...SHORT_FIELDS, 'input', 'result'] as const

type Field = (typeof FIELDS)[number]

/** Names and values, one behind the other, as `HSET` takes them. `lastSeq` comes from the job's events. */
export function fieldsOf(record: JobRecord): readonly string[] {
  const { id, tenant, task, createdAt, policy, metadata, group, parentId, idempotencyKey, fingerprint } = record
  return [
    ['id', id, 'tenant', tenant, 'task', task, 'createdAt', String(createdAt), 'fingerprint', fingerprint],
    ['policy', JSON.stringify(policy), 'metadata', JSON.stringify(metadata)],
    group === undefined ? [] : ['group', group],
    parentId === undefined ? [] : ['parentId', parentId],
    record.workspaceOf === undefined ? [] : ['workspaceOf', record.workspaceOf],
    idempotencyKey === undefined ? [] : ['idempotencyKey', idempotencyKey],
    record.trace === undefined ? [] : ['trace', JSON.stringify(record.trace)],
    inputFieldsOf(record.input),
    stateFieldsOf(record.state),
  ].flat()
}

export function inputFieldsOf(input: Json): readonly string[] {
  return ['input', JSON.stringify(input)]
}

export function stateFieldsOf(state: JobState): readonly string[] {
  if (state.status !== 'succeeded') return ['state', JSON.stringify(state)]
  const { result, ...rest } = state
  return ['state', JSON.stringify(rest), 'result', JSON.stringify(result)]
}

/** The record from the values of `FIELDS`, in their order; undefined where there is no such job. */
export function recordOf(values: readonly (string | null)[]): JobRecord | undefined {
  const fields = new Hash(FIELDS, values)
  if (fields.optional('id') === undefined) return undefined
  const result = fields.optional('result')
  return recordWith(fields, fields.json('input'), result === undefined ? null : fields.json('result'))
}

/** The record without what stands apart, from the values of `SHORT_FIELDS`: `input`, and a `result`, are null. */
export function shortRecordOf(values: readonly (string | null)[]): JobRecord {
  return recordWith(new Hash(SHORT_FIELDS, values), null, null)
}

// As a commit or a script wrote them from values of these types.

export function parsePolicy(json: string): JobPolicy {
  return parsed('the policy of a job', json) as JobPolicy
}

export function parseRequest(json: string): StoredRequest {
  return parsed('a request to end a job', json) as StoredRequest
}

/** @throws {StoreError} where it is not JSON. */
function parsed(what: string, json: string): unknown {
  try {
    return JSON.parse(json)
  } catch (error) {
    throw new StoreError(`the data in Redis is damaged: ${what} must be JSON`, { cause: error })
  }
}

/** What was asked of a job, as a commit wrote it from a value of this type. */
export function parseJobRequest(json: string): JobRequest {
  try {
    return JSON.parse(json)
  } catch (error) {
    throw new StoreError('the data in Redis is damaged: what was asked of a job must be JSON', { cause: error })
  }
}

// What these fields hold was written by `fieldsOf` and `stateFieldsOf` from values of these types; the casts take it back as such.
function recordWith(fields: Hash, input: Json, result: Json): JobRecord {
  const group = fields.optional('group')
  const parentId = fields.optional('parentId')
  const idempotencyKey = fields.optional('idempotencyKey')
  const workspaceOf = fields.optional('workspaceOf')
  return {
    id: fields.text('id') as JobId,
    tenant: fields.text('tenant'),
    task: fields.text('task'),
    createdAt: Number(fields.text('createdAt')),
    input,
    policy: fields.json('policy') as unknown as JobPolicy,
    metadata: fields.json('metadata') as JobRecord['metadata'],
    ...(group === undefined ? {} : { group: group as GroupId }),
    ...(parentId === undefined ? {} : { parentId: parentId as JobId }),
    ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
    ...(fields.optional('trace') === undefined ? {} : { trace: fields.json('trace') as unknown as TraceCarrier }),
    ...(workspaceOf === undefined ? {} : { workspaceOf: workspaceOf as JobId }),
    fingerprint: fields.text('fingerprint'),
    state: stateWith(fields, result),
    lastSeq: Number(fields.text('lastSeq')),
  }
}

function stateWith(fields: Hash, result: Json): JobState {
  const state = fields.json('state') as unknown as JobState
  if (state.status === 'succeeded') return { ...state, result }
  const settledAt = fields.optional('settledAt')
  if (state.status === 'abandoned' && settledAt !== undefined) return { ...state, settledAt: Number(settledAt) }
  return state
}

/** Values of a hash by the names of its fields. */
class Hash {
  readonly #names: readonly Field[]
  readonly #values: readonly (string | null)[]

  constructor(names: readonly Field[], values: readonly (string | null)[]) {
    this.#names = names
    this.#values = values
  }

  /** Undefined where the field is not there. */
  optional(name: Field): string | undefined {
    return this.#values[this.#names.indexOf(name)] ?? undefined
  }

  /** @throws {StoreError} where the field is not there. */
  text(name: Field): string {
    const value = this.optional(name)
    if (value === undefined) throw this.#malformed(name, 'there')
    return value
  }

  /** @throws {StoreError} where the field is not there, or not JSON. */
  json(name: Field): Json {
    try {
      return JSON.parse(this.text(name)) as Json
    } catch (error) {
      if (error instanceof StoreError) throw error
      throw this.#malformed(name, 'JSON', error)
    }
  }

  #malformed(name: Field, expected: string, cause?: unknown): StoreError {
    const job = this.optional('id') ?? 'without an id'
    return new StoreError(`the data in Redis is damaged: field ${name} of job ${job} must be ${expected}`, { cause })
  }
}
