import type { ErrorCode } from '../../job/error.ts'
import type { Presence } from '../Presence.ts'
import type { ServerContext } from '../ServerContext.ts'
import { errorResponses } from '../schemas/error.ts'
import { JobEventStream } from '../schemas/events.ts'
import { Job } from '../schemas/job.ts'
import { lastEventIdOf, StartHeaders, StreamStartHeaders } from '../schemas/queries.ts'
import { StartBody } from '../schemas/startJob.ts'
import { PendingAnswer } from '../sse/PendingAnswer.ts'
import { SseStream } from '../sse/SseStream.ts'
import { startRequestOf } from '../startRequest.ts'
import { abandon, seePresence } from '../streamHooks.ts'
import type { RouteApp } from './RouteApp.ts'

/** What a start may be refused with, besides what every route may. */
export const START_ERRORS: readonly ErrorCode[] = [
  'TETHER_INVALID_JOB_ID',
  'TETHER_TASK_NOT_FOUND',
  'TETHER_JOB_EXISTS',
  'TETHER_IDEMPOTENCY_CONFLICT',
  'TETHER_JOB_DELETED',
  'TETHER_BODY_TOO_LARGE',
  'TETHER_UNSUPPORTED_MEDIA_TYPE',
  'TETHER_QUOTA',
  'TETHER_QUEUE_FULL',
]

/** Protocol, sections 3 and 4: the routes that start a job and hold it. */
export function addExecuteRoutes(app: RouteApp, context: ServerContext): void {
  const { jobs } = context
  const onRequest = seePresence(context, () => true)

  app.post(
    '/execute/stream',
    {
      sse: 'manual',
      config: { scope: 'run' },
      onRequest,
      schema: {
        summary: 'Start a job and stream its events; when the stream is gone, so is the job',
        tags: ['start'],
        headers: StreamStartHeaders,
        body: StartBody,
        response: {
          200: JobEventStream('the events of the job, from the first to the terminal one'),
          ...errorResponses(...START_ERRORS, 'TETHER_INVALID_CURSOR'),
        },
      },
    },
    async (request, reply) => {
      const { presence } = request.tether
      const lastEventId = lastEventIdOf(request.headers)
      // A client that is gone by now has left all the same: its job is recorded, and then ended.
      const { ref, created } = await jobs.start(startRequestOf(request, request.body, 'cancel', presence.holder))
      if (presence.isGone) return abandon(reply)
      const stream = new SseStream(presence, context)
      stream.start(reply, headersOf(ref.id, presence))
      try {
        // A start that is sent again by a client that lost its stream goes on where that broke off.
        const after = created ? 0 : (lastEventId ?? 0)
        const { reader } = await jobs.attach(ref, { after, sink: stream, named: true, givesEnd: true })
        stream.follow(reader)
      } catch (error) {
        stream.fail(error instanceof Error ? error : new Error(String(error)))
      }
      return undefined
    },
  )

  app.post(
    '/execute',
    {
      config: { scope: 'run' },
      onRequest,
      schema: {
        summary: 'Start a job and wait for its outcome; when the request is gone, so is the job',
        tags: ['start'],
        headers: StartHeaders,
        body: StartBody,
        response: { 200: Job, ...errorResponses(...START_ERRORS) },
      },
    },
    async (request, reply) => {
      const { presence } = request.tether
      const { ref } = await jobs.start(startRequestOf(request, request.body, 'cancel', presence.holder))
      if (presence.isGone) return abandon(reply)
      const answer = new PendingAnswer(presence, context)
      answer.start(reply, headersOf(ref.id, presence))
      try {
        answer.answer(await jobs.outcome(ref, presence.signal))
      } catch (error) {
        // Nobody waits any more, which is what ended the wait.
        if (!presence.isGone) context.logger.error({ err: error, jobId: ref.id }, 'an outcome could not be answered')
        answer.fail()
      }
      return undefined
    },
  )
}

function headersOf(jobId: string, { holder }: Presence): Record<string, string> {
  return { 'x-tether-job-id': jobId, ...(holder === undefined ? {} : { 'x-tether-holder': holder.id }) }
}
