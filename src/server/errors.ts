import { STATUS_CODES } from 'node:http'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { ERROR_STATUS, type ErrorCode, TetherError } from '../job/error.ts'
import { StoreError } from '../store/JobStore.ts'
import type { ServerLogger } from './ServerLogger.ts'

/** How every error is answered; Fastify's own shape. */
export interface ErrorBody {
  readonly statusCode: number
  readonly code: ErrorCode
  readonly error: string
  readonly message: string
}

/** When it may be tried again, in seconds. */
const RETRY_AFTER_S: Partial<Record<ErrorCode, number>> = {
  TETHER_QUEUE_FULL: 1,
  TETHER_STORE_UNAVAILABLE: 2,
  TETHER_DRAINING: 5,
  TETHER_TOMBSTONES_FULL: 5,
}

/** What Fastify refuses by itself and has a code of its own here. The rest of its refusals are invalid requests. */
const FASTIFY_CODES: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'TETHER_BODY_TOO_LARGE',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'TETHER_UNSUPPORTED_MEDIA_TYPE',
  FST_ERR_NOT_FOUND: 'TETHER_ROUTE_NOT_FOUND',
}

/** By status, for what a hook of an app around ours throws, whose codes are its own. Any other status below 500 is an invalid request. */
const APP_CODES: Readonly<Record<number, ErrorCode>> = {
  401: 'TETHER_UNAUTHORIZED',
  403: 'TETHER_FORBIDDEN',
  404: 'TETHER_ROUTE_NOT_FOUND',
  429: 'TETHER_RATE_LIMITED',
}

const MAX_MESSAGE_LENGTH = 300

export function errorBody(code: ErrorCode, message: string): ErrorBody {
  const statusCode = ERROR_STATUS[code]
  return { statusCode, code, error: STATUS_CODES[statusCode] ?? 'Error', message }
}

/** Answers with `error`. What nobody expected is logged, and the client is told no more than that it happened. */
export function sendError(error: unknown, reply: FastifyReply, logger: ServerLogger): void {
  const refusal = refusalOf(error)
  if (refusal === undefined) {
    logger.error(
      { err: error, method: reply.request.method, route: reply.request.routeOptions.url },
      'a request failed',
    )
  }
  const body =
    refusal === undefined
      ? errorBody('TETHER_INTERNAL', 'the server failed to answer; its log says why')
      : errorBody(refusal.code, refusal.message)
  const retryAfterS = RETRY_AFTER_S[body.code]
  if (retryAfterS !== undefined) reply.header('retry-after', retryAfterS)
  if (body.code === 'TETHER_UNAUTHORIZED' && !reply.hasHeader('www-authenticate'))
    reply.header('www-authenticate', 'Bearer realm="tether"')
  void reply.code(body.statusCode).type('application/json; charset=utf-8').send(body)
}

export function routeNotFound(request: FastifyRequest): TetherError {
  const path = request.url.split('?', 1)[0] ?? ''
  return new TetherError('TETHER_ROUTE_NOT_FOUND', `there is no route ${request.method} ${path.slice(0, 200)}`)
}

function refusalOf(error: unknown): { readonly code: ErrorCode; readonly message: string } | undefined {
  if (error instanceof TetherError) return error
  if (error instanceof StoreError) {
    return { code: 'TETHER_STORE_UNAVAILABLE', message: 'the store cannot be reached or written now' }
  }
  if (!hasStatus(error) || error.statusCode === undefined || error.statusCode >= 500) return undefined
  const code = FASTIFY_CODES[error.code] ?? APP_CODES[error.statusCode] ?? 'TETHER_INVALID_REQUEST'
  return { code, message: messageOf(error) }
}

function messageOf(error: FastifyError): string {
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return 'a body must be no longer than 1 MiB'
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return "a body's content-type must be application/json"
    default:
      // It may quote a path of 16 KiB.
      return error.message.slice(0, MAX_MESSAGE_LENGTH)
  }
}

/** Fastify's errors, and what others throw in the same shape. */
function hasStatus(error: unknown): error is FastifyError {
  return error instanceof Error && 'statusCode' in error && typeof error.statusCode === 'number'
}
