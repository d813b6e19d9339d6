import { fastify } from 'fastify'
import { type AgentTool, defineTask, defineTool, readConfig, type TaskDefinition, Type, tether } from 'tether'
import { JobEnded, type JobEvent, type JobRun, TetherClient } from 'tether/client'

const resize: TaskDefinition = defineTask({
  name: 'resize',
  input: Type.Object({ width: Type.Integer() }),
  async run(ctx, { width }) {
    const doubled: number = width * 2
    await ctx.output(String(doubled))
    return { doubled }
  },
})

export const look: AgentTool = defineTool({
  name: 'look',
  description: 'Looks at a file.',
  input: Type.Object({ path: Type.String() }),
  run: async (ctx, { path }) => `${ctx.jobId} sees ${path.trim()}`,
})

// Names that an app may have for itself.
declare module 'fastify' {
  interface FastifyRequest {
    identity: { readonly name: string }
  }
}

export async function serve(): Promise<string> {
  const app = fastify({ logger: true })
  await app.register(tether, { prefix: '/tether', tasks: [resize], settings: { CONCURRENCY: '2' } })
  // @ts-expect-error: an option that there is not
  await app.register(tether, { prefix: '/tether', taks: [resize] })
  const secure = fastify({ https: {} })
  await secure.register(tether, { prefix: '/tether' })
  return app.listen({ port: readConfig({}).port })
}

export async function watch(client: TetherClient): Promise<number> {
  const run: JobRun<{ readonly doubled: number }> = client.run({ task: 'resize', input: { width: 2 } })
  for await (const event of run) show(event)
  try {
    return (await run.result).doubled
  } catch (error) {
    if (error instanceof JobEnded && error.event.type === 'job.cancelled') return error.event.receipt.survivors.length
    throw error
  }
}

function show(event: JobEvent): string {
  switch (event.type) {
    case 'output':
      return event.text
    case 'job.failed':
      return event.failure.code
    // @ts-expect-error: an event that there is not
    case 'job.exploded':
      return ''
    default:
      return event.type
  }
}
