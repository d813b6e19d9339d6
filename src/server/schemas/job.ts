import { Type } from 'typebox'
import { CAUSES, type Cancellation as CancellationValue, type Cause, type Phase } from '../../job/cancellation.ts'
import type { Json } from '../../job/json.ts'
import { DISCONNECT_POLICIES, type OnDisconnect } from '../../job/policy.ts'
import type { Survivor as SurvivorValue } from '../../job/receipt.ts'
import { type JobStatus, STATUSES } from '../../job/status.ts'
import type { JobView } from '../../job/view.ts'

// What answers and events have, described. Nothing is checked by it: what is answered is made by code that has these types, and a
// test compares both.

/** One of these words. */
export function OneOf<T extends string>(words: readonly T[], description?: string) {
  return Type.Unsafe<T>({ type: 'string', enum: [...words], ...(description === undefined ? {} : { description }) })
}

export const Time = (description: string) => Type.String({ format: 'date-time', description })
export const AnyJson = (description: string) => Type.Unsafe<Json>(Type.Unknown({ description }))

export const Failure = Type.Object(
  {
    code: Type.String({ description: 'API: the codes of docs/errors.md, or one of the task' }),
    message: Type.String({ description: 'prose' }),
    retryable: Type.Boolean(),
    exitCode: Type.Optional(Type.Integer()),
    signal: Type.Optional(Type.String()),
  },
  { title: 'Failure', description: 'why a job failed or was interrupted' },
)

const Request = {
  cause: OneOf<Cause>(CAUSES),
  reason: Type.String({ description: 'for people' }),
  requestedAt: Time('when it was asked for'),
  phase: Type.Unsafe<Phase>(
    Type.String({
      pattern: '^(queued|starting|running|model|child|tool:.+)$',
      description: 'what the job was doing: queued, starting, running, model, tool:NAME or child',
    }),
  ),
  by: Type.Optional(Type.String({ description: 'who asked' })),
}

export const Stop = Type.Object(Request, { title: 'Stop', description: 'a request to end at the next boundary' })

export const Cancellation = Type.Object(
  {
    ...Request,
    stop: Type.Optional(Type.Unsafe<CancellationValue>(Stop)),
  },
  { title: 'Cancellation', description: 'a request to end now; `stop` is the stop that it followed' },
)

export const Usage = Type.Object(
  {
    inputTokens: Type.Optional(Type.Integer()),
    outputTokens: Type.Optional(Type.Integer()),
    totalTokens: Type.Optional(Type.Integer()),
  },
  { title: 'Usage' },
)

const Step = (description: string) =>
  Type.Union([Type.Number(), Type.Null()], { description: `${description}, ms; null: not taken` })

const Survivor = Type.Object({ pid: Type.Integer(), command: Type.String() })

export const Receipt = Type.Object(
  {
    confirmed: Type.Boolean({
      description: "the function settled, and the containment's own check found nothing",
    }),
    containment: Type.Object({ level: OneOf(['cgroup', 'pidns', 'group']), complete: Type.Boolean() }),
    requestedToAbortedMs: Step('until the abort signal fired'),
    abortedToKilledMs: Step('from there until processes were killed'),
    killedToVerifiedMs: Step('from there until they were looked for in vain'),
    abortedToSettledMs: Step('until the function had settled'),
    released: Type.Object(
      {
        processes: Type.Integer(),
        requests: Type.Integer(),
        files: Type.Integer(),
        children: Type.Integer(),
        other: Type.Integer(),
      },
      { description: 'what was held and is gone, counted' },
    ),
    survivors: Type.Unsafe<readonly SurvivorValue[]>(
      Type.Array(Survivor, { description: 'processes that were still there' }),
    ),
    usage: Type.Optional(Usage),
    recorded: Type.Optional(Type.Literal(false, { description: 'false: the request is not in the log yet' })),
  },
  { title: 'Receipt', description: 'what a job that was asked to end gave back, measured' },
)

const JobPolicy = Type.Object(
  {
    onDisconnect: OneOf<OnDisconnect>(DISCONNECT_POLICIES),
    disconnectGraceMs: Type.Integer(),
    leaseMs: Type.Integer(),
    timeoutMs: Type.Integer(),
    idleTimeoutMs: Type.Integer(),
    queueTimeoutMs: Type.Integer(),
    settleMs: Type.Integer(),
    stopDeadlineMs: Type.Integer(),
    priority: Type.Integer(),
    concurrencyKey: Type.String(),
    concurrencyLimit: Type.Integer(),
    onRestart: OneOf(['run', 'interrupt']),
  },
  { title: 'JobPolicy', description: 'the rules that a job runs under' },
)

export const JobSchema = Type.Object(
  {
    id: Type.String(),
    task: Type.String(),
    status: OneOf<JobStatus>(STATUSES),
    terminal: Type.Boolean({
      description: 'whether the job has ended; a status that you do not know is not terminal',
    }),
    createdAt: Time('by the clock of the store'),
    startedAt: Type.Optional(Time('of the last attempt')),
    endedAt: Type.Optional(Time('when the terminal event was written')),
    settledAt: Type.Optional(Time('when the function of an abandoned job returned after all')),
    input: Type.Optional(AnyJson('secrets redacted; not in lists')),
    result: Type.Optional(AnyJson('not in lists')),
    failure: Type.Optional(Failure),
    stop: Type.Optional(Type.Unsafe<CancellationValue>(Stop)),
    cancellation: Type.Optional(Cancellation),
    receipt: Type.Optional(Receipt),
    policy: JobPolicy,
    group: Type.Optional(Type.String()),
    parentId: Type.Optional(Type.String()),
    replica: Type.Optional(Type.String()),
    attempt: Type.Integer(),
    lastSeq: Type.Integer({ description: 'the number of its last event' }),
    metadata: Type.Unsafe<{ readonly [key: string]: Json }>(
      Type.Object({}, { additionalProperties: true, description: 'yours' }),
    ),
  },
  { title: 'Job' },
)

/** For the description of the API; what is answered is a `JobView`. */
export const Job = Type.Unsafe<JobView>(JobSchema)
