import type { Cancellation } from '../../src/job/cancellation.ts'
import { parseJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT, type JobRef } from '../../src/job/key.ts'
import type { JobPolicy } from '../../src/job/policy.ts'
import { emptyReceipt } from '../../src/job/receipt.ts'
import type { JobRecord } from '../../src/job/record.ts'
import type { JobState } from '../../src/job/state.ts'
import type { ActiveStatus, JobStatus } from '../../src/job/status.ts'
import { unreachable } from '../../src/job/unreachable.ts'
import type { EventBatch, StoreChange } from '../../src/store/JobStore.ts'

export type ChangeOf<K extends StoreChange['kind']> = Extract<StoreChange, { kind: K }>

export const HOUR_MS = 3_600_000

export const POLICY: JobPolicy = {
  onDisconnect: 'cancel',
  disconnectGraceMs: 0,
  leaseMs: 0,
  timeoutMs: 0,
  idleTimeoutMs: 0,
  queueTimeoutMs: 0,
  settleMs: 2000,
  stopDeadlineMs: 120_000,
  priority: 0,
  concurrencyKey: '',
  concurrencyLimit: 0,
  onRestart: 'interrupt',
}

const REQUEST: Cancellation = {
  cause: 'cancel_requested',
  reason: 'enough',
  requestedAt: '2026-01-01T00:00:00.000Z',
  phase: 'running',
}

const RECEIPT = emptyReceipt({ level: 'group', complete: false })

/** A state of every status, with all that it may have. */
export function stateOf(status: JobStatus): JobState {
  const started = { startedAt: 1_000, attempt: 1, replica: 'replica-1' }
  const ended = { ...started, endedAt: 2_000 }
  const failure = { code: 'TETHER_TASK_FAILED', message: 'no', retryable: false }
  switch (status) {
    case 'queued':
      return { status, attempt: 0 }
    case 'running':
      return { status, ...started }
    case 'stopping':
      return { status, ...started, stop: REQUEST }
    case 'cancelling':
      return { status, ...started, cancellation: REQUEST }
    case 'succeeded':
      return { status, ...ended, result: { answer: ['ö', null, 42] } }
    case 'failed':
      return { status, ...ended, failure }
    case 'cancelled':
    case 'timed_out':
    case 'abandoned':
      return { status, ...ended, cancellation: REQUEST, receipt: RECEIPT }
    case 'stopped':
      return { status, ...ended, stop: REQUEST, receipt: RECEIPT }
    case 'interrupted':
      return { status, ...ended, failure }
    default:
      return unreachable(status)
  }
}

/** A record of a queued job with the id `job_NAME`, padded. Its log has one event. */
export function recordNamed(name: string, more: Partial<JobRecord> = {}): JobRecord {
  return {
    id: parseJobId(`job_${name.padStart(6, '0')}`),
    tenant: DEFAULT_TENANT,
    task: 'command',
    createdAt: 1_000,
    input: { command: `echo ${name}` },
    policy: POLICY,
    metadata: { name },
    fingerprint: `print of ${name}`,
    state: stateOf('queued'),
    lastSeq: 1,
    ...more,
  }
}

export function refTo({ tenant, id }: JobRef): JobRef {
  return { tenant, id }
}

/** `count` events from `firstSeq` on; what each line says is its own number. */
export function batch(firstSeq: number, count = 1, padding = ''): EventBatch {
  const lines = Array.from({ length: count }, (_, index) =>
    JSON.stringify({ type: 'output', n: firstSeq + index, padding }),
  )
  return { firstSeq, lastSeq: firstSeq + count - 1, lines: lines.join('\n') }
}

/** One event of the job's status. */
export function statusBatch(seq: number, name: string): EventBatch {
  return { firstSeq: seq, lastSeq: seq, lines: JSON.stringify({ type: `job.${name}`, n: seq }) }
}

export function create(record: JobRecord): ChangeOf<'create'> {
  return { kind: 'create', record, events: batch(1, record.lastSeq) }
}

export function move(ref: JobRef, from: ActiveStatus, to: JobStatus, seq: number): ChangeOf<'move'> {
  return { kind: 'move', ref: refTo(ref), from, state: stateOf(to), events: batch(seq) }
}

export function append(ref: JobRef, seq: number, count = 1): ChangeOf<'append'> {
  return { kind: 'append', ref: refTo(ref), events: batch(seq, count) }
}

export function remove(ref: JobRef, spentUntil = Date.now() + HOUR_MS): ChangeOf<'delete'> {
  return { kind: 'delete', ref: refTo(ref), spentUntil }
}

/** The changes that bring a job from nothing to `status`, and the number of its last event then. */
export function upTo(
  record: JobRecord,
  status: JobStatus,
): { readonly changes: StoreChange[]; readonly lastSeq: number } {
  const changes: StoreChange[] = [create(record)]
  const path = PATHS[status]
  let from: ActiveStatus = 'queued'
  for (const [index, to] of path.entries()) {
    changes.push(move(record, from, to, index + 2))
    if (to === 'running' || to === 'stopping' || to === 'cancelling') from = to
  }
  return { changes, lastSeq: path.length + 1 }
}

const PATHS: Readonly<Record<JobStatus, readonly JobStatus[]>> = {
  queued: [],
  running: ['running'],
  stopping: ['running', 'stopping'],
  cancelling: ['running', 'cancelling'],
  succeeded: ['running', 'succeeded'],
  failed: ['running', 'failed'],
  cancelled: ['running', 'cancelling', 'cancelled'],
  timed_out: ['running', 'cancelling', 'timed_out'],
  interrupted: ['running', 'interrupted'],
  abandoned: ['running', 'cancelling', 'abandoned'],
  stopped: ['running', 'stopping', 'stopped'],
}
