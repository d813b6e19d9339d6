import { type Attributes, type Context, type Span, SpanStatusCode, trace } from '@opentelemetry/api'
import type { Cancellation } from '../job/cancellation.ts'
import type { StatusEvent } from '../job/event.ts'
import { type JobKey, keyOf } from '../job/key.ts'
import type { JobRecord } from '../job/record.ts'
import type { JobState } from '../job/state.ts'
import { isTerminal, type TerminalStatus } from '../job/status.ts'
import type { JobObserver } from '../jobs/JobObserver.ts'
import { endSpan, isTraced, startSpan, traceOfCarrier } from './traces.ts'

/**
 * One span a job, from when it was created to its end, below the request or the job that started it, wherever that ran: the record
 * carries the trace. The process that runs the job has it; one that dies takes it along, and whoever then ends the job makes
 * another. What is told of an end that was asked for are events of it.
 */
export class JobSpans implements JobObserver {
  /** Of jobs that run here. */
  readonly #spans = new Map<JobKey, { readonly span: Span; readonly context: Context }>()

  /** What runs for the job belongs below this; undefined where nobody traces. */
  contextOf(key: JobKey): Context | undefined {
    return this.#spans.get(key)?.context
  }

  onStatus(record: JobRecord, event: StatusEvent): void {
    const { state } = record
    if (event.type === 'job.started') this.#begin(record, state)
    else if (event.type === 'job.stopping') addRequest(this.#spans.get(keyOf(record))?.span, 'stop', event.stop)
    else if (event.type === 'job.cancelling') {
      addRequest(this.#spans.get(keyOf(record))?.span, 'cancel', event.cancellation)
    } else if (isTerminal(state.status)) this.#end(record, state, state.status)
  }

  onLetGo(record: JobRecord): void {
    const key = keyOf(record)
    const span = this.#spans.get(key)?.span
    this.#spans.delete(key)
    span?.addEvent('let_go')
    span?.setStatus({ code: SpanStatusCode.ERROR })
    if (span !== undefined) endSpan(span)
  }

  #begin(record: JobRecord, state: JobState): void {
    const parent = traceOfCarrier(record.trace)
    // A run after another one begins where that ended.
    const beganMs = state.attempt > 1 && 'startedAt' in state ? (state.startedAt ?? 0) : record.createdAt
    const span = startJobSpan(record, parent, beganMs)
    if (!isTraced(span)) return
    if ('startedAt' in state && state.startedAt !== undefined) span.addEvent('started', {}, new Date(state.startedAt))
    this.#spans.set(keyOf(record), { span, context: trace.setSpan(parent, span) })
  }

  #end(record: JobRecord, state: JobState, outcome: TerminalStatus): void {
    const key = keyOf(record)
    const known = this.#spans.get(key)?.span
    this.#spans.delete(key)
    const span = known ?? startJobSpan(record, traceOfCarrier(record.trace), record.createdAt)
    if (!span.isRecording()) return
    // It ended without a step between: while it waited, or with the process that ran it.
    if (known === undefined && 'stop' in state && state.stop !== undefined) addRequest(span, 'stop', state.stop)
    if (known === undefined && 'cancellation' in state && state.cancellation !== undefined) {
      addRequest(span, 'cancel', state.cancellation)
    }
    span.setAttributes({ 'tether.outcome': outcome, ...endOf(state) })
    if (ERRORS.has(outcome)) span.setStatus({ code: SpanStatusCode.ERROR, message: outcome })
    else if (outcome === 'succeeded') span.setStatus({ code: SpanStatusCode.OK })
    endSpan(span, 'endedAt' in state ? new Date(state.endedAt) : undefined)
  }
}

/** What somebody asked for is neither an error nor a success: cancelled and stopped leave the status unset. */
const ERRORS: ReadonlySet<TerminalStatus> = new Set(['failed', 'timed_out', 'interrupted', 'abandoned'])

function startJobSpan(record: JobRecord, parent: Context, beganMs: number): Span {
  const { id, task, group, parentId, state } = record
  const attributes = {
    'tether.job.id': id,
    'tether.task': task,
    'tether.attempt': state.attempt,
    ...(group === undefined ? {} : { 'tether.group': group }),
    ...(parentId === undefined ? {} : { 'tether.parent.id': parentId }),
    ...('replica' in state && state.replica !== undefined ? { 'tether.replica': state.replica } : {}),
  }
  // As a Date: a number that is before the start of this process would be taken for the time since then.
  return startSpan(`job ${task}`, { startTime: new Date(beganMs), attributes }, parent)
}

/** Without the reason, which is for whoever reads the job. */
function addRequest(span: Span | undefined, kind: 'stop' | 'cancel', request: Cancellation): void {
  const { cause, phase, by, requestedAt } = request
  const attributes = { 'tether.cause': cause, 'tether.phase': phase, ...(by === undefined ? {} : { 'tether.by': by }) }
  span?.addEvent(kind, attributes, new Date(requestedAt))
}

function endOf(state: JobState): Attributes {
  const failure = 'failure' in state ? { 'error.type': state.failure.code } : {}
  if (!('receipt' in state) || state.receipt === undefined) return failure
  const { confirmed, released, survivors, abortedToSettledMs } = state.receipt
  return {
    ...failure,
    'tether.receipt.confirmed': confirmed,
    'tether.receipt.processes': released.processes,
    'tether.receipt.requests': released.requests,
    'tether.receipt.survivors': survivors.length,
    ...(abortedToSettledMs === null ? {} : { 'tether.receipt.aborted_to_settled_ms': abortedToSettledMs }),
  }
}
