import type { Cancellation } from './cancellation.ts'
import type { Failure } from './failure.ts'
import type { Json } from './json.ts'
import type { JobPolicy } from './policy.ts'
import type { Receipt } from './receipt.ts'
import type { JobRecord } from './record.ts'
import type { JobState } from './state.ts'
import { isTerminal, type JobStatus } from './status.ts'

/** A job as every route answers with it. Times are ISO 8601. Fields exist where the job has got that far. */
export interface JobView {
  readonly id: string
  readonly task: string
  readonly status: JobStatus
  readonly terminal: boolean
  readonly createdAt: string
  readonly startedAt?: string
  readonly endedAt?: string
  readonly settledAt?: string
  readonly input?: Json
  readonly result?: Json
  readonly failure?: Failure
  readonly stop?: Cancellation
  readonly cancellation?: Cancellation
  readonly receipt?: Receipt
  readonly policy: JobPolicy
  readonly group?: string
  readonly parentId?: string
  readonly replica?: string
  readonly attempt: number
  readonly lastSeq: number
  readonly metadata: { readonly [key: string]: Json }
}

/** `redactedInput` stands in for the record's input, which may still hold secrets while the job waits. */
export function viewOf(record: JobRecord, redactedInput: Json): JobView {
  return { ...rowOf(record), input: redactedInput, ...resultOf(record.state) }
}

/** The job without what may be long: `input` and `result`. */
export function rowOf(record: JobRecord): JobView {
  const { state } = record
  return {
    id: record.id,
    task: record.task,
    status: state.status,
    terminal: isTerminal(state.status),
    createdAt: iso(record.createdAt),
    ...('startedAt' in state && state.startedAt !== undefined ? { startedAt: iso(state.startedAt) } : {}),
    ...('endedAt' in state ? { endedAt: iso(state.endedAt) } : {}),
    ...('settledAt' in state && state.settledAt !== undefined ? { settledAt: iso(state.settledAt) } : {}),
    ...('failure' in state ? { failure: state.failure } : {}),
    ...stopOf(state),
    ...('cancellation' in state && state.cancellation !== undefined ? { cancellation: state.cancellation } : {}),
    ...('receipt' in state && state.receipt !== undefined ? { receipt: state.receipt } : {}),
    policy: record.policy,
    ...(record.group === undefined ? {} : { group: record.group }),
    ...(record.parentId === undefined ? {} : { parentId: record.parentId }),
    ...('replica' in state && state.replica !== undefined ? { replica: state.replica } : {}),
    attempt: state.attempt,
    lastSeq: record.lastSeq,
    metadata: record.metadata,
  }
}

function resultOf(state: JobState): { result?: Json } {
  return state.status === 'succeeded' ? { result: state.result } : {}
}

/** The stop that was asked first, also where a cancellation followed it. */
function stopOf(state: JobState): { stop?: Cancellation } {
  if ('stop' in state && state.stop !== undefined) return { stop: state.stop }
  const stop = 'cancellation' in state ? state.cancellation?.stop : undefined
  return stop === undefined ? {} : { stop }
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
