import type { FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import { isTerminal } from '../../job/status.ts'
import { assertScope } from '../access/Access.ts'
import type { ServerContext } from '../ServerContext.ts'
import { errorResponses } from '../schemas/error.ts'
import { JobEventStream, ListEventStream } from '../schemas/events.ts'
import {
  AttachHeaders,
  EventsQuery,
  FeedQuery,
  JobParams,
  lastEventIdOf,
  parseSeq,
  parseStatuses,
} from '../schemas/queries.ts'
import { SseStream } from '../sse/SseStream.ts'
import { abandon, seePresence } from '../streamHooks.ts'
import { refOf } from './jobs.ts'
import type { RouteApp } from './RouteApp.ts'

/** Protocol, section 4: attaching to one job, and following all of them. */
export function addEventRoutes(app: RouteApp, context: ServerContext): void {
  const { jobs, feed } = context

  app.get(
    '/jobs/events',
    {
      sse: 'manual',
      onRequest: seePresence(context, () => false),
      schema: {
        summary: 'Status changes of all jobs as they happen, without replay: attach first, then list',
        tags: ['events'],
        querystring: FeedQuery,
        response: {
          200: ListEventStream('each change of status, from now on'),
          ...errorResponses('TETHER_QUOTA'),
        },
      },
    },
    async (request, reply) => {
      const { query } = request
      const { presence, caller } = request.tether
      const statuses = parseStatuses(query.status)
      if (presence.isGone) return abandon(reply)
      const stream = new SseStream(presence, context, 'all_jobs')
      const unsubscribe = feed.subscribe(stream, {
        tenant: caller.tenant,
        statuses,
        task: query.task,
        group: query.group,
      })
      stream.start(reply, {}, unsubscribe)
      return undefined
    },
  )

  app.get(
    '/jobs/:id/events',
    {
      sse: 'manual',
      onRequest: [assertMayHold, seePresence(context, asksToHold)],
      schema: {
        summary: 'Attach to a job: what its log has after your place, then what comes, to the terminal event',
        tags: ['events'],
        params: JobParams,
        headers: AttachHeaders,
        querystring: EventsQuery,
        response: {
          200: JobEventStream('the events after your place, to the terminal one'),
          204: Type.Null({ description: 'the job has ended and you have all of it' }),
          ...errorResponses('TETHER_INVALID_JOB_ID', 'TETHER_INVALID_CURSOR', 'TETHER_JOB_NOT_FOUND', 'TETHER_QUOTA'),
        },
      },
    },
    async (request, reply) => {
      const { query } = request
      const { presence, caller } = request.tether
      const { holder } = presence
      const ref = refOf(caller, request.params.id)
      const after = placeOf(request, query)
      const named = query.named !== 'false'
      const stream = new SseStream(presence, context)
      const attachment = await jobs.attach(ref, {
        after: after ?? 0,
        sink: stream,
        named,
        ...(holder === undefined ? {} : { holder }),
      })
      const { reader, view, lastSeq, holds } = attachment
      if (presence.isGone) {
        reader.close()
        return abandon(reply)
      }
      if (after !== undefined && after === lastSeq && isTerminal(view.status)) {
        presence.release()
        return reply.code(204).send(null)
      }
      stream.start(reply, {
        'x-tether-job-id': ref.id,
        ...(holds && holder !== undefined ? { 'x-tether-holder': holder.id } : {}),
      })
      stream.follow(reader)
      return undefined
    },
  )
}

/** A holder ends its job by leaving. @throws {TetherError} `TETHER_FORBIDDEN` */
function assertMayHold(request: FastifyRequest, _reply: unknown, done: () => void): void {
  const { identity } = request.tether
  if (asksToHold(request) && identity !== undefined) assertScope(identity, 'run')
  done()
}

function asksToHold(request: FastifyRequest): boolean {
  const { query } = request
  return typeof query === 'object' && query !== null && 'hold' in query && query.hold === 'true'
}

/** The place from which the reader goes on; undefined where it named none. An EventSource that comes back says it in the header. */
function placeOf(request: FastifyRequest, query: Static<typeof EventsQuery>): number | undefined {
  return lastEventIdOf(request.headers) ?? (query.after === undefined ? undefined : parseSeq('after', query.after))
}
