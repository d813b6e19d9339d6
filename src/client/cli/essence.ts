import type { Json } from '../../job/json.ts'
import { plainWords } from '../plainText.ts'

/** What says most about a call, first. A search is told by what it looks for, everything else by what it works on. */
const TELLING = ['command', 'prompt', 'pattern', 'query', 'url', 'path', 'selector', 'text']
/** No row is longer, and an event may be 64 KiB. */
const MAX_CHARS = 1000

/** What a tool or a task was asked to do, in one line: the command, the path, the prompt. */
export function essenceOf(input: Json): string {
  if (typeof input === 'string') return lineOf(input)
  if (typeof input !== 'object' || input === null || Array.isArray(input)) return input === null ? '' : jsonOf(input)
  const fields = new Map(Object.entries(input))
  const name = [...TELLING, ...fields.keys()].find((key) => isTelling(fields.get(key)))
  const value = name === undefined ? undefined : fields.get(name)
  if (typeof value !== 'string') return fields.size === 0 ? '' : jsonOf(input)
  return fields.get('background') === true ? `${lineOf(value)} &` : lineOf(value)
}

function isTelling(value: Json | undefined): boolean {
  return typeof value === 'string' && value.trim() !== ''
}

function jsonOf(value: Json): string {
  return lineOf(JSON.stringify(value))
}

function lineOf(text: string): string {
  return plainWords(text.slice(0, MAX_CHARS))
}
