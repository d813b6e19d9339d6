/**
 * Every code that a route may answer with, and its HTTP status. The code is API; messages are prose.
 * `docs/errors.md` lists the same and a test compares the two.
 */
export const ERROR_STATUS = {
  TETHER_INVALID_REQUEST: 400,
  TETHER_INVALID_JOB_ID: 400,
  TETHER_INVALID_CURSOR: 400,
  TETHER_UNAUTHORIZED: 401,
  TETHER_FORBIDDEN: 403,
  TETHER_ORIGIN_REFUSED: 403,
  TETHER_JOB_NOT_FOUND: 404,
  TETHER_TASK_NOT_FOUND: 404,
  TETHER_ROUTE_NOT_FOUND: 404,
  TETHER_JOB_EXISTS: 409,
  TETHER_JOB_FINISHED: 409,
  TETHER_JOB_ACTIVE: 409,
  TETHER_IDEMPOTENCY_CONFLICT: 409,
  TETHER_JOB_DELETED: 410,
  TETHER_BODY_TOO_LARGE: 413,
  TETHER_UNSUPPORTED_MEDIA_TYPE: 415,
  TETHER_HOST_REFUSED: 421,
  TETHER_RATE_LIMITED: 429,
  TETHER_QUOTA: 429,
  TETHER_INTERNAL: 500,
  TETHER_QUEUE_FULL: 503,
  TETHER_DRAINING: 503,
  TETHER_STORE_UNAVAILABLE: 503,
  TETHER_TOMBSTONES_FULL: 503,
} as const satisfies Record<string, number>

export type ErrorCode = keyof typeof ERROR_STATUS

/** A refusal that has a code: something a caller could expect and act on, never a bug of ours. */
export class TetherError extends Error {
  override readonly name = 'TetherError'
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }

  get statusCode(): number {
    return ERROR_STATUS[this.code]
  }
}
