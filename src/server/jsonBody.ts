import type { FastifyInstance } from 'fastify'
import { TetherError } from '../job/error.ts'

/** Deeper bodies are refused: what walks a value by recursion (also `JSON.stringify`) would run out of stack. */
const MAX_BODY_DEPTH = 100

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
  let level = [value]
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > MAX_BODY_DEPTH) throw refused(`the body must be nested no deeper than ${MAX_BODY_DEPTH} levels`)
    level = level.flatMap(childrenOf)
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

/** The objects and arrays inside one, without its own text. */
function childrenOf(value: unknown): unknown[] {
  if (typeof value !== 'object' || value === null) return []
  // `JSON.parse` makes a member of it like any other, but whatever copies the object by assignment would replace its prototype.
  if (Object.hasOwn(value, '__proto__')) throw refused('the body must have no key __proto__')
  return Object.values(value).filter((child) => typeof child === 'object' && child !== null)
}

function refused(message: string): TetherError {
  return new TetherError('TETHER_INVALID_REQUEST', message)
}
