import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { TetherError } from '../../job/error.ts'
import type { Caller } from '../../jobs/JobSpec.ts'
import { addressOf } from './Identity.ts'

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
    const { tether, routeOptions } = request
    const { isHealth, isUnlimited } = routeOptions.config
    if (isHealth === true || (isUnlimited === true && tether.identity !== undefined)) return undefined
    const counter = tether.identity === undefined ? this.#byAddress : this.#bySubject
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
  const { fastifyRateLimit, normalizeIP } = await import('@fastify/rate-limit')
  await app.register(fastifyRateLimit, { global: false })
  // All of it is said: where an app around ours has limits too, what those go by is the default, and may be a header of the client's.
  // What counts in a store of the app's own must not count together.
  const settings = { timeWindow: WINDOW_MS, allowList: [] }
  const byAddress = (what: string) => (request: FastifyRequest) => `${what} ${normalizeIP(addressOf(request))}`
  const logins = app.createRateLimit({ ...settings, keyGenerator: byAddress('login'), max: LOGINS_PER_MINUTE })
  if (perMinute === 0) return new RequestLimits({ logins })
  return new RequestLimits({
    logins,
    byAddress: app.createRateLimit({ ...settings, keyGenerator: byAddress('address'), max: perMinute }),
    bySubject: app.createRateLimit({
      ...settings,
      max: perMinute,
      keyGenerator: ({ tether }) => `subject ${tether.identity === undefined ? '' : clientOf(tether.identity)}`,
    }),
  })
}
