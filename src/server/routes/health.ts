import { type Static, Type } from 'typebox'
import type { Check } from '../../health/Check.ts'
import type { Readiness } from '../../health/HealthReport.ts'
import type { Caller } from '../../jobs/JobSpec.ts'
import type { ServerContext } from '../ServerContext.ts'
import type { RouteApp } from './RouteApp.ts'

const Checks = Type.Array(
  Type.Object(
    { name: Type.String(), ok: Type.Boolean(), detail: Type.Optional(Type.String()) },
    { additionalProperties: Type.Union([Type.Number(), Type.String(), Type.Boolean()]), description: 'with figures' },
  ),
)

const Live = Type.Object({ live: Type.Boolean(), checks: Type.Optional(Checks) })

const Stuck = Type.Array(Type.Object({ id: Type.String(), task: Type.String(), since: Type.String() }), {
  description: 'those of your tenant',
})

const Ready = Type.Object({
  ready: Type.Boolean(),
  draining: Type.Optional(Type.Boolean()),
  checks: Type.Optional(Checks),
  stuck: Type.Optional(Stuck),
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
      return { live: true, ...(request.tether.isTrusted ? { checks: health.live().map(shown) } : {}) }
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
      if (!request.tether.isTrusted) return { ready: isReady }
      return {
        ready: isReady,
        draining: isDraining,
        checks: checks.map(shown),
        stuck: stuckOf(request.tether.caller, stuck),
        containment,
        running,
        queued,
        ...(request.tether.hasSession ? { hasSession: true } : {}),
      }
    },
  )
}

/** Figures are of the server; jobs of another tenant do not exist for who asks, here either. */
function stuckOf({ tenant }: Caller, stuck: Readiness['stuck']): Static<typeof Stuck> {
  return stuck.filter((job) => job.tenant === tenant).map(({ id, task, since }) => ({ id, task, since }))
}

function shown({ figures, ...check }: Check): Omit<Check, 'figures'> {
  return { ...check, ...figures }
}
