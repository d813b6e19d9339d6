import type { FastifyInstance } from 'fastify'
import { TetherError } from '../job/error.ts'

/** Deeper bodies are refused: what walks a value by recursion (also `JSON.stringify`) would run out of stack. */
export const MAX_BODY_DEPTH = 100

/**
 * Takes bodies of `application/json` and no others. `__proto__` and `constructor.prototype` as keys are refused, since an
 * object that is copied member by member would take them for its prototype. An empty body is an absent one.
 */
export function addJsonParser(app: FastifyInstance): void {
  const parseJson = app.getDefaultJsonParser('error', 'error')
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, text, done) => {
    if (text === '') {
      done(null, undefined)
      return
    }
    parseJson(request, String(text), (error, value: unknown) => {
      if (error !== null) done(new TetherError('TETHER_INVALID_REQUEST', `the body must be JSON: ${error.message}`))
      else if (isDeeperThan(value, MAX_BODY_DEPTH)) done(tooDeep())
      else done(null, value)
    })
  })
}

function tooDeep(): TetherError {
  return new TetherError('TETHER_INVALID_REQUEST', `the body must be nested no deeper than ${MAX_BODY_DEPTH} levels`)
}

/** Level by level, without recursion. */
function isDeeperThan(value: unknown, maxDepth: number): boolean {
  let level = [value]
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > maxDepth) return true
    level = level.flatMap((item) =>
      typeof item === 'object' && item !== null ? Object.values(item).filter((child) => typeof child === 'object') : [],
    )
  }
  return false
}
