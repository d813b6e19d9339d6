import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { TetherError } from '../../job/error.ts'
import type { Caller } from '../../jobs/JobSpec.ts'

const WINDOW_MS = 60_000

/** Logins are tried by people. Counted by address, since nobody is known yet. */
const LOGINS_PER_MINUTE = 30

type Counter = ReturnType<FastifyInstance['createRateLimit']>

/** How many requests a client may send in a minute: counted by the authenticated subject, else by the address. */
export class RequestLimits {
  readonly #bySubject: Counter | undefined
  readonly #byAddress: Counter | undefined
  readonly #logins: Counter

  constructor(counters: { readonly bySubject?: Counter; readonly byAddress?: Counter; readonly logins: Counter }) {
    this.#bySubject = counters.bySubject
    this.#byAddress = counters.byAddress
    this.#logins = counters.logins
  }

  /**
   * Counts a request. Cancel, stop, lease and health are let through whatever came before, but for the first three only for those who
   * are known: guesses of a token are counted wherever they are tried.
   * @throws {TetherError} `TETHER_RATE_LIMITED`
   */
  count(request: FastifyRequest, reply: FastifyReply): Promise<void> | undefined {
    const { identity, routeOptions } = request
    const { isHealth, isUnlimited } = routeOptions.config
    if (isHealth === true || (isUnlimited === true && identity !== undefined)) return undefined
    const counter = identity === undefined ? this.#byAddress : this.#bySubject
    return counter === undefined ? undefined : assertWithin(counter, request, reply)
  }

  /** @throws {TetherError} `TETHER_RATE_LIMITED` */
  countLogin(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    return assertWithin(this.#logins, request, reply)
  }
}

async function assertWithin(counter: Counter, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const count = await counter(request)
  if (count.isAllowed || !count.isExceeded) return
  reply.header('retry-after', count.ttlInSeconds)
  throw new TetherError(
    'TETHER_RATE_LIMITED',
    `a client may send ${count.max} of these requests a minute: try again in ${count.ttlInSeconds} s`,
  )
}

/** What limits count by. */
export function clientOf({ tenant, subject }: Caller): string {
  return `${tenant}/${subject}`
}

/** Loaded only where something is limited. `perMinute` 0: only logins are. */
export async function openRequestLimits(app: FastifyInstance, perMinute: number): Promise<RequestLimits> {
  const { fastifyRateLimit } = await import('@fastify/rate-limit')
  await app.register(fastifyRateLimit, { global: false })
  // Said with each: where an app around ours has limits too, the settings of those are the defaults.
  const timeWindow = WINDOW_MS
  const logins = app.createRateLimit({ timeWindow, max: LOGINS_PER_MINUTE })
  if (perMinute === 0) return new RequestLimits({ logins })
  return new RequestLimits({
    logins,
    byAddress: app.createRateLimit({ timeWindow, max: perMinute }),
    bySubject: app.createRateLimit({
      timeWindow,
      max: perMinute,
      keyGenerator: ({ identity }) => (identity === undefined ? '' : clientOf(identity)),
    }),
  })
}
