import type { GroupId, JobId } from '../../job/id.ts'
import type { Json } from '../../job/json.ts'
import type { JobPolicy } from '../../job/policy.ts'
import type { JobRecord } from '../../job/record.ts'
import type { JobState } from '../../job/state.ts'
import type { TraceCarrier } from '../../job/trace.ts'
import { StoreError } from '../JobStore.ts'
import { integer, optionalText, type Row, text } from './columns.ts'

/** The columns of `jobs` that `recordOf` reads. */
export const RECORD_COLUMNS = `jobs.job, jobs.tenant, jobs.id, jobs.task, jobs.created_at, jobs.status, jobs.last_seq, jobs.group_id,
  jobs.parent_id, jobs.idempotency_key, jobs.fingerprint, jobs.policy, jobs.state, jobs.metadata, jobs.workspace_of,
  jobs.trace`

/** A state as its column holds it, and its result, which has a table of its own. */
export function splitState(state: JobState): { readonly json: string; readonly result: string | undefined } {
  if (state.status !== 'succeeded') return { json: JSON.stringify(state), result: undefined }
  const { result, ...rest } = state
  return { json: JSON.stringify(rest), result: JSON.stringify(result) }
}

/** The record without what has tables of its own: `input`, and a `result`, are null. */
export function shortRecordOf(row: Row): JobRecord {
  return recordWith(row, null, null)
}

/** The whole record, from a row that has the columns `input` and `result` besides. */
export function recordOf(row: Row): JobRecord {
  const result = optionalText(row, 'result')
  return recordWith(row, parse(row, 'input'), result === undefined ? null : parse(row, 'result'))
}

// What these columns hold was written by `create` and `move` from values of these types; the casts take it back as such.
function recordWith(row: Row, input: Json, result: Json): JobRecord {
  const group = optionalText(row, 'group_id')
  const parentId = optionalText(row, 'parent_id')
  const workspaceOf = optionalText(row, 'workspace_of')
  const idempotencyKey = optionalText(row, 'idempotency_key')
  const hasTrace = optionalText(row, 'trace') !== undefined
  const state = parse(row, 'state') as unknown as JobState
  return {
    id: text(row, 'id') as JobId,
    tenant: text(row, 'tenant'),
    task: text(row, 'task'),
    createdAt: integer(row, 'created_at'),
    input,
    policy: parse(row, 'policy') as unknown as JobPolicy,
    metadata: parse(row, 'metadata') as JobRecord['metadata'],
    ...(group === undefined ? {} : { group: group as GroupId }),
    ...(parentId === undefined ? {} : { parentId: parentId as JobId }),
    ...(workspaceOf === undefined ? {} : { workspaceOf: workspaceOf as JobId }),
    ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
    ...(hasTrace ? { trace: parse(row, 'trace') as unknown as TraceCarrier } : {}),
    fingerprint: text(row, 'fingerprint'),
    state: state.status === 'succeeded' ? { ...state, result } : state,
    lastSeq: integer(row, 'last_seq'),
  }
}

function parse(row: Row, column: string): Json {
  try {
    return JSON.parse(text(row, column)) as Json
  } catch (error) {
    throw new StoreError(`the database is damaged: column ${column} of job ${text(row, 'id')} must be JSON`, {
      cause: error,
    })
  }
}
