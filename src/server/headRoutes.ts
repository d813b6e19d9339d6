import type { RouteOptions } from 'fastify'
import { routeNotFound } from './errors.ts'

/**
 * An app may make a HEAD route of every GET (`exposeHeadRoutes`, Fastify's default). Of a stream's that would open a stream which
 * says nothing and may hold its job; so here they are what they are not: there are no HEAD routes (protocol, section 3).
 */
export function refuseHead(route: RouteOptions): void {
  route.onRequest = []
  route.preValidation = []
  route.schema = { hide: true }
  route.handler = async (request) => {
    throw routeNotFound(request)
  }
}
