import { type TSchema, Type } from 'typebox'
import { ERROR_STATUS, type ErrorCode } from '../../job/error.ts'
import { OneOf } from './job.ts'

/** The description of every answer that is an error: one for each HTTP status, naming the codes that come with it. */
export function errorResponses(...codes: readonly ErrorCode[]): Record<number, TSchema> {
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
