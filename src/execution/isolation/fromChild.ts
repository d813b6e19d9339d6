import Type, { type Static } from 'typebox'
import type { Json } from '../../job/json.ts'
import { messageParser } from './messageParser.ts'

const CLOSED = { additionalProperties: false } as const
const AnyJson = Type.Unsafe<Json>({})
const Count = Type.Integer({ minimum: 0 })
const Channel = Type.Union([
  Type.Literal('stdout'),
  Type.Literal('stderr'),
  Type.Literal('text'),
  Type.Literal('reasoning'),
])

/** What a context sends: those of `TaskEvent` that have a method there. */
const Event = Type.Union([
  Type.Object({ type: Type.Literal('output'), channel: Channel, text: Type.String() }, CLOSED),
  Type.Object({ type: Type.Literal('data'), name: Type.String(), value: AnyJson }, CLOSED),
  Type.Object(
    {
      type: Type.Literal('progress'),
      current: Type.Number(),
      total: Type.Optional(Type.Number()),
      message: Type.Optional(Type.String()),
    },
    CLOSED,
  ),
  Type.Object(
    {
      type: Type.Literal('artifact'),
      name: Type.String(),
      path: Type.String(),
      mediaType: Type.String(),
      bytes: Count,
      sha256: Type.String(),
    },
    CLOSED,
  ),
])

/** Calls of models and tools, with what they used and took. */
const Used = Type.Object(
  {
    inputTokens: Type.Optional(Type.Number()),
    outputTokens: Type.Optional(Type.Number()),
    totalTokens: Type.Optional(Type.Number()),
  },
  CLOSED,
)
const WorkEvent = Type.Union([
  Type.Object({ type: Type.Literal('model.started'), model: Type.String() }, CLOSED),
  Type.Object({ type: Type.Literal('model.finished'), model: Type.String(), usage: Type.Optional(Used) }, CLOSED),
  Type.Object(
    { type: Type.Literal('tool.started'), tool: Type.String(), callId: Type.String(), input: AnyJson },
    CLOSED,
  ),
  Type.Object(
    {
      type: Type.Literal('tool.finished'),
      tool: Type.String(),
      callId: Type.String(),
      ok: Type.Boolean(),
      summary: Type.String(),
    },
    CLOSED,
  ),
])

const FailureSchema = Type.Object(
  {
    code: Type.String(),
    message: Type.String(),
    retryable: Type.Boolean(),
    exitCode: Type.Optional(Type.Integer()),
    signal: Type.Optional(Type.String()),
  },
  CLOSED,
)

const End = Type.Union([
  Type.Object({ kind: Type.Literal('returned'), result: AnyJson }, CLOSED),
  Type.Object({ kind: Type.Literal('threw'), failure: FailureSchema }, CLOSED),
  /** A boundary raised. */
  Type.Object({ kind: Type.Literal('raised') }, CLOSED),
  /** The function has not settled in time after a cancel. */
  Type.Object({ kind: Type.Literal('abandoned') }, CLOSED),
])

/** How the function ended and what was given back in its process. */
const Outcome = Type.Object(
  {
    type: Type.Literal('outcome'),
    end: End,
    released: Type.Object({ processes: Count, requests: Count, files: Count, children: Count, other: Count }, CLOSED),
    /** Whether something besides processes, which end with the task's own, was not given back. */
    isIncomplete: Type.Boolean(),
    usage: Type.Optional(Used),
  },
  CLOSED,
)

const ChildJob = Type.Object(
  {
    type: Type.Literal('childJob'),
    id: Count,
    task: Type.String(),
    input: AnyJson,
    timeoutMs: Type.Optional(Type.Number()),
    sharesWorkspace: Type.Boolean(),
    isShielded: Type.Boolean(),
  },
  CLOSED,
)

/** A call of `ctx.store`, whose key and value were checked over there; they are checked here again. */
const ValueCall = Type.Object(
  {
    type: Type.Literal('value'),
    id: Count,
    call: Type.Union([
      Type.Object({ do: Type.Literal('get'), key: Type.String() }, CLOSED),
      Type.Object({ do: Type.Literal('set'), key: Type.String(), json: Type.Optional(Type.String()) }, CLOSED),
      Type.Object({ do: Type.Literal('list'), prefix: Type.String(), after: Type.String(), limit: Count }, CLOSED),
    ]),
  },
  CLOSED,
)

const FromChildSchema = Type.Union([
  /** Events in order. `asksRoom`: much waits, so the log is to say when it has room again. */
  Type.Object(
    { type: Type.Literal('events'), asksRoom: Type.Boolean(), events: Type.Array(Type.Union([Event, WorkEvent])) },
    CLOSED,
  ),
  /** Everything but the task's module is loaded. */
  Type.Object({ type: Type.Literal('ready') }, CLOSED),
  ChildJob,
  ValueCall,
  Type.Object({ type: Type.Literal('notReleased'), kind: Type.String(), message: Type.String() }, CLOSED),
  Outcome,
])

/** What a task's process tells the server. */
export type FromChild = Static<typeof FromChildSchema>
export type Outcome = Static<typeof Outcome>
export type ChildJob = Static<typeof ChildJob>
export type ValueCall = Static<typeof ValueCall>

/** The code over there is the task's author's. @throws {Error} for what is no message */
export const parseFromChild = messageParser(FromChildSchema, "a task's process")
