import type { Json } from '../../job/json.ts'

/** The task whose result is its last words, with figures beside them. */
const AGENT = 'agent'

/** What of a result there is to read: of an agent's its text, of anything else all of it. */
export function readableResult(task: string | undefined, result: Json): Json {
  if (task !== AGENT || typeof result !== 'object' || result === null || Array.isArray(result)) return result
  const text = new Map(Object.entries(result)).get('text')
  return typeof text === 'string' ? text : result
}
