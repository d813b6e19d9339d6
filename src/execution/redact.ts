import type { TSchema } from 'typebox'
import type { Json } from '../job/json.ts'

/** `input` as it may be shown: what the schema marks secret is replaced, wherever in the input it stands. */
export function redact(schema: TSchema, input: Json): Json {
  const form: unknown = 'secret' in schema ? schema.secret : undefined
  if (form === 'length') return typeof input === 'string' ? input.length : input
  if (form === 'values' && isObject(input)) {
    return Object.fromEntries(Object.keys(input).map((key) => [key, '[redacted]']))
  }
  if (form !== undefined) return '[redacted]'
  // Secret in one form or part of the input is secret in all of them.
  const shown = partsOf(schema).reduce((part, member) => redact(member, part), input)
  if (isList(shown)) return shown.map((item, index) => redactWith(itemOf(schema, index), item))
  if (!isObject(shown)) return shown
  const entries = Object.entries(shown)
  return Object.fromEntries(entries.map(([key, value]) => [key, redactWith(propertyOf(schema, key), value)]))
}

/** Whether anything in the schema is marked secret. */
export function hasSecrets(schema: TSchema): boolean {
  let isFound = false
  JSON.stringify(schema, (key, value: unknown) => {
    // A property may have this name: its value is a schema then.
    isFound ||= key === 'secret' && typeof value === 'string'
    return value
  })
  return isFound
}

function redactWith(schema: TSchema | undefined, input: Json): Json {
  return schema === undefined ? input : redact(schema, input)
}

function partsOf(schema: TSchema): readonly TSchema[] {
  return ['anyOf', 'allOf', 'oneOf'].flatMap((keyword) => {
    const parts = member(schema, keyword)
    return Array.isArray(parts) ? parts.filter(isSchema) : []
  })
}

/** The schema of one item: that of all items, or that of its place in a tuple. */
function itemOf(schema: TSchema, index: number): TSchema | undefined {
  const items = member(schema, 'items')
  const item: unknown = Array.isArray(items) ? items[index] : items
  return isSchema(item) ? item : undefined
}

function propertyOf(schema: TSchema, key: string): TSchema | undefined {
  const named = member(member(schema, 'properties'), key)
  if (isSchema(named)) return named
  const patterns = member(schema, 'patternProperties')
  for (const [pattern, property] of Object.entries(isSchema(patterns) ? patterns : {})) {
    if (isSchema(property) && new RegExp(pattern, 'u').test(key)) return property
  }
  const further = member(schema, 'additionalProperties')
  return isSchema(further) ? further : undefined
}

/** Its own members only: an input may have a field with the name of something that every object inherits. */
function member(value: unknown, key: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined
  return Reflect.get(value, key)
}

function isList(value: Json): value is readonly Json[] {
  return Array.isArray(value)
}

function isObject(value: Json): value is { readonly [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isSchema(value: unknown): value is TSchema {
  return typeof value === 'object' && value !== null
}
