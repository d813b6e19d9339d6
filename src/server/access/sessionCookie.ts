import type { FastifyRequest } from 'fastify'
import { SESSION_MS } from './Sessions.ts'

/** With this prefix a browser takes it over TLS only, and from no other host of the domain (RFC 6265bis, section 4.1.3.2). */
function nameOf(isSecure: boolean): string {
  return isSecure ? '__Host-tether_session' : 'tether_session'
}

/** The client's connection is TLS: by what a proxy says, where one is trusted. */
function isSecure({ protocol }: FastifyRequest): boolean {
  return protocol === 'https'
}

export function sessionOf(request: FastifyRequest): string | undefined {
  const prefix = `${nameOf(isSecure(request))}=`
  const pairs = (request.headers.cookie ?? '').split(';').map((pair) => pair.trim())
  return pairs.find((pair) => pair.startsWith(prefix))?.slice(prefix.length)
}

/** The value of `set-cookie`; undefined takes the cookie away. */
export function sessionCookie(request: FastifyRequest, session: string | undefined): string {
  return [
    `${nameOf(isSecure(request))}=${session ?? ''}`,
    'Path=/',
    'HttpOnly',
    'SameSite=Strict',
    `Max-Age=${session === undefined ? 0 : SESSION_MS / 1000}`,
    ...(isSecure(request) ? ['Secure'] : []),
  ].join('; ')
}
