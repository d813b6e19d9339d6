import { type Context, type Span, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { isJobId } from '../job/id.ts'
import { endSpan, startSpan, traceOfRequest } from '../tracing/traces.ts'

/** What changes nothing (RFC 9110, section 9.2.1); a browser asks with `OPTIONS` before whatever it sends elsewhere. */
const LOOKING: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS'])

/** Requests that start, change or end something get a span, from their first byte until the answer is over. */
export function traceRequest(request: FastifyRequest, reply: FastifyReply, done: () => void): void {
  request.tether.trace = LOOKING.has(request.method) ? undefined : beginSpan(request, reply)
  done()
}

function beginSpan(request: FastifyRequest, reply: FastifyReply): Context {
  const parent = traceOfRequest(request.headers)
  const { method } = request
  const route = request.routeOptions.url ?? 'unknown route'
  const attributes = { 'http.request.method': method, 'http.route': route, 'url.scheme': request.protocol }
  const span = startSpan(`${method} ${route}`, { kind: SpanKind.SERVER, attributes }, parent)
  // A stream that was left ends with nothing but this.
  if (span.isRecording()) reply.raw.once('close', () => endRequest(span, request, reply))
  return trace.setSpan(parent, span)
}

function endRequest(span: Span, { params, routeOptions }: FastifyRequest, { raw }: FastifyReply): void {
  const isOfGroup = routeOptions.url?.includes('/groups/:id') === true
  const id = raw.getHeader('x-tether-job-id') ?? idIn(params)
  // What a client put in its place may be anything, and of any length. A group's id is made of the same.
  if (typeof id === 'string' && isJobId(id)) span.setAttribute(isOfGroup ? 'tether.group' : 'tether.job.id', id)
  span.setAttribute('http.response.status_code', raw.statusCode)
  if (!raw.writableFinished) span.addEvent('client_disconnected')
  if (raw.statusCode >= 500) span.setStatus({ code: SpanStatusCode.ERROR })
  endSpan(span)
}

function idIn(params: unknown): unknown {
  return typeof params === 'object' && params !== null && 'id' in params ? params.id : undefined
}
