import type { FastifyReply, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import type { CancelKind } from '../../job/cancellation.ts'
import { parseGroupId } from '../../job/id.ts'
import type { EndAnswer, EndRequest, GroupAnswer } from '../../jobs/ending.ts'
import type { ServerContext } from '../ServerContext.ts'
import { EndBody, GroupEnded, Remembered } from '../schemas/ending.ts'
import { errorResponses } from '../schemas/error.ts'
import { Job } from '../schemas/job.ts'
import { GroupParams, JobParams, WaitQuery } from '../schemas/queries.ts'
import { refOf } from './jobs.ts'
import type { RouteApp } from './RouteApp.ts'

const SUMMARIES = {
  cancel: 'End it now: the abort signal fires, processes and requests are killed',
  stop: 'Ask it to end: what is in flight finishes, the next boundary raises',
} as const satisfies Record<CancelKind, string>

/** Protocol, section 3: cancel and stop, of one job and of a group. */
export function addEndingRoutes(app: RouteApp, context: ServerContext): void {
  for (const kind of ['cancel', 'stop'] as const) {
    addJobEnding(app, context, kind)
    addGroupEnding(app, context, kind)
  }
}

function addJobEnding(app: RouteApp, { jobs }: ServerContext, kind: CancelKind): void {
  app.post(
    `/jobs/:id/${kind}`,
    {
      config: { scope: 'cancel', asks: kind, isUnlimited: true },
      preValidation: treatAbsentAsEmpty,
      schema: {
        summary: SUMMARIES[kind],
        tags: ['end'],
        params: JobParams,
        querystring: WaitQuery,
        body: EndBody,
        response: {
          200: Job,
          202: Type.Union([Job, Remembered]),
          ...errorResponses(
            'TETHER_INVALID_JOB_ID',
            'TETHER_JOB_NOT_FOUND',
            'TETHER_JOB_FINISHED',
            'TETHER_TOMBSTONES_FULL',
          ),
        },
      },
    },
    async (request, reply) => {
      const waitMs = Math.round(Number(request.query.wait ?? 0) * 1000)
      const ref = refOf(request.tether.caller, request.params.id)
      const answer = await jobs.end(ref, {
        ...endRequestOf(request, kind, request.body),
        waitMs,
        ...(waitMs === 0 ? {} : { signal: goneSignalOf(reply) }),
      })
      return reply.code(statusOf(answer)).header('x-tether-delivery', answer.delivery).send(bodyOf(answer))
    },
  )
}

function addGroupEnding(app: RouteApp, { jobs }: ServerContext, kind: CancelKind): void {
  app.post(
    `/groups/:id/${kind}`,
    {
      config: { scope: 'cancel', isUnlimited: true },
      preValidation: treatAbsentAsEmpty,
      schema: {
        summary: `${SUMMARIES[kind]}; every job that was started with this group`,
        tags: ['end'],
        params: GroupParams,
        body: EndBody,
        response: {
          200: GroupEnded,
          202: GroupEnded,
          ...errorResponses('TETHER_INVALID_JOB_ID', 'TETHER_JOB_NOT_FOUND', 'TETHER_TOMBSTONES_FULL'),
        },
      },
    },
    async (request, reply) => {
      const group = parseGroupId(request.params.id)
      const answer = await jobs.endGroup(request.tether.caller.tenant, group, endRequestOf(request, kind, request.body))
      const isOpen = answer.accepted > 0 || answer.remembered !== undefined
      return reply.code(isOpen ? 202 : 200).send(groupBodyOf(answer))
    },
  )
}

function endRequestOf(
  { tether: { caller } }: Pick<FastifyRequest, 'tether'>,
  kind: CancelKind,
  { reason = '', ifUnknown = 'reject' }: Static<typeof EndBody>,
): Omit<EndRequest, 'waitMs'> {
  return { kind, reason, caller, ifUnknown }
}

/** 200: it has ended, by this or otherwise. 202: it was asked, or will be, and has not. */
function statusOf(answer: EndAnswer): 200 | 202 {
  return answer.kind === 'job' && answer.view.terminal ? 200 : 202
}

function bodyOf(answer: EndAnswer): Static<typeof Job> | Static<typeof Remembered> {
  if (answer.kind === 'job') return answer.view
  const { id, request, expiresAt } = answer
  return { id, remembered: true, kind: request, expiresAt: new Date(expiresAt).toISOString() }
}

function groupBodyOf({ accepted, ended, remembered }: GroupAnswer): Static<typeof GroupEnded> {
  if (remembered === undefined) return { accepted, ended }
  const { kind, expiresAt } = remembered
  return { accepted, ended, remembered: true, kind, expiresAt: new Date(expiresAt).toISOString() }
}

async function treatAbsentAsEmpty(request: FastifyRequest): Promise<void> {
  request.body ??= {}
}

/** Fires when the connection closes: nobody waits for the answer any more. What was asked for stands. */
function goneSignalOf(reply: FastifyReply): AbortSignal {
  const gone = new AbortController()
  if (reply.raw.destroyed) gone.abort()
  else reply.raw.once('close', () => gone.abort())
  return gone.signal
}
