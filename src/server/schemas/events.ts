import { type TProperties, Type } from 'typebox'
import { type GapEvent, type JobEvent, OUTPUT_CHANNELS, type OutputChannel } from '../../job/event.ts'
import { type JobStatus, STATUSES } from '../../job/status.ts'
import { AnyJson, Cancellation, Failure, Job, OneOf, Receipt, Stop, Time, Usage } from './job.ts'

const Head = {
  jobId: Type.String(),
  seq: Type.Integer({ minimum: 0, description: 'the id of the frame: from 1, without gap within a job' }),
  at: Time('when it was published'),
}

function event<T extends string, P extends TProperties>(type: T, description: string, fields: P) {
  return Type.Object({ type: Type.Literal(type), ...Head, ...fields }, { title: type, description })
}

const Ended = { cancellation: Cancellation, receipt: Receipt }
const Call = { tool: Type.String(), callId: Type.String() }

/** Protocol, section 4: the `data:` of every event of a job's stream. */
export const JobEventSchema = Type.Union(
  [
    event('job.queued', 'the first of every log', { job: Job, position: Type.Integer() }),
    event('job.started', 'the function is about to be called', { attempt: Type.Integer(), replica: Type.String() }),
    event('job.requeued', 'it runs once more: discard the output before', {
      attempt: Type.Integer(),
      failure: Failure,
    }),
    event('output', 'text; its borders are not promised', {
      channel: OneOf<OutputChannel>(OUTPUT_CHANNELS),
      text: Type.String(),
    }),
    event('data', 'what a task sends of its own', { name: Type.String(), value: AnyJson('any JSON') }),
    event('artifact', 'a file of the workspace worth showing', {
      name: Type.String(),
      path: Type.String(),
      mediaType: Type.String(),
      bytes: Type.Integer(),
      sha256: Type.String(),
    }),
    event('progress', 'how far it is', {
      current: Type.Number(),
      total: Type.Optional(Type.Number()),
      message: Type.Optional(Type.String()),
    }),
    event('model.started', 'a model is asked', { model: Type.String() }),
    event('model.finished', 'it has answered, or the call ended', {
      model: Type.String(),
      usage: Type.Optional(Usage),
    }),
    event('tool.started', 'a tool begins', { ...Call, input: AnyJson('secrets redacted') }),
    event('tool.finished', 'a tool has ended', { ...Call, ok: Type.Boolean(), summary: Type.String() }),
    event('child.started', 'a child job begins', { childId: Type.String(), task: Type.String() }),
    event('child.finished', 'a child job has ended', {
      childId: Type.String(),
      task: Type.String(),
      status: OneOf<JobStatus>(STATUSES),
    }),
    event('job.stopping', 'a stop was asked for', { stop: Stop }),
    event('job.cancelling', 'a cancel was asked for; only the terminal event follows', { cancellation: Cancellation }),
    event('gap', 'what is no longer kept, from and to included; made for one reader, not in the log', {
      from: Type.Integer(),
      to: Type.Integer(),
      reason: OneOf<GapEvent['reason']>(['retention', 'log_limit', 'log_lost']),
    }),
    event('job.succeeded', 'terminal', { result: AnyJson('what the function returned') }),
    event('job.failed', 'terminal', { failure: Failure }),
    event('job.interrupted', 'terminal: the server ended while it had the job', {
      failure: Failure,
      cancellation: Type.Optional(Cancellation),
      receipt: Type.Optional(Receipt),
    }),
    event('job.cancelled', 'terminal', Ended),
    event('job.timed_out', 'terminal', Ended),
    event('job.abandoned', 'terminal: the function has not settled', Ended),
    event('job.stopped', 'terminal', { stop: Stop, receipt: Receipt }),
  ],
  {
    title: 'JobEvent',
    description: 'What `data:` of a frame has; `event:` is its `type` and `id:` its `seq`.',
  },
)

/** Of `GET /jobs/events`: there is no `id:`, and the job's row comes with it. */
const ListEventSchema = Type.Object(
  {
    type: OneOf<JobEvent['type']>(
      JobEventSchema.anyOf.map(({ properties }) => properties.type.const).filter((type) => type.startsWith('job.')),
    ),
    ...Head,
    job: Job,
  },
  { title: 'ListEvent', description: 'A change of status of any job. `event:` is its `type`.' },
)

const HEAD = { jobId: 'job_01a1f91df5bf70e0b034f5df210be1f6', at: '2026-01-31T12:00:00.000Z' }

/** What a stream looks like, in short; as OpenAPI 3.2 writes server-sent events down, and pages of an API show them. */
const EXAMPLE = [
  { retry: 1000 },
  frameOf({ type: 'job.started', seq: 2, ...HEAD, attempt: 1, replica: 'tether-4711-0a1b2c3d' }),
  frameOf({ type: 'output', seq: 3, ...HEAD, channel: 'text', text: 'hello' }),
  frameOf({ type: 'job.succeeded', seq: 4, ...HEAD, result: null }),
]

function frameOf(event: JobEvent): object {
  return { id: String(event.seq), event: event.type, data: JSON.stringify(event) }
}

/** An answer that is a stream; OpenAPI describes what one event of it has. */
function streamOf(schema: object, description: string, example: readonly object[]) {
  return Type.Unsafe<never>({ description, content: { 'text/event-stream': { schema, example } } })
}

export const JobEventStream = (description: string) => streamOf(JobEventSchema, description, EXAMPLE)
export const ListEventStream = (description: string) => streamOf(ListEventSchema, description, [{ retry: 1000 }])
