import { BlockList, isIP } from 'node:net'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { TetherError } from '../job/error.ts'

const LOOPBACK = new BlockList()
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4')
LOOPBACK.addAddress('::1', 'ipv6')

/**
 * The hook of an app that is not ours to say where it listens, where there is no token: nobody else may run commands here. The
 * connection's own address counts, whatever a proxy says in front of it.
 */
export function assertLocalPeer(request: FastifyRequest, _reply: FastifyReply, done: () => void): void {
  if (request.routeOptions.config.isHealth !== true && !isLocal(request)) {
    throw new TetherError(
      'TETHER_UNAUTHORIZED',
      'without API_TOKEN only programs of this machine are answered: set it where others may ask',
    )
  }
  done()
}

function isLocal({ raw, server }: FastifyRequest): boolean {
  const { remoteAddress } = raw.socket
  // It has none where the connection is over, and where the app listens on a socket of the file system.
  if (remoteAddress === undefined) return typeof server.server.address() === 'string'
  const version = isIP(remoteAddress)
  return version !== 0 && LOOPBACK.check(remoteAddress, version === 4 ? 'ipv4' : 'ipv6')
}
