import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { CAUSES, type CancelKind, type Cancellation, type Cause, outcomeOf } from '../../src/job/cancellation.ts'
import { isTerminalEvent } from '../../src/job/event.ts'
import type { Failure } from '../../src/job/failure.ts'
import { emptyReceipt } from '../../src/job/receipt.ts'
import type { JobState } from '../../src/job/state.ts'
import { isTerminal, type JobStatus, STATUS_TABLE, STATUSES, sourcesOf } from '../../src/job/status.ts'
import { decide, type JobCommand } from '../../src/job/transition.ts'
import { CLAIM, CONTAINMENT, command, commands, endOf, QUEUED, stepsOf } from './arbitraries.ts'

const RECEIPT = { ...emptyReceipt(CONTAINMENT), requestedToAbortedMs: 1, abortedToSettledMs: 2 }
const FAILURE: Failure = { code: 'TETHER_TASK_FAILED', message: 'Error: no', retryable: false }
const CRASHED: Failure = { code: 'TETHER_SERVER_CRASHED', message: 'it died', retryable: true }

const SUCCEED: JobCommand = { do: 'succeed', at: 5, result: null }
const FAIL: JobCommand = { do: 'fail', at: 5, failure: FAILURE }
const LOG_LOST: JobCommand = { do: 'fail', at: 5, failure: { ...FAILURE, code: 'TETHER_STORE_FAILED' } }
const SETTLE: JobCommand = { do: 'settle', at: 5, receipt: RECEIPT }
const ABANDON: JobCommand = { do: 'abandon', at: 5, receipt: RECEIPT }
const INTERRUPT: JobCommand = { do: 'interrupt', at: 5, failure: CRASHED }
const REQUEUE: JobCommand = { do: 'requeue', at: 5, failure: CRASHED }
const STOP = asked('stop', 'stop_requested')
const CANCEL = asked('cancel', 'cancel_requested')

/** One of each kind, and cancellations for every cause: enough to take every move of the table. */
const ALL_COMMANDS: readonly JobCommand[] = [
  CLAIM,
  SUCCEED,
  FAIL,
  LOG_LOST,
  SETTLE,
  ABANDON,
  INTERRUPT,
  REQUEUE,
  STOP,
  ...CAUSES.map((cause) => asked('cancel', cause)),
]

/** The events that are not named for the status that they lead to. */
const EVENT_INTO: Partial<Record<JobStatus, string>> = { queued: 'job.requeued', running: 'job.started' }

function asked(kind: CancelKind, cause: Cause, reason = ''): JobCommand {
  const request = { kind, cause, reason, requestedAt: 3, requestedAtMs: 3 }
  return { do: 'request', at: 4, request, phase: 'running', containment: CONTAINMENT }
}

function logOf(...commands: readonly JobCommand[]): string {
  return ['job.queued', ...stepsOf(commands).map((step) => step.event.type)].join(' ')
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const member of Object.values(value)) deepFreeze(member)
    Object.freeze(value)
  }
  return value
}

function stopIn(state: JobState): Cancellation | undefined {
  if ('stop' in state) return state.stop
  return 'cancellation' in state ? state.cancellation?.stop : undefined
}

function cancellationIn(state: JobState): Cancellation | undefined {
  return 'cancellation' in state ? state.cancellation : undefined
}

