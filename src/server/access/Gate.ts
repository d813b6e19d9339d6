import type { FastifyRequest } from 'fastify'
import { TetherError } from '../../job/error.ts'
import type { ServerConfig } from '../ServerConfig.ts'

/**
 * From where may be asked. A page of another site, open in the browser of someone who can reach the server, must not be able to use
 * it: `Origin` and `Sec-Fetch-Site` give such a page away, and `Host` gives away a name that was rebound to this address.
 */
export class Gate {
  readonly #config: Pick<ServerConfig, 'allowedHosts' | 'allowedOrigins'>

  constructor(config: Pick<ServerConfig, 'allowedHosts' | 'allowedOrigins'>) {
    this.#config = config
  }

  isHostKnown({ headers }: FastifyRequest): boolean {
    const name = hostOf('http', headers.host)?.hostname
    return name !== undefined && (isLoopbackName(name) || this.#config.allowedHosts.includes(name))
  }

  /** @throws {TetherError} `TETHER_HOST_REFUSED` */
  assertHost(request: FastifyRequest): void {
    if (this.isHostKnown(request)) return
    throw new TetherError(
      'TETHER_HOST_REFUSED',
      `the host must be a loopback name or one of ALLOWED_HOSTS, got ${quoted(request.headers.host)}`,
    )
  }

  /** @throws {TetherError} `TETHER_ORIGIN_REFUSED` */
  assertOrigin(request: FastifyRequest): void {
    const { origin } = request.headers
    if (origin !== undefined && this.#config.allowedOrigins.includes(origin)) return
    if (origin !== undefined && !isSameOrigin(origin, request)) {
      throw originRefused(`the origin must be the server's own or one of ALLOWED_ORIGINS, got ${quoted(origin)}`)
    }
    const site = request.headers['sec-fetch-site']
    if (site === undefined || site === 'same-origin' || site === 'none') return
    throw originRefused(`sec-fetch-site must be same-origin or none, got ${quoted(site)}`)
  }

  /**
   * Of a request that bears a cookie, which a browser adds whoever has it send one: it must say that it is sent by a page of ours.
   * @throws {TetherError} `TETHER_ORIGIN_REFUSED`
   */
  assertOwnPage(request: FastifyRequest): void {
    const { origin } = request.headers
    const site = request.headers['sec-fetch-site']
    if (origin === undefined ? site === 'same-origin' : isSameOrigin(origin, request)) return
    throw originRefused(
      `what a cookie allows must be asked by a page of the server's own, got the origin ${quoted(origin)} and sec-fetch-site ${quoted(site)}`,
    )
  }
}

function originRefused(message: string): TetherError {
  return new TetherError('TETHER_ORIGIN_REFUSED', message)
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

function quoted(text: string | string[] | undefined): string {
  return text === undefined ? 'none' : JSON.stringify(String(text).slice(0, 100))
}
