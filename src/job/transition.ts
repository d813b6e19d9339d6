import { type Cancellation, type CancellationRequest, outcomeOf, type Phase, recordOf } from './cancellation.ts'
import type { StatusEvent } from './event.ts'
import type { Failure } from './failure.ts'
import type { Json } from './json.ts'
import { type Containment, emptyReceipt, type Receipt } from './receipt.ts'
import type { JobState } from './state.ts'
import { isTerminal, type JobStatus, STATUS_TABLE } from './status.ts'
import { unreachable } from './unreachable.ts'

/** Everything that may be asked of a job's status. `at` is wall time in ms. */
export type JobCommand =
  | { readonly do: 'claim'; readonly at: number; readonly replica: string }
  | { readonly do: 'requeue'; readonly at: number; readonly failure: Failure }
  | {
      readonly do: 'request'
      readonly at: number
      readonly request: CancellationRequest
      readonly phase: Phase
      readonly containment: Containment
    }
  | { readonly do: 'succeed'; readonly at: number; readonly result: Json }
  | { readonly do: 'fail'; readonly at: number; readonly failure: Failure }
  /** The function settled and what it held was released and looked for. */
  | { readonly do: 'settle'; readonly at: number; readonly receipt: Receipt }
  /** The function did not settle in time. */
  | { readonly do: 'abandon'; readonly at: number; readonly receipt: Receipt }
  /** The process that ran the job is gone, or the job could not be handed to one. */
  | { readonly do: 'interrupt'; readonly at: number; readonly failure: Failure }

/** What became of a command. `unchanged`: it was asked before, and the first one stands. */
export type Decision =
  | { readonly kind: 'moved'; readonly state: JobState; readonly event: StatusEvent }
  | { readonly kind: 'unchanged' }
  | { readonly kind: 'refused' }

const UNCHANGED: Decision = { kind: 'unchanged' }
const REFUSED: Decision = { kind: 'refused' }

/**
 * The one function that changes a job's status: pure, total, and never outside STATUS_TABLE. The first cause wins: what was
 * asked later changes nothing, except that a cancel may follow a stop.
 */
export function decide(state: JobState, command: JobCommand): Decision {
  const decision = decideUnchecked(state, command)
  if (decision.kind === 'moved') assertLegal(state.status, decision.state.status)
  return decision
}

function decideUnchecked(state: JobState, command: JobCommand): Decision {
  switch (command.do) {
    case 'claim':
      return state.status === 'queued' ? claim(state.attempt, command) : REFUSED
    case 'requeue':
      return state.status === 'running' ? requeue(state.attempt, command) : REFUSED
    case 'request':
      return command.request.kind === 'stop' ? requestStop(state, command) : requestCancel(state, command)
    case 'succeed':
      return succeed(state, command)
    case 'fail':
      return fail(state, command)
    case 'settle':
      return settle(state, command)
    case 'abandon':
      return abandon(state, command)
    case 'interrupt':
      return interrupt(state, command)
    default:
      return unreachable(command)
  }
}

type CommandOf<D extends JobCommand['do']> = Extract<JobCommand, { do: D }>

function claim(attempts: number, { at, replica }: CommandOf<'claim'>): Decision {
  const attempt = attempts + 1
  return moved({ status: 'running', startedAt: at, attempt, replica }, { type: 'job.started', attempt, replica })
}

function requeue(attempt: number, { failure }: CommandOf<'requeue'>): Decision {
  return moved({ status: 'queued', attempt }, { type: 'job.requeued', attempt, failure })
}

function requestStop(state: JobState, { at, request, phase, containment }: CommandOf<'request'>): Decision {
  switch (state.status) {
    case 'queued': {
      const stop = recordOf(request, 'queued')
      const receipt = emptyReceipt(containment)
      return moved(
        { status: 'stopped', attempt: state.attempt, endedAt: at, stop, receipt },
        { type: 'job.stopped', stop, receipt },
      )
    }
    case 'running': {
      const stop = recordOf(request, phase)
      return moved({ ...started(state), status: 'stopping', stop }, { type: 'job.stopping', stop })
    }
    case 'stopping':
    case 'cancelling':
      return UNCHANGED
    default:
      return REFUSED
  }
}

function requestCancel(state: JobState, { at, request, phase, containment }: CommandOf<'request'>): Decision {
  switch (state.status) {
    case 'queued': {
      const cancellation = recordOf(request, 'queued')
      return cancelledAs(cancellation, emptyReceipt(containment), { attempt: state.attempt }, at)
    }
    case 'running': {
      const cancellation = recordOf(request, phase)
      return moved({ ...started(state), status: 'cancelling', cancellation }, { type: 'job.cancelling', cancellation })
    }
    case 'stopping': {
      const cancellation = recordOf(request, phase, state.stop)
      return moved({ ...started(state), status: 'cancelling', cancellation }, { type: 'job.cancelling', cancellation })
    }
    case 'cancelling':
      return UNCHANGED
    default:
      return REFUSED
  }
}

