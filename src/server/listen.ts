import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { messageOf } from '../job/messageOf.ts'

/**
 * Settles when connections are taken, with the address that was given and the port that was picked.
 * @throws {Error} with one sentence for the operator
 */
export async function listenAt(app: FastifyInstance, address: { host: string; port: number }): Promise<string> {
  const { host, port } = address
  try {
    await app.listen({ host, port })
  } catch (error) {
    await app.close()
    throw new Error(
      `HOST and PORT must be an address that is free on this machine, got ${host} and ${port}: ${messageOf(error)}`,
      { cause: error },
    )
  }
  return urlOf(host, app.server.address())
}

function urlOf(host: string, address: AddressInfo | string | null): string {
  if (address === null || typeof address === 'string') throw new Error('the server has no address')
  return `http://${host.includes(':') ? `[${host}]` : host}:${address.port}`
}
