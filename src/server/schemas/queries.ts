import type { IncomingHttpHeaders } from 'node:http'
import { Type } from 'typebox'
import { TetherError } from '../../job/error.ts'
import { parseJobId } from '../../job/id.ts'
import { isStatus, type JobStatus, STATUSES } from '../../job/status.ts'
import type { ListPlace } from '../../store/JobStore.ts'

const Closed = { additionalProperties: false } as const
const Truth = (description: string) =>
  Type.Optional(Type.Union([Type.Literal('true'), Type.Literal('false')], { description }))

const Limit = (description: string) => Type.Optional(Type.String({ pattern: '^([1-9]\\d?|1\\d\\d|200)$', description }))

export const JobParams = Type.Object({ id: Type.String({ description: 'the id of a job' }) })
export const GroupParams = Type.Object({ id: Type.String({ description: 'the id of a group' }) })

const Filter = {
  status: Type.Optional(Type.String({ description: 'one status, or several separated by commas' })),
  task: Type.Optional(Type.String()),
  group: Type.Optional(Type.String()),
}

export const ListQuery = Type.Object(
  {
    ...Filter,
    parent: Type.Optional(Type.String({ description: 'the id of the parent of child jobs' })),
    limit: Limit('1 to 200; left out: 50'),
    cursor: Type.Optional(Type.String({ description: 'the nextCursor of the page before' })),
  },
  Closed,
)

export const FeedQuery = Type.Object(Filter, Closed)

export const RequestsQuery = Type.Object(
  {
    after: Type.Optional(Type.String({ description: 'the number of the last one that you have; left out: 0' })),
    limit: Limit('1 to 200; left out: 100'),
  },
  Closed,
)

export const EventsQuery = Type.Object(
  {
    after: Type.Optional(Type.String({ description: 'the seq that you have; the header Last-Event-ID wins' })),
    hold: Truth('true: the stream is a holder'),
    named: Truth('false: no event: lines, for onmessage'),
  },
  Closed,
)

const IdempotencyKey = {
  'idempotency-key': Type.Optional(
    Type.String({
      description: '1 to 200 visible ASCII characters: a start with the same key and body is the same job',
    }),
  ),
}

const LastEventId = {
  'last-event-id': Type.Optional(Type.String({ description: 'the id of the last frame that you have' })),
}

// Described alone: whoever reads them says what is wrong with them.
export const StartHeaders = Type.Object(IdempotencyKey)
export const StreamStartHeaders = Type.Object({ ...IdempotencyKey, ...LastEventId })
export const AttachHeaders = Type.Object(LastEventId)

export const WaitQuery = Type.Object(
  {
    wait: Type.Optional(
      Type.String({ pattern: '^([1-5]?\\d(\\.\\d{1,3})?|60)$', description: 'wait for the end, 0 to 60 seconds' }),
    ),
  },
  Closed,
)

/** @throws {TetherError} `TETHER_INVALID_REQUEST` naming the first that is no status. */
export function parseStatuses(text: string | undefined): readonly JobStatus[] | undefined {
  if (text === undefined || text === '') return undefined
  return text.split(',').map((status) => {
    if (isStatus(status)) return status
    throw new TetherError(
      'TETHER_INVALID_REQUEST',
      `status must be of ${STATUSES.join(', ')}, got ${JSON.stringify(status.slice(0, 80))}`,
    )
  })
}

/** A place in a log: what comes after this number is wanted. @throws {TetherError} `TETHER_INVALID_CURSOR` */
export function parseSeq(noun: string, text: string): number {
  const seq = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
  if (Number.isSafeInteger(seq)) return seq
  throw invalidCursor(`${noun} must be a whole number from 0`, text)
}

/** The place that a reader says it has in the header, as an EventSource does when it comes back; undefined where it says none. */
export function lastEventIdOf(headers: IncomingHttpHeaders): number | undefined {
  const text = headers['last-event-id']
  return text === undefined || text === '' ? undefined : parseSeq('last-event-id', String(text))
}

/** The place of a listing as a text that says nothing to anyone else. */
export function cursorOf({ createdAt, id }: ListPlace): string {
  return Buffer.from(`${createdAt}.${id}`).toString('base64url')
}

/** @throws {TetherError} `TETHER_INVALID_CURSOR` */
export function parseCursor(text: string): ListPlace {
  const [, createdAt, id] = /^(\d{1,15})\.([A-Za-z0-9_-]{8,64})$/.exec(Buffer.from(text, 'base64url').toString()) ?? []
  if (createdAt === undefined || id === undefined) throw invalidCursor('cursor must be a nextCursor of this list', text)
  return { createdAt: Number(createdAt), id: parseJobId(id) }
}

function invalidCursor(rule: string, text: string): TetherError {
  return new TetherError('TETHER_INVALID_CURSOR', `${rule}, got ${JSON.stringify(text.slice(0, 80))}`)
}
