import { Socket } from 'node:net'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { TetherError } from '../job/error.ts'
import { clientOf } from './access/RequestLimits.ts'
import { setUpConnection } from './connections.ts'
import { Presence } from './Presence.ts'
import type { ServerContext } from './ServerContext.ts'

type OnRequest = (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void) => void

/**
 * The hook of a route whose response stays open. It runs before the body is read and before anything that waits. `isHolder` says
 * whether the client will hold a job.
 */
export function seePresence(context: ServerContext, isHolder: (request: FastifyRequest) => boolean): OnRequest {
  return (request, reply, done) => {
    // Node starts the handlers of pipelined requests at once, and buffers what they write until those before are through: such a
    // response has no socket yet, cannot be seen to close, and would hold its job for ever.
    if (reply.raw.socket === null) {
      done(new TetherError('TETHER_INVALID_REQUEST', 'a stream must not be pipelined behind another request'))
      return
    }
    // Of an app that is not ours it may not be set up, and where a request is handed to the app without a connection it is none.
    if (reply.raw.socket instanceof Socket) setUpConnection(reply.raw.socket)
    const holder = isHolder(request) ? context.jobs.openHolder() : undefined
    const presence = new Presence(reply.raw, clientOf(request.tether.caller), context.quota, holder)
    try {
      presence.begin()
    } catch (error) {
      context.counters.refusedStreams += 1
      done(error instanceof Error ? error : new Error(String(error)))
      return
    }
    request.tether.presence = presence
    // The body of a GET is nobody's, and while it is unread neither the end nor a reset of the connection is seen.
    if (request.method === 'GET') request.raw.resume()
    done()
  }
}

/**
 * Nobody is there to be answered. Handlers of streams return nothing rather than their reply: it is a thenable that settles with
 * the end of the response, so that whatever awaits it lives, with its listeners, as long as the stream.
 */
export function abandon(reply: FastifyReply): undefined {
  reply.hijack()
  return undefined
}