describe('the table', () => {
  test('every move of every history is in it, and its event says where it leads', () => {
    fc.assert(
      fc.property(commands, (commands) => {
        for (const { from, to, event } of stepsOf(commands)) {
          expect(STATUS_TABLE[from.status]).toContain(to.status)
          expect(event.type).toBe(EVENT_INTO[to.status] ?? `job.${to.status}`)
        }
      }),
    )
  })

  test('every one of its moves is taken by some command, so that none is only drawn', () => {
    const moves = new Set<string>()
    const seen = new Map<string, JobState>([[JSON.stringify(QUEUED), QUEUED]])
    // A requeue makes new states for ever; two attempts show every move.
    for (const state of seen.values()) {
      if (state.attempt > 1) continue
      for (const command of ALL_COMMANDS) {
        const decision = decide(state, command)
        if (decision.kind !== 'moved') continue
        moves.add(`${state.status} → ${decision.state.status}`)
        seen.set(JSON.stringify(decision.state), decision.state)
      }
    }
    const drawn = STATUSES.flatMap((from) => STATUS_TABLE[from].map((to) => `${from} → ${to}`))
    expect([...moves].toSorted()).toEqual(drawn.toSorted())
    expect(new Set([...seen.values()].map((state) => state.status))).toEqual(new Set(STATUSES))
  })

  test('a status is terminal where nothing leaves it, and its event alone ends a log', () => {
    const terminal = ['succeeded', 'failed', 'cancelled', 'stopped', 'timed_out', 'interrupted', 'abandoned']
    expect(STATUSES.filter(isTerminal).toSorted()).toEqual(terminal.toSorted())
    for (const status of STATUSES) expect(isTerminalEvent(`job.${status}`)).toBe(isTerminal(status))
    for (const type of ['job.started', 'job.requeued', 'output', 'gap', 'cancelled', 'job.', 'job.waiting']) {
      expect(isTerminalEvent(type)).toBe(false)
    }
  })

  test('what a compare-and-set asks for are the statuses before', () => {
    expect(sourcesOf('running')).toEqual(['queued'])
    expect(sourcesOf('cancelling')).toEqual(['running', 'stopping'])
    expect(sourcesOf('abandoned')).toEqual(['cancelling'])
    for (const to of STATUSES) {
      for (const from of sourcesOf(to)) expect(isTerminal(from)).toBe(false)
    }
  })
})

describe('any history', () => {
  test('has one terminal event at most, and nothing after it', () => {
    fc.assert(
      fc.property(commands, (commands) => {
        const types = stepsOf(commands).map((step) => step.event.type)
        const first = types.findIndex(isTerminalEvent)
        if (first >= 0) expect(first).toBe(types.length - 1)
        expect(isTerminal(endOf(commands).status)).toBe(first >= 0)
      }),
    )
  })

  test('keeps the first stop and the first cancellation to its end', () => {
    fc.assert(
      fc.property(commands, (commands) => {
        let stop: Cancellation | undefined
        let cancellation: Cancellation | undefined
        for (const { to } of stepsOf(commands)) {
          expect(stopIn(to)).toEqual(stop ?? stopIn(to))
          expect(cancellationIn(to)).toEqual(cancellation ?? cancellationIn(to))
          stop ??= stopIn(to)
          cancellation ??= cancellationIn(to)
        }
      }),
    )
  })

  test('goes on nowhere from a terminal status', () => {
    fc.assert(
      fc.property(commands, command, (commands, command) => {
        const end = endOf(commands)
        if (isTerminal(end.status)) expect(decide(end, command)).toEqual({ kind: 'refused' })
      }),
    )
  })

  test('counts the attempts by its starts', () => {
    fc.assert(
      fc.property(commands, (commands) => {
        const starts = stepsOf(commands).filter((step) => step.event.type === 'job.started')
        expect(endOf(commands).attempt).toBe(starts.length)
        expect(starts.map((step) => step.to.attempt)).toEqual(starts.map((_, index) => index + 1))
      }),
    )
  })

  test('is decided by its state and command alone, and changes neither', () => {
    fc.assert(
      fc.property(commands, command, (commands, command) => {
        const state = deepFreeze(endOf(commands))
        const frozen = deepFreeze(command)
        expect(decide(structuredClone(state), structuredClone(command))).toEqual(decide(state, frozen))
      }),
    )
  })
})

