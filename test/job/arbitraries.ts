import fc from 'fast-check'
import { CAUSES, type CancelKind, type CancellationRequest, type Phase } from '../../src/job/cancellation.ts'
import type { StatusEvent } from '../../src/job/event.ts'
import type { Failure } from '../../src/job/failure.ts'
import type { Json } from '../../src/job/json.ts'
import { emptyReceipt, type Receipt } from '../../src/job/receipt.ts'
import type { JobState } from '../../src/job/state.ts'
import { decide, type JobCommand } from '../../src/job/transition.ts'

export const QUEUED: JobState = Object.freeze({ status: 'queued', attempt: 0 })

export const CONTAINMENT = Object.freeze({ level: 'group', complete: false } as const)

const time = fc.integer({ min: 0, max: 4_000_000_000_000 })
const phase = fc.constantFrom<Phase>('queued', 'starting', 'running', 'model', 'child', 'tool:terminal')
const kind = fc.constantFrom<CancelKind>('cancel', 'stop')

/** What `JSON.parse` gives, keys such as `__proto__` included. */
export const json: fc.Arbitrary<Json> = fc.letrec<{ json: Json }>((tie) => ({
  json: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    fc.constant(null),
    fc.boolean(),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => (number === 0 ? 0 : number)),
    fc.string({ unit: 'binary' }),
    fc.array(tie('json'), { maxLength: 4 }),
    fc.dictionary(fc.oneof(fc.string(), fc.constantFrom('__proto__', 'constructor', '10', '9', '')), tie('json'), {
      maxKeys: 4,
      noNullPrototype: true,
    }),
  ),
})).json

const failure: fc.Arbitrary<Failure> = fc.record({
  code: fc.constantFrom('TETHER_TASK_FAILED', 'TETHER_STORE_FAILED', 'TETHER_SERVER_CRASHED'),
  message: fc.string(),
  retryable: fc.boolean(),
})

const receipt: fc.Arbitrary<Receipt> = fc
  .record({ confirmed: fc.boolean(), abortedToSettledMs: fc.option(fc.nat(), { nil: null }) })
  .map((measured) => ({ ...emptyReceipt(CONTAINMENT), ...measured }))

const request: fc.Arbitrary<CancellationRequest> = fc.record(
  {
    kind,
    cause: fc.constantFrom(...CAUSES),
    reason: fc.string(),
    by: fc.string(),
    requestedAt: time,
    requestedAtMs: time,
  },
  { requiredKeys: ['kind', 'cause', 'reason', 'requestedAt', 'requestedAtMs'] },
)

export const command: fc.Arbitrary<JobCommand> = fc.oneof(
  fc.record({ do: fc.constant('claim' as const), at: time, replica: fc.string() }),
  fc.record({ do: fc.constant('requeue' as const), at: time, failure }),
  fc.record({ do: fc.constant('request' as const), at: time, request, phase, containment: fc.constant(CONTAINMENT) }),
  fc.record({ do: fc.constant('succeed' as const), at: time, result: json }),
  fc.record({ do: fc.constant('fail' as const), at: time, failure }),
  fc.record({ do: fc.constant('settle' as const), at: time, receipt }),
  fc.record({ do: fc.constant('abandon' as const), at: time, receipt }),
  fc.record({ do: fc.constant('interrupt' as const), at: time, failure }),
)

/** Mostly begun with a claim: otherwise half of all histories end in the queue. */
export const commands: fc.Arbitrary<readonly JobCommand[]> = fc
  .tuple(fc.array(command, { maxLength: 1 }), fc.boolean(), fc.array(command, { maxLength: 12 }))
  .map(([first, isClaimed, rest]) => [...first, ...(isClaimed ? [CLAIM] : []), ...rest])

export const CLAIM: JobCommand = Object.freeze({ do: 'claim', at: 1, replica: 'r1' })

export interface Step {
  readonly from: JobState
  readonly to: JobState
  readonly event: StatusEvent
}

/** The moves that a job makes under `commands`, from the queue on; those that move nothing leave no step. */
export function stepsOf(commands: readonly JobCommand[]): readonly Step[] {
  const steps: Step[] = []
  let state = QUEUED
  for (const command of commands) {
    const decision = decide(state, command)
    if (decision.kind !== 'moved') continue
    steps.push({ from: state, to: decision.state, event: decision.event })
    state = decision.state
  }
  return steps
}

export function endOf(commands: readonly JobCommand[]): JobState {
  return stepsOf(commands).at(-1)?.to ?? QUEUED
}
