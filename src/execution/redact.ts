import type { TSchema } from 'typebox'
import type { Json } from '../job/json.ts'

/** `input` as it may be shown: what the schema marks secret is replaced. Returns `input` itself where nothing is secret. */
export function redact(schema: TSchema, input: Json): Json {
  const form: unknown = 'secret' in schema ? schema.secret : undefined
  if (form === 'length') return typeof input === 'string' ? input.length : input
  if (form === 'values' && isObject(input)) {
    return Object.fromEntries(Object.keys(input).map((key) => [key, '[redacted]']))
  }
  if (form !== undefined) return '[redacted]'
  if ('anyOf' in schema && isSchemas(schema.anyOf)) {
    // Secret in one form of the input is secret in all of them.
    return Object.values(schema.anyOf).reduce((shown, member) => redact(member, shown), input)
  }
  if (!isObject(input) || !('properties' in schema) || !isSchemas(schema.properties)) return input
  const shown: Record<string, Json> = {}
  for (const [key, value] of Object.entries(input)) {
    const member = schema.properties[key]
    shown[key] = member === undefined ? value : redact(member, value)
  }
  return shown
}

function isObject(value: Json): value is { readonly [key: string]: Json } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isSchemas(value: unknown): value is Record<string, TSchema> {
  return typeof value === 'object' && value !== null
}
