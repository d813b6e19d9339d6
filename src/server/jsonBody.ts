import type { FastifyInstance } from 'fastify'
import { TetherError } from '../job/error.ts'
import { depthsOf, MAX_JSON_DEPTH } from '../job/json.ts'

/** Takes bodies of `application/json` and no others. An empty body is an absent one. */
export function addJsonParser(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('application/json', { parseAs: 'string' }, async (_request: unknown, text: string) =>
    text === '' ? undefined : parseBody(text),
  )
}

/** @throws {TetherError} `TETHER_INVALID_REQUEST` */
function parseBody(text: string): unknown {
  const value = parseJson(text)
  let depth = 0
  for (const level of depthsOf(value)) {
    if (depth > MAX_JSON_DEPTH) throw refused(`the body must be nested no deeper than ${MAX_JSON_DEPTH} levels`)
    // `JSON.parse` makes a member of it like any other, but whatever copies the object by assignment would replace its prototype.
    if (level.some((one) => Object.hasOwn(one, '__proto__'))) throw refused('the body must have no key __proto__')
    depth += 1
  }
  return value
}

function parseJson(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text)
    return value
  } catch (error) {
    throw refused(`the body must be JSON: ${error instanceof Error ? error.message : 'it cannot be read'}`)
  }
}

function refused(message: string): TetherError {
  return new TetherError('TETHER_INVALID_REQUEST', message)
}
