import { Type } from 'typebox'
import { parseGroupId, parseJobId } from '../../job/id.ts'
import type { JobRef } from '../../job/key.ts'
import type { Caller } from '../../jobs/JobSpec.ts'
import type { ServerContext } from '../ServerContext.ts'
import { errorResponses } from '../schemas/error.ts'
import { Job } from '../schemas/job.ts'
import {
  cursorOf,
  JobParams,
  ListQuery,
  parseCursor,
  parseSeq,
  parseStatuses,
  RequestsQuery,
  StartHeaders,
} from '../schemas/queries.ts'
import { RequestPage } from '../schemas/request.ts'
import { PolicyChange, StartBody } from '../schemas/startJob.ts'
import { startRequestOf } from '../startRequest.ts'
import { START_ERRORS } from './execute.ts'
import type { RouteApp } from './RouteApp.ts'

const DEFAULT_LIMIT = 50
const DEFAULT_REQUESTS_LIMIT = 100
const LeaseBody = Type.Object(
  { holder: Type.String({ description: 'x-tether-holder of the stream' }) },
  { additionalProperties: false },
)

/** @throws {TetherError} `TETHER_INVALID_JOB_ID` */
export function refOf(caller: Caller, id: string): JobRef {
  return { tenant: caller.tenant, id: parseJobId(id) }
}

/** Protocol, section 3: jobs in the background, and what is known of them. */
export function addJobRoutes(app: RouteApp, { jobs }: ServerContext): void {
  app.post(
    '/jobs',
    {
      config: { scope: 'run' },
      schema: {
        summary: 'Start a job in the background',
        tags: ['start'],
        headers: StartHeaders,
        body: StartBody,
        response: { 202: Job, ...errorResponses(...START_ERRORS) },
      },
    },
    async (request, reply) => {
      const { ref, view } = await jobs.start(startRequestOf(request, request.body, 'continue'))
      return reply.code(202).header('location', `${app.prefix}/jobs/${ref.id}`).send(view)
    },
  )

  app.get(
    '/jobs',
    {
      schema: {
        summary: 'The jobs, newest first, without input and result',
        tags: ['jobs'],
        querystring: ListQuery,
        response: {
          200: Type.Object({ jobs: Type.Array(Job), nextCursor: Type.Union([Type.String(), Type.Null()]) }),
          ...errorResponses('TETHER_INVALID_CURSOR', 'TETHER_INVALID_JOB_ID'),
        },
      },
    },
    async ({ query, tether: { caller } }) => {
      const statuses = parseStatuses(query.status)
      const { jobs: rows, next } = await jobs.list({
        tenant: caller.tenant,
        limit: query.limit === undefined ? DEFAULT_LIMIT : Number(query.limit),
        ...(statuses === undefined ? {} : { statuses }),
        ...(query.task === undefined ? {} : { task: query.task }),
        ...(query.group === undefined ? {} : { group: parseGroupId(query.group) }),
        ...(query.parent === undefined ? {} : { parentId: parseJobId(query.parent) }),
        ...(query.cursor === undefined ? {} : { before: parseCursor(query.cursor) }),
      })
      return { jobs: [...rows], nextCursor: next === undefined ? null : cursorOf(next) }
    },
  )

  app.get(
    '/jobs/:id',
    {
      schema: {
        summary: 'One job',
        tags: ['jobs'],
        params: JobParams,
        response: { 200: Job, ...errorResponses('TETHER_INVALID_JOB_ID', 'TETHER_JOB_NOT_FOUND') },
      },
    },
    async ({ params, tether: { caller } }) => jobs.job(refOf(caller, params.id)),
  )

  app.get(
    '/jobs/:id/requests',
    {
      schema: {
        summary: 'Who asked what of the job, newest last, and what became of it; refusals too',
        tags: ['jobs'],
        params: JobParams,
        querystring: RequestsQuery,
        response: {
          200: RequestPage,
          ...errorResponses('TETHER_INVALID_JOB_ID', 'TETHER_INVALID_CURSOR', 'TETHER_JOB_NOT_FOUND'),
        },
      },
    },
    async ({ params, tether: { caller }, query }) => {
      const { requests, next } = await jobs.requests(refOf(caller, params.id), {
        after: query.after === undefined ? 0 : parseSeq('after', query.after),
        limit: query.limit === undefined ? DEFAULT_REQUESTS_LIMIT : Number(query.limit),
      })
      return {
        requests: requests.map(({ at, ...request }) => ({ ...request, at: new Date(at).toISOString() })),
        nextAfter: next ?? null,
      }
    },
  )

  app.patch(
    '/jobs/:id',
    {
      config: { scope: 'run', asks: 'patch' },
      schema: {
        summary: 'Change the disconnect policy of a job that has not ended',
        tags: ['jobs'],
        params: JobParams,
        body: PolicyChange,
        response: {
          200: Job,
          ...errorResponses('TETHER_INVALID_JOB_ID', 'TETHER_JOB_NOT_FOUND', 'TETHER_JOB_FINISHED'),
        },
      },
    },
    async ({ params, tether: { caller }, body }) => jobs.changePolicy(refOf(caller, params.id), body, caller),
  )

  app.post(
    '/jobs/:id/lease',
    {
      config: { scope: 'run', isUnlimited: true },
      schema: {
        summary: "Renew a holder's lease",
        tags: ['jobs'],
        params: JobParams,
        body: LeaseBody,
        response: {
          204: Type.Null({ description: 'renewed' }),
          ...errorResponses('TETHER_INVALID_JOB_ID', 'TETHER_JOB_NOT_FOUND'),
        },
      },
    },
    async ({ params, tether: { caller }, body }, reply) => {
      await jobs.renewLease(refOf(caller, params.id), body.holder)
      return reply.code(204).send(null)
    },
  )

  app.delete(
    '/jobs/:id',
    {
      config: { scope: 'admin', asks: 'delete' },
      schema: {
        summary: 'Forget a finished job, its log and its files',
        tags: ['jobs'],
        params: JobParams,
        response: {
          204: Type.Null({ description: 'forgotten' }),
          ...errorResponses('TETHER_INVALID_JOB_ID', 'TETHER_JOB_NOT_FOUND', 'TETHER_JOB_ACTIVE'),
        },
      },
    },
    async ({ params, tether: { caller } }, reply) => {
      await jobs.forget(refOf(caller, params.id), caller)
      return reply.code(204).send(null)
    },
  )
}