function succeed(state: JobState, { at, result }: CommandOf<'succeed'>): Decision {
  if (state.status !== 'running' && state.status !== 'stopping') return REFUSED
  return moved(
    { ...started(state), status: 'succeeded', endedAt: at, result, ...stopOf(state) },
    { type: 'job.succeeded', result },
  )
}

function fail(state: JobState, { at, failure }: CommandOf<'fail'>): Decision {
  switch (state.status) {
    case 'running':
    case 'stopping':
      return moved(
        { ...started(state), status: 'failed', endedAt: at, failure, ...stopOf(state) },
        { type: 'job.failed', failure },
      )
    case 'cancelling':
      // Only where the job's log could not be written: the one failure that a cancellation does not hide.
      if (failure.code !== 'TETHER_STORE_FAILED') return REFUSED
      return moved(
        { ...started(state), status: 'failed', endedAt: at, failure, cancellation: state.cancellation },
        { type: 'job.failed', failure },
      )
    default:
      return REFUSED
  }
}

function settle(state: JobState, { at, receipt }: CommandOf<'settle'>): Decision {
  if (state.status === 'stopping') {
    const { stop } = state
    return moved(
      { ...started(state), status: 'stopped', endedAt: at, stop, receipt },
      { type: 'job.stopped', stop, receipt },
    )
  }
  if (state.status === 'cancelling') return cancelledAs(state.cancellation, receipt, started(state), at)
  return REFUSED
}

function abandon(state: JobState, { at, receipt }: CommandOf<'abandon'>): Decision {
  if (state.status !== 'cancelling') return REFUSED
  const { cancellation } = state
  return moved(
    { ...started(state), status: 'abandoned', endedAt: at, cancellation, receipt },
    { type: 'job.abandoned', cancellation, receipt },
  )
}

function interrupt(state: JobState, { at, failure }: CommandOf<'interrupt'>): Decision {
  switch (state.status) {
    case 'queued':
      return moved(
        { status: 'interrupted', attempt: state.attempt, endedAt: at, failure },
        { type: 'job.interrupted', failure },
      )
    case 'running':
    case 'stopping':
      return moved(
        { ...started(state), status: 'interrupted', endedAt: at, failure, ...stopOf(state) },
        { type: 'job.interrupted', failure },
      )
    case 'cancelling': {
      const { cancellation } = state
      return moved(
        { ...started(state), status: 'interrupted', endedAt: at, failure, cancellation },
        { type: 'job.interrupted', failure, cancellation },
      )
    }
    default:
      return REFUSED
  }
}

function cancelledAs(
  cancellation: Cancellation,
  receipt: Receipt,
  run: { attempt: number; startedAt?: number; replica?: string },
  endedAt: number,
): Decision {
  const status = outcomeOf(cancellation.cause)
  switch (status) {
    case 'cancelled':
      return moved({ ...run, status, endedAt, cancellation, receipt }, { type: 'job.cancelled', cancellation, receipt })
    case 'timed_out':
      return moved({ ...run, status, endedAt, cancellation, receipt }, { type: 'job.timed_out', cancellation, receipt })
    case 'interrupted': {
      const failure: Failure = {
        code: 'TETHER_SERVER_SHUTDOWN',
        message: 'the server was stopped while it held the job',
        retryable: true,
      }
      return moved(
        { ...run, status, endedAt, failure, cancellation, receipt },
        { type: 'job.interrupted', failure, cancellation, receipt },
      )
    }
    default:
      return unreachable(status)
  }
}

function moved(state: JobState, event: StatusEvent): Decision {
  return { kind: 'moved', state, event }
}

function started(state: { startedAt: number; attempt: number; replica: string }): {
  startedAt: number
  attempt: number
  replica: string
} {
  return { startedAt: state.startedAt, attempt: state.attempt, replica: state.replica }
}

function stopOf(state: JobState): { stop?: Cancellation } {
  return state.status === 'stopping' ? { stop: state.stop } : {}
}

function assertLegal(from: JobStatus, to: JobStatus): void {
  if (!(STATUS_TABLE[from] as readonly JobStatus[]).includes(to)) {
    throw new Error(`a job cannot go from ${from} to ${to}${isTerminal(from) ? `: ${from} is terminal` : ''}`)
  }
}
