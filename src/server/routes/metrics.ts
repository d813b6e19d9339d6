import { Type } from 'typebox'
import type { ServerContext } from '../ServerContext.ts'
import { errorResponses } from '../schemas/error.ts'
import type { RouteApp } from './RouteApp.ts'

/** Protocol, section 3: for Prometheus. It tells of all tenants, so it is not for everybody who may read. */
export function addMetricsRoute(app: RouteApp, { metrics }: ServerContext): void {
  app.get(
    '/metrics',
    {
      config: { scope: 'admin' },
      schema: {
        summary: 'What this server has done and how it stands, as text for Prometheus',
        tags: ['health'],
        response: {
          200: Type.Unsafe<string>({
            description: 'the figures',
            content: { 'text/plain': { schema: Type.String() } },
          }),
          ...errorResponses(),
        },
      },
    },
    async (_request, reply) => {
      const { contentType, text } = await metrics.scrape()
      return reply.type(contentType).header('cache-control', 'no-store').send(text)
    },
  )
}
