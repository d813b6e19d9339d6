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
 * Says who sent a request; undefined: nobody that is known (401). It runs before the body is read. What it throws is a defect (500),
 * unless it is a `TetherError`. It should look at the headers alone, never at the address where a browser may be behind it: Host and
 * Origin are checked before it.
 */
export type Authenticate = (request: FastifyRequest) => Identity | undefined | Promise<Identity | undefined>

export function allows({ scopes }: Identity, scope: Scope): boolean {
  return scopes.includes(scope) || scopes.includes('admin')
}

/** Tenants are parts of names of folders and keys, so they have an alphabet of their own. */
const TENANT = /^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$/

/** Subjects are shown and logged: no control characters, and nothing that turns the direction of writing. */
const SUBJECT = /^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]{1,200}$/u

/** @throws {Error} where a hook gives what it may not. */
export function assertIdentity({ tenant, subject, scopes }: Identity): void {
  if (!TENANT.test(tenant)) {
    throw new Error(`authenticate must give a tenant of 1 to 64 characters of A-Z a-z 0-9 . _ -, got ${shown(tenant)}`)
  }
  if (!SUBJECT.test(subject)) {
    throw new Error(`authenticate must give a subject of 1 to 200 visible characters, got ${shown(subject)}`)
  }
  const stranger = scopes.find((scope) => !SCOPES.includes(scope))
  if (stranger !== undefined)
    throw new Error(`authenticate must give scopes of ${SCOPES.join(', ')}, got ${shown(stranger)}`)
}

function shown(value: unknown): string {
  return JSON.stringify(String(value).slice(0, 100))
}
