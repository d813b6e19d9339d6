import { type TSchema, Type } from 'typebox'
import { ERROR_STATUS, type ErrorCode } from '../../job/error.ts'
import { OneOf } from './job.ts'

/** What every route may refuse with, for who asks, from where, how often, or when; those of health excepted. */
const ANYWHERE: readonly ErrorCode[] = [
  'TETHER_INVALID_REQUEST',
  'TETHER_UNAUTHORIZED',
  'TETHER_FORBIDDEN',
  'TETHER_ORIGIN_REFUSED',
  'TETHER_HOST_REFUSED',
  'TETHER_RATE_LIMITED',
  'TETHER_INTERNAL',
  'TETHER_DRAINING',
  'TETHER_STORE_UNAVAILABLE',
]

/**
 * The description of every answer that is an error: one for each HTTP status, naming the codes that come with it. `own` are those of
 * the route besides what every route has.
 */
export function errorResponses(...own: readonly ErrorCode[]): Record<number, TSchema> {
  const codes = [...own, ...ANYWHERE]
  const statuses = new Set(codes.map((code) => ERROR_STATUS[code]))
  return Object.fromEntries(
    [...statuses].map((status) => {
      const ofStatus = codes.filter((code) => ERROR_STATUS[code] === status)
      return [status, errorOf(ofStatus)]
    }),
  )
}

function errorOf(codes: readonly ErrorCode[]): TSchema {
  return Type.Object(
    {
      statusCode: Type.Integer(),
      code: OneOf(codes),
      error: Type.String(),
      message: Type.String(),
    },
    { description: codes.join(', ') },
  )
}
