import type { Context } from '@opentelemetry/api'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Caller } from '../jobs/JobSpec.ts'
import type { Identity } from './access/Identity.ts'
import type { Presence } from './Presence.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** What Tether knows of it: everything under one name, since the others are those of the app that it may be a part of. */
    tether: Asked
  }
}

/** What becomes known of a request on its way to its handler. */
class Asked {
  /** What is started by it belongs below this; undefined for one that only looks. */
  trace: Context | undefined
  /** Who asks; undefined where that is not known, which only health and the login let in. */
  identity: Identity | undefined
  /** Whether the details of the server's health may be told. */
  isTrusted = false
  /** Whether it bears the cookie of a login that is not over. */
  hasSession = false
  #presence: Presence | undefined

  /** Who asks, for handlers that nobody unknown gets to. */
  get caller(): Caller {
    if (this.identity === undefined) throw new Error('nobody is known to have sent the request')
    const { tenant, subject } = this.identity
    return { tenant, subject }
  }

  /** On routes whose response may stay open for long. */
  get presence(): Presence {
    if (this.#presence === undefined) throw new Error('the route does not look whether its client is there')
    return this.#presence
  }

  set presence(presence: Presence) {
    this.#presence = presence
  }
}

/** The first hook of all: the others note what they find. */
export function noteAsked(request: FastifyRequest, _reply: FastifyReply, done: () => void): void {
  request.tether = new Asked()
  done()
}
