import { Type } from 'typebox'
import type { Check } from '../../health/Check.ts'
import type { ServerContext } from '../ServerContext.ts'
import type { RouteApp } from './RouteApp.ts'

const Checks = Type.Array(
  Type.Object(
    { name: Type.String(), ok: Type.Boolean(), detail: Type.Optional(Type.String()) },
    { additionalProperties: Type.Union([Type.Number(), Type.String(), Type.Boolean()]), description: 'with figures' },
  ),
)

const Live = Type.Object({ live: Type.Boolean(), checks: Type.Optional(Checks) })

const Ready = Type.Object({
  ready: Type.Boolean(),
  draining: Type.Optional(Type.Boolean()),
  checks: Type.Optional(Checks),
  stuck: Type.Optional(Type.Array(Type.Object({ id: Type.String(), task: Type.String(), since: Type.String() }))),
  containment: Type.Optional(Type.Object({ level: Type.String(), complete: Type.Boolean() })),
  running: Type.Optional(Type.Integer()),
  queued: Type.Optional(Type.Integer()),
  hasSession: Type.Optional(Type.Boolean({ description: 'true where a login let you in: POST /logout ends it' })),
})

/** Protocol, section 3: for load balancers. They need neither token nor Host, and get no details without. */
export function addHealthRoutes(app: RouteApp, { health }: ServerContext): void {
  const config = { isHealth: true }

  app.get(
    '/health/live',
    { config, schema: { summary: 'Whether the process answers', tags: ['health'], response: { 200: Live } } },
    (request, reply) => {
      reply.header('cache-control', 'no-store')
      return { live: true, ...(request.isTrusted ? { checks: health.live().map(shown) } : {}) }
    },
  )

  app.get(
    '/health/ready',
    {
      config,
      schema: {
        summary: 'Whether it takes jobs, and what is wrong',
        tags: ['health'],
        response: { 200: Ready, 503: Ready },
      },
    },
    async (request, reply) => {
      const { checks, isReady, isDraining, stuck, containment, running, queued } = await health.ready()
      reply.code(isReady ? 200 : 503).header('cache-control', 'no-store')
      if (!request.isTrusted) return { ready: isReady }
      return {
        ready: isReady,
        draining: isDraining,
        checks: checks.map(shown),
        stuck: [...stuck],
        containment,
        running,
        queued,
        ...(request.hasSession ? { hasSession: true } : {}),
      }
    },
  )
}

function shown({ figures, ...check }: Check): Omit<Check, 'figures'> {
  return { ...check, ...figures }
}
