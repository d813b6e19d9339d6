import { Type } from 'typebox'
import { DISCONNECT_POLICIES } from '../../job/policy.ts'
import { STATUSES } from '../../job/status.ts'
import type { JobView } from '../../job/view.ts'

const Time = (description: string) => Type.String({ format: 'date-time', description })

const Failure = Type.Object({
  code: Type.String(),
  message: Type.String(),
  retryable: Type.Boolean(),
  exitCode: Type.Optional(Type.Integer()),
  signal: Type.Optional(Type.String()),
})

const Cancellation = Type.Object({
  cause: Type.String(),
  reason: Type.String(),
  requestedAt: Time('when it was asked for'),
  phase: Type.String({ description: 'queued, starting, running, model, tool:NAME or child' }),
  by: Type.Optional(Type.String()),
  stop: Type.Optional(Type.Object({}, { description: 'the stop that this cancellation followed' })),
})

const Receipt = Type.Object(
  {
    confirmed: Type.Boolean(),
    containment: Type.Object({ level: Type.String(), complete: Type.Boolean() }),
    released: Type.Object({}, { description: 'processes, requests, files, children, other: seen and gone, counted' }),
    survivors: Type.Array(Type.Object({ pid: Type.Integer(), command: Type.String() })),
  },
  { description: 'what a job that was asked to end gave back, measured' },
)

const JobPolicy = Type.Object({
  onDisconnect: Type.Union(DISCONNECT_POLICIES.map((policy) => Type.Literal(policy))),
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
  onRestart: Type.Union([Type.Literal('run'), Type.Literal('interrupt')]),
})

/** For the description of the API; what is answered is a `JobView`. */
export const Job = Type.Unsafe<JobView>(
  Type.Object(
    {
      id: Type.String(),
      task: Type.String(),
      status: Type.Union(STATUSES.map((status) => Type.Literal(status))),
      terminal: Type.Boolean({
        description: 'whether the job has ended; a status that you do not know is not terminal',
      }),
      createdAt: Time('by the clock of the store'),
      startedAt: Type.Optional(Time('of the last attempt')),
      endedAt: Type.Optional(Time('when the terminal event was written')),
      settledAt: Type.Optional(Time('when the function of an abandoned job returned after all')),
      input: Type.Optional(Type.Unknown({ description: 'secrets redacted; not in lists' })),
      result: Type.Optional(Type.Unknown({ description: 'not in lists' })),
      failure: Type.Optional(Failure),
      stop: Type.Optional(Cancellation),
      cancellation: Type.Optional(Cancellation),
      receipt: Type.Optional(Receipt),
      policy: JobPolicy,
      group: Type.Optional(Type.String()),
      parentId: Type.Optional(Type.String()),
      replica: Type.Optional(Type.String()),
      attempt: Type.Integer(),
      lastSeq: Type.Integer(),
      metadata: Type.Object({}),
    },
    { title: 'Job' },
  ),
)
