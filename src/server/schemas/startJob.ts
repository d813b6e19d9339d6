import { type Static, Type } from 'typebox'
import type { Json } from '../../job/json.ts'
import { MAX_DELAY_MS, MAX_DISCONNECT_GRACE_MS } from '../../job/policy.ts'

const Delay = (description: string) => Type.Integer({ minimum: 0, maximum: MAX_DELAY_MS, description })
const AnyJson = (description: string) => Type.Unsafe<Json>(Type.Unknown({ description }))

/** The rules that a start may set; what it leaves out is the server's to choose. */
const PolicyFields = {
  onDisconnect: Type.Optional(
    Type.Union([Type.Literal('cancel'), Type.Literal('stop'), Type.Literal('continue')], {
      description: 'what follows when the last holder is gone; left out: cancel on /execute*, continue on /jobs',
    }),
  ),
  disconnectGraceMs: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: MAX_DISCONNECT_GRACE_MS,
      description: 'how long the job goes on after its last holder left',
    }),
  ),
  leaseMs: Type.Optional(Delay('how often a holder has to renew its lease; 0: it need not')),
  timeoutMs: Type.Optional(Delay('from job.started; 0: the most that the server allows')),
  idleTimeoutMs: Type.Optional(Delay('from the last event that the task published; 0: none')),
  queueTimeoutMs: Type.Optional(Delay('how long the job may wait for its start; 0: for ever')),
  settleMs: Type.Optional(
    Type.Integer({
      minimum: 100,
      maximum: 60_000,
      description: 'how long the function may take to settle once cancelled',
    }),
  ),
  stopDeadlineMs: Type.Optional(Delay('after this a stop becomes a cancel; 0: never')),
  priority: Type.Optional(Type.Integer({ minimum: -100, maximum: 100, description: 'higher first' })),
  concurrencyKey: Type.Optional(
    Type.String({ maxLength: 200, description: 'jobs of one key share a limit; empty: none' }),
  ),
  concurrencyLimit: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: MAX_DELAY_MS,
      description: 'how many jobs of the key run at once; 0: no limit',
    }),
  ),
  onRestart: Type.Optional(
    Type.Union([Type.Literal('run'), Type.Literal('interrupt')], {
      description: 'what becomes of the job where the server restarts while it waits',
    }),
  ),
} as const

/** The body that starts a job, on all three routes. */
export const StartBody = Type.Object(
  {
    task: Type.String({ minLength: 1, maxLength: 64, description: 'the name of a registered task' }),
    input: Type.Optional(AnyJson('what the task takes; left out: {}')),
    jobId: Type.Optional(Type.String({ description: '8 to 64 of A-Z a-z 0-9 _ -; left out: the server mints one' })),
    group: Type.Optional(Type.String({ description: 'as a job id; empty: none' })),
    ...PolicyFields,
    metadata: Type.Optional(
      Type.Unsafe<{ readonly [key: string]: Json }>(
        Type.Object({}, { additionalProperties: true, description: 'yours; up to 16 KiB as JSON' }),
      ),
    ),
  },
  {
    additionalProperties: false,
    title: 'StartJob',
    // A test sends them.
    'x-examples': {
      ticks: {
        summary: 'The smallest task',
        value: { task: 'ticks', input: { count: 3, intervalMs: 10 } },
      },
      command: {
        summary: 'A shell line that may outlive a lost connection for ten seconds',
        value: {
          task: 'command',
          input: { command: 'for n in 1 2 3; do echo $n; sleep 0.1; done' },
          disconnectGraceMs: 10_000,
          timeoutMs: 60_000,
          metadata: { why: 'an example' },
        },
      },
      agent: {
        summary: 'An agent, in a group that can be cancelled as one',
        value: { task: 'agent', input: { prompt: 'write a haiku' }, group: 'my-group', priority: 10 },
      },
    },
  },
)

export type StartBody = Static<typeof StartBody>

export const PolicyChange = Type.Object(
  {
    onDisconnect: PolicyFields.onDisconnect,
    disconnectGraceMs: PolicyFields.disconnectGraceMs,
  },
  {
    additionalProperties: false,
    minProperties: 1,
    'x-examples': { detach: { summary: 'Let it run on without anybody', value: { onDisconnect: 'continue' } } },
  },
)
