import type { FastifyRequest } from 'fastify'
import type { Caller } from '../../jobs/JobSpec.ts'

/**
 * `read`: jobs, their events and files, and who asked what of them. `run`: starting jobs, holding them and changing their policy.
 * `cancel`: cancelling and stopping. `admin`: all of these, deleting jobs, and the details and figures of the server.
 */
export const SCOPES = ['read', 'run', 'cancel', 'admin'] as const
export type Scope = (typeof SCOPES)[number]

/** Who asks, and what they may. Jobs of another tenant do not exist for them. */
export interface Identity extends Caller {
  readonly scopes: readonly Scope[]
}

/**
 * Says who sent a request; undefined: nobody that is known (401). It runs before the body is read, and before anything is limited. What
 * it throws is a defect (500), whatever status it bears. It should look at the headers alone, never at the address where a browser may be behind it: Host and
 * Origin are checked before it.
 */
export type Authenticate = (request: FastifyRequest) => Identity | undefined | Promise<Identity | undefined>

/** An app may listen on a socket of the file system, where nobody has an address. */
export function addressOf({ ip }: { readonly ip?: string }): string {
  return ip ?? 'local'
}

export function allows({ scopes }: Identity, scope: Scope): boolean {
  return scopes.includes(scope) || scopes.includes('admin')
}

/** Tenants are parts of names of folders and keys, so they have an alphabet of their own. */
const TENANT = /^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$/

/** Subjects are shown and logged: no control characters, and nothing that turns the direction of writing. */
const SUBJECT = /^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]{1,200}$/u

/**
 * What a hook gave; undefined where it knows nobody. It is code of somebody else's, and may be no TypeScript: a tenant that is no text
 * would come as far as the store, which then could write nothing any more.
 * @throws {Error} where a hook gives what it may not.
 */
export function parseIdentity(given: unknown): Identity | undefined {
  // As databases say that there is nobody.
  if (given === undefined || given === null) return undefined
  const { tenant, subject, scopes }: Partial<Record<keyof Identity, unknown>> = Object(given)
  if (typeof tenant !== 'string' || !TENANT.test(tenant)) {
    throw new Error(`authenticate must give a tenant of 1 to 64 characters of A-Z a-z 0-9 . _ -, got ${shown(tenant)}`)
  }
  if (typeof subject !== 'string' || !SUBJECT.test(subject)) {
    throw new Error(`authenticate must give a subject of 1 to 200 visible characters, got ${shown(subject)}`)
  }
  if (!Array.isArray(scopes) || !scopes.every(isScope)) {
    throw new Error(`authenticate must give a list of scopes of ${SCOPES.join(', ')}, got ${shown(scopes)}`)
  }
  return { tenant, subject, scopes }
}

function isScope(value: unknown): value is Scope {
  return SCOPES.some((scope) => scope === value)
}

function shown(value: unknown): string {
  return JSON.stringify(String(value).slice(0, 100))
}
