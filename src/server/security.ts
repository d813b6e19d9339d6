import { createHash, timingSafeEqual } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { TetherError } from '../job/error.ts'
import { DEFAULT_TENANT } from '../job/key.ts'
import type { Caller } from '../jobs/JobSpec.ts'
import type { ServerConfig } from './ServerConfig.ts'

declare module 'fastify' {
  interface FastifyRequest {
    caller: Caller
    /** Whether the details of the server's health may be told. */
    isTrusted: boolean
  }
  interface FastifyContextConfig {
    /** Exempt from Host and token: what a load balancer asks. */
    isHealth?: boolean
  }
}

type SecurityConfig = Pick<ServerConfig, 'apiToken' | 'allowedHosts' | 'allowedOrigins'>

/**
 * Who may ask. A page of another site, open in the browser of someone who can reach the server, must not be able to use it:
 * `Origin` and `Sec-Fetch-Site` give such a page away, and `Host` gives away a name that was rebound to this address.
 */
export class Gate {
  readonly #config: SecurityConfig
  readonly #tokenDigest: Buffer | undefined

  constructor(config: SecurityConfig) {
    this.#config = config
    this.#tokenDigest = config.apiToken === undefined ? undefined : digest(config.apiToken)
  }

  /** @throws {TetherError} `TETHER_HOST_REFUSED`, `TETHER_ORIGIN_REFUSED` */
  assertSite(request: FastifyRequest): void {
    const isAuthenticated = this.#isAuthenticated(request)
    const isHostKnown = this.#isHostKnown(request.headers.host)
    const isHealth = request.routeOptions.config.isHealth === true
    // A page behind a rebound name cannot know the token, so a valid one makes the name irrelevant.
    if (!isHostKnown && !isAuthenticated && !isHealth) {
      throw new TetherError(
        'TETHER_HOST_REFUSED',
        `the host must be a loopback name or one of ALLOWED_HOSTS, got ${quoted(request.headers.host)}`,
      )
    }
    this.#assertOrigin(request)
    request.isTrusted = this.#tokenDigest === undefined ? isHostKnown : isAuthenticated
    request.caller = { tenant: DEFAULT_TENANT, subject: isAuthenticated ? 'token' : request.ip }
  }

  /** @throws {TetherError} `TETHER_UNAUTHORIZED` */
  assertToken(request: FastifyRequest): void {
    if (this.#tokenDigest === undefined || request.routeOptions.config.isHealth === true) return
    if (this.#isAuthenticated(request)) return
    throw new TetherError('TETHER_UNAUTHORIZED', 'the request must bear `authorization: Bearer` with the API token')
  }

  #isAuthenticated(request: FastifyRequest): boolean {
    const token = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
    // Digests have one length, which timingSafeEqual asks for; comparing them tells nothing of how much of a guess is right.
    return this.#tokenDigest !== undefined && token !== undefined && timingSafeEqual(digest(token), this.#tokenDigest)
  }

  #isHostKnown(host: string | undefined): boolean {
    const name = hostOf('http', host)?.hostname
    return name !== undefined && (isLoopbackName(name) || this.#config.allowedHosts.includes(name))
  }

  #assertOrigin(request: FastifyRequest): void {
    const { origin } = request.headers
    if (origin !== undefined && this.#config.allowedOrigins.includes(origin)) return
    if (origin !== undefined && !isSameOrigin(origin, request)) {
      throw new TetherError(
        'TETHER_ORIGIN_REFUSED',
        `the origin must be the server's own or one of ALLOWED_ORIGINS, got ${quoted(origin)}`,
      )
    }
    const site = request.headers['sec-fetch-site']
    if (site === undefined || site === 'same-origin' || site === 'none') return
    throw new TetherError('TETHER_ORIGIN_REFUSED', `sec-fetch-site must be same-origin or none, got ${quoted(site)}`)
  }
}

function isLoopbackName(hostname: string): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(hostname)
}

/**
 * A trusted proxy may say under which name it was asked (`request.host` is that name then). The Host header itself is checked in
 * any case: a page behind a rebound name can send any `X-Forwarded-Host`, but not from another origin without a preflight.
 */
function isSameOrigin(origin: string, request: FastifyRequest): boolean {
  const url = URL.parse(origin)
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) return false
  const scheme = url.protocol.slice(0, -1)
  return hostOf(scheme, request.headers.host)?.host === url.host || hostOf(scheme, request.host)?.host === url.host
}

/** With the scheme's own port left out, and no user name, path or query smuggled in front of or behind the name. */
function hostOf(scheme: string, host: string | undefined): URL | undefined {
  if (host === undefined || !/^[^\s/?#@\\]+$/.test(host)) return undefined
  return URL.parse(`${scheme}://${host}`) ?? undefined
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

function quoted(text: string | string[] | undefined): string {
  return text === undefined ? 'none' : JSON.stringify(String(text).slice(0, 100))
}
