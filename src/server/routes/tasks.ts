import { Type } from 'typebox'
import type { ServerContext } from '../ServerContext.ts'
import { errorResponses } from '../schemas/error.ts'
import type { RouteApp } from './RouteApp.ts'

const Task = Type.Object({
  name: Type.String(),
  description: Type.Optional(Type.String()),
  concurrencyLimit: Type.Optional(Type.Integer()),
  input: Type.Unknown({ description: 'the JSON Schema of its input' }),
})

/** Protocol, section 3: what may be started. */
export function addTaskRoutes(app: RouteApp, { jobs }: ServerContext): void {
  app.get(
    '/tasks',
    {
      schema: {
        summary: 'The tasks that may be started, with what they take',
        tags: ['tasks'],
        response: { 200: Type.Object({ tasks: Type.Array(Task) }), ...errorResponses() },
      },
    },
    async () => ({
      tasks: jobs.tasks.list().map(({ name, description, concurrencyLimit, schema }) => ({
        name,
        ...(description === undefined ? {} : { description }),
        ...(concurrencyLimit === undefined ? {} : { concurrencyLimit }),
        input: schema,
      })),
    }),
  )
}
