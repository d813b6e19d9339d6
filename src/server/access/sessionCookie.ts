import type { FastifyRequest } from 'fastify'
import { SESSION_MS } from './Sessions.ts'

/**
 * With these prefixes a browser takes it over TLS only, and with the first from no other host of the domain, which the path of a part
 * of somebody's app does not allow (RFC 6265bis, section 4.1.3).
 */
function nameOf(request: FastifyRequest): string {
  if (!isSecure(request)) return 'tether_session'
  return request.server.prefix === '' ? '__Host-tether_session' : '__Secure-tether_session'
}

/** The client's connection is TLS: by what a proxy says, where one is trusted. */
function isSecure({ protocol }: FastifyRequest): boolean {
  return protocol === 'https'
}

export function sessionOf(request: FastifyRequest): string | undefined {
  const prefix = `${nameOf(request)}=`
  const pairs = (request.headers.cookie ?? '').split(';').map((pair) => pair.trim())
  return pairs.find((pair) => pair.startsWith(prefix))?.slice(prefix.length)
}

/** The value of `set-cookie`; undefined takes the cookie away. */
export function sessionCookie(request: FastifyRequest, session: string | undefined): string {
  return [
    `${nameOf(request)}=${session ?? ''}`,
    // The rest of an app around ours has no use for it.
    `Path=${request.server.prefix === '' ? '/' : request.server.prefix}`,
    'HttpOnly',
    'SameSite=Strict',
    `Max-Age=${session === undefined ? 0 : SESSION_MS / 1000}`,
    ...(isSecure(request) ? ['Secure'] : []),
  ].join('; ')
}
