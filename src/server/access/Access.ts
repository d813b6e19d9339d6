import type { FastifyRequest } from 'fastify'
import type { Clock } from '../../clock.ts'
import { TetherError } from '../../job/error.ts'
import { DEFAULT_TENANT } from '../../job/key.ts'
import type { ServerConfig } from '../ServerConfig.ts'
import { Gate } from './Gate.ts'
import { type Authenticate, addressOf, allows, type Identity, parseIdentity, SCOPES, type Scope } from './Identity.ts'
import { Sessions } from './Sessions.ts'
import { sessionOf } from './sessionCookie.ts'
import { TokenCheck } from './TokenCheck.ts'

type AccessConfig = Pick<ServerConfig, 'apiToken' | 'allowedHosts' | 'allowedOrigins'>

export interface AccessOptions {
  readonly config: AccessConfig
  readonly clock: Clock
  /** Says who asks. Default: whoever bears the API token may everything, and where there is none everybody. */
  readonly authenticate?: Authenticate
}

/** How a request says who sent it: `cookie` is what a browser adds by itself, whoever has it send the request. */
type Proof = 'token' | 'cookie' | 'none'

/** Who sends a request, and whether they may. */
export class Access {
  /** Where browsers log in with the API token; undefined where they do not. */
  readonly login: { readonly sessions: Sessions; readonly token: TokenCheck } | undefined
  readonly #gate: Gate
  readonly #authenticate: Authenticate | undefined
  readonly #isOpen: boolean

  constructor({ config, clock, authenticate }: AccessOptions) {
    const { apiToken } = config
    this.#gate = new Gate(config)
    this.#authenticate = authenticate
    this.#isOpen = apiToken === undefined && authenticate === undefined
    this.login =
      apiToken === undefined || authenticate !== undefined
        ? undefined
        : { sessions: new Sessions(apiToken, clock), token: new TokenCheck(apiToken) }
  }

  /**
   * Looks where a request comes from and who sent it, and notes that on it. Waits only where a hook does.
   * @throws {TetherError} `TETHER_HOST_REFUSED`, `TETHER_ORIGIN_REFUSED`
   */
  admit(request: FastifyRequest): Promise<void> | undefined {
    const isHealth = request.routeOptions.config.isHealth === true
    const proof = this.#proofOf(request)
    request.tether.hasSession = this.login !== undefined && proof === 'cookie'
    // A page behind a rebound name cannot know the token, so a valid one makes the name irrelevant.
    if (proof !== 'token' && !isHealth) this.#gate.assertHost(request)
    this.#gate.assertOrigin(request)
    if (proof === 'cookie' && changesSomething(request)) this.#gate.assertOwnPage(request)
    if (this.#authenticate === undefined) {
      this.#note(
        request,
        this.#isOpen || proof !== 'none' ? everything(this.#isOpen ? addressOf(request) : 'token') : undefined,
      )
      return undefined
    }
    // A preflight has nothing to show, and neither has a load balancer, which must get its answer where whoever knows people is away.
    const { authorization, cookie } = request.headers
    if (request.method === 'OPTIONS' || (isHealth && authorization === undefined && cookie === undefined)) {
      this.#note(request, undefined)
      return undefined
    }
    return this.#askHook(request, this.#authenticate)
  }

  /** What the hook throws, or what it gave when that is read, is wrapped: a status, a code or a text of its libraries is not for clients. */
  #askHook(request: FastifyRequest, authenticate: Authenticate): Promise<void> | undefined {
    const note = (given: unknown): void => this.#note(request, parseIdentity(given))
    const fail = (error: unknown): never => {
      throw new Error('authenticate failed', { cause: error })
    }
    try {
      const given: unknown = authenticate(request)
      // Promises of other makes too.
      if (typeof given === 'object' && given !== null && 'then' in given) {
        return Promise.resolve(given).then(note).catch(fail)
      }
      note(given)
      return undefined
    } catch (error) {
      return fail(error)
    }
  }

  /** @throws {TetherError} `TETHER_UNAUTHORIZED`, `TETHER_FORBIDDEN` */
  assertMay({ tether: { identity }, routeOptions, method, is404 }: FastifyRequest): void {
    const { isHealth, isPublic, scope } = routeOptions.config
    if (isHealth === true || isPublic === true) return
    if (identity === undefined) {
      const what = this.#authenticate === undefined ? 'with the API token' : 'or what else says who sends it'
      throw new TetherError('TETHER_UNAUTHORIZED', `the request must bear \`authorization: Bearer\` ${what}`)
    }
    if (!is404) assertScope(identity, scope ?? scopeOfMethod(method))
  }

  #proofOf(request: FastifyRequest): Proof {
    const { authorization, cookie } = request.headers
    // Of a hook nobody knows what it goes by; what bears a header that no browser adds by itself is not sent by a page unawares.
    if (this.#authenticate !== undefined) return cookie !== undefined && authorization === undefined ? 'cookie' : 'none'
    if (this.login === undefined) return 'none'
    if (this.login.token.isBorneBy(authorization)) return 'token'
    const session = sessionOf(request)
    return session !== undefined && this.login.sessions.isOpen(session) ? 'cookie' : 'none'
  }

  #note(request: FastifyRequest, identity: Identity | undefined): void {
    request.tether.identity = identity
    const isAdmin = identity !== undefined && allows(identity, 'admin')
    request.tether.isTrusted = this.#isOpen ? this.#gate.isHostKnown(request) : isAdmin
  }
}

/** @throws {TetherError} `TETHER_FORBIDDEN` */
export function assertScope(identity: Identity, scope: Scope): void {
  if (allows(identity, scope)) return
  throw new TetherError('TETHER_FORBIDDEN', `this needs the scope ${scope}, and ${shownScopes(identity)}`)
}

function shownScopes({ scopes }: Identity): string {
  return scopes.length === 0 ? 'the request has none' : `the request has ${scopes.join(', ')}`
}

/** Of a route that says nothing: only those that change nothing may say nothing (addAccess.ts). */
function scopeOfMethod(method: string): Scope {
  return isSafe(method) ? 'read' : 'admin'
}

export function isSafe(method: string): boolean {
  return method === 'GET' || method === 'HEAD' || method === 'OPTIONS'
}

function changesSomething({ method }: FastifyRequest): boolean {
  return !isSafe(method)
}

function everything(subject: string): Identity {
  return { tenant: DEFAULT_TENANT, subject, scopes: SCOPES }
}
