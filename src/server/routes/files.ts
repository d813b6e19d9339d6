import type { Readable } from 'node:stream'
import { Type } from 'typebox'
import type { ServerContext } from '../ServerContext.ts'
import { errorResponses } from '../schemas/error.ts'
import { JobParams } from '../schemas/queries.ts'
import { refOf } from './jobs.ts'
import type { RouteApp } from './RouteApp.ts'

/**
 * Whatever a job wrote is handed out for saving and never for showing: a page among it would otherwise run as one of ours, with
 * everything that this server lets its own pages do.
 */
const FILE_HEADERS = {
  'content-type': 'application/octet-stream',
  'content-disposition': 'attachment',
  'content-security-policy': "default-src 'none'; sandbox",
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-store',
}

const File = Type.Object({ path: Type.String(), bytes: Type.Integer(), modifiedAt: Type.String() })

/** Protocol, section 3: what a job left in its workspace. */
export function addFileRoutes(app: RouteApp, { jobs }: ServerContext): void {
  app.get(
    '/jobs/:id/files',
    {
      schema: {
        summary: 'What the job left in its workspace',
        tags: ['files'],
        params: JobParams,
        response: {
          200: Type.Object({ files: Type.Array(File) }),
          ...errorResponses('TETHER_INVALID_JOB_ID', 'TETHER_JOB_NOT_FOUND'),
        },
      },
    },
    async ({ params, tether: { caller } }) => ({ files: [...(await jobs.files(refOf(caller, params.id)))] }),
  )

  app.get(
    '/jobs/:id/files/*',
    {
      schema: {
        summary: 'One file of the workspace',
        tags: ['files'],
        params: Type.Object({ id: Type.String(), '*': Type.String({ description: 'its path in the workspace' }) }),
        response: {
          200: Type.Unsafe<Readable>({
            description: 'its bytes',
            content: { 'application/octet-stream': { schema: {} } },
          }),
          ...errorResponses('TETHER_INVALID_JOB_ID', 'TETHER_JOB_NOT_FOUND'),
        },
      },
    },
    async ({ params, tether: { caller } }, reply) => {
      const { stream, bytes } = await jobs.openFile(refOf(caller, params.id), params['*'])
      if (reply.raw.destroyed) stream.destroy()
      return reply.headers({ ...FILE_HEADERS, 'content-length': bytes }).send(stream)
    },
  )
}