// protocol, section 2, "Logs, exactly"
describe('the log of a job', () => {
  test.each([
    ['cancelled while queued', [CANCEL], 'job.queued job.cancelled'],
    ['stopped while queued', [STOP], 'job.queued job.stopped'],
    ['timed out while queued', [asked('cancel', 'timed_out')], 'job.queued job.timed_out'],
    ['shut down while queued', [asked('cancel', 'server_shutdown')], 'job.queued job.interrupted'],
    ['that succeeded', [CLAIM, SUCCEED], 'job.queued job.started job.succeeded'],
    ['that failed', [CLAIM, FAIL], 'job.queued job.started job.failed'],
    ['cancelled once claimed', [CLAIM, CANCEL, SETTLE], 'job.queued job.started job.cancelling job.cancelled'],
    ['stopped', [CLAIM, STOP, SETTLE], 'job.queued job.started job.stopping job.stopped'],
    [
      'stopped, then cancelled',
      [CLAIM, STOP, CANCEL, SETTLE],
      'job.queued job.started job.stopping job.cancelling job.cancelled',
    ],
    [
      'stopped, but done before a boundary',
      [CLAIM, STOP, SUCCEED],
      'job.queued job.started job.stopping job.succeeded',
    ],
    ['that never settled', [CLAIM, CANCEL, ABANDON, SETTLE], 'job.queued job.started job.cancelling job.abandoned'],
    ['whose process died', [CLAIM, INTERRUPT], 'job.queued job.started job.interrupted'],
    [
      'run again after its process died',
      [CLAIM, REQUEUE, CLAIM, SUCCEED],
      'job.queued job.started job.requeued job.started job.succeeded',
    ],
    ['cancelled twice', [CLAIM, CANCEL, CANCEL, SETTLE, CANCEL], 'job.queued job.started job.cancelling job.cancelled'],
    ['stopped twice', [CLAIM, STOP, STOP, SETTLE, STOP], 'job.queued job.started job.stopping job.stopped'],
  ] satisfies [string, JobCommand[], string][])('%s', (_name, commands, log) => {
    expect(logOf(...commands)).toBe(log)
  })

  test.each([CANCEL, STOP])('ended before it was claimed says phase queued and that nothing was held', (command) => {
    const [step] = stepsOf([command])
    expect(step?.to).toMatchObject({
      receipt: {
        confirmed: true,
        released: { processes: 0, requests: 0, files: 0, children: 0, other: 0 },
        survivors: [],
      },
    })
    expect(stopIn(step?.to ?? QUEUED) ?? cancellationIn(step?.to ?? QUEUED)).toMatchObject({ phase: 'queued' })
  })
})

describe('who comes first', () => {
  test('a result that was committed first makes a later cancel come too late', () => {
    expect(decide(endOf([CLAIM, SUCCEED]), CANCEL)).toEqual({ kind: 'refused' })
  })

  test.each([SUCCEED, FAIL, STOP, asked('cancel', 'timed_out')])(
    'a cancel that was committed first decides, whatever comes after it',
    (later) => {
      expect(endOf([CLAIM, CANCEL, later, SETTLE])).toMatchObject({
        status: 'cancelled',
        cancellation: { cause: 'cancel_requested' },
      })
    },
  )

  test('a repeated request is told that the first one stands', () => {
    expect(decide(endOf([CLAIM, STOP]), STOP)).toEqual({ kind: 'unchanged' })
    expect(decide(endOf([CLAIM, CANCEL]), CANCEL)).toEqual({ kind: 'unchanged' })
    expect(decide(endOf([CLAIM, CANCEL]), STOP)).toEqual({ kind: 'unchanged' })
  })

  test('a cancel that follows a stop has it inside', () => {
    const state = endOf([
      CLAIM,
      asked('stop', 'stop_requested', 'enough'),
      asked('cancel', 'stop_deadline', 'too slow'),
    ])
    expect(state).toMatchObject({
      status: 'cancelling',
      cancellation: { cause: 'stop_deadline', reason: 'too slow', stop: { cause: 'stop_requested', reason: 'enough' } },
    })
  })

  test.each(CAUSES)('a cancellation for %s ends as its cause says', (cause) => {
    const outcomes: Partial<Record<Cause, JobStatus>> = {
      timed_out: 'timed_out',
      idle_timed_out: 'timed_out',
      server_shutdown: 'interrupted',
    }
    const expected = outcomes[cause] ?? 'cancelled'
    expect(outcomeOf(cause)).toBe(expected)
    expect(endOf([asked('cancel', cause)]).status).toBe(expected)
    expect(endOf([CLAIM, asked('cancel', cause), SETTLE]).status).toBe(expected)
    expect(endOf([CLAIM, STOP, asked('cancel', cause), SETTLE]).status).toBe(expected)
  })

  test('a shutdown is an interruption with a receipt and a code that says to try again', () => {
    expect(endOf([CLAIM, asked('cancel', 'server_shutdown'), SETTLE])).toMatchObject({
      status: 'interrupted',
      failure: { code: 'TETHER_SERVER_SHUTDOWN', retryable: true },
      cancellation: { cause: 'server_shutdown' },
      receipt: RECEIPT,
    })
  })

  test('only a lost log makes a job that is being cancelled fail', () => {
    expect(decide(endOf([CLAIM, CANCEL]), FAIL)).toEqual({ kind: 'refused' })
    expect(endOf([CLAIM, CANCEL, LOG_LOST])).toMatchObject({ status: 'failed', cancellation: { phase: 'running' } })
  })
})
