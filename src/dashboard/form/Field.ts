import type { Json } from '../../job/json.ts'

export type Schema = { readonly [key: string]: Json }

export function isObjectSchema(value: Json | undefined): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** One member of a task's input, as it is asked for. */
export type Field = {
  readonly name: string
  readonly description: string
  readonly isRequired: boolean
  /** What the schema says it is where nothing is typed, as it would be typed. */
  readonly initial: string
} & (
  | { readonly kind: 'text'; readonly isLong: boolean; readonly isSecret: boolean }
  | {
      readonly kind: 'number'
      readonly isInteger: boolean
      readonly minimum: number | undefined
      readonly maximum: number | undefined
    }
  | { readonly kind: 'boolean' }
  | { readonly kind: 'choice'; readonly values: readonly Json[] }
  /** A list of texts, one a line. */
  | { readonly kind: 'lines' }
  /** Texts by name, one `NAME=VALUE` a line. */
  | { readonly kind: 'pairs' }
  | { readonly kind: 'json' }
)

/** A text that may be no longer than this, or that has a form, needs no more than a line. */
const SHORT_CHARS = 200

export function fieldOf(name: string, schema: Schema, isRequired: boolean): Field {
  const description = typeof schema['description'] === 'string' ? schema['description'] : ''
  const common = { name, description, isRequired, initial: '' }
  const values = valuesOf(schema)
  const { default: preset } = schema
  if (values !== undefined) {
    return { ...common, kind: 'choice', values, initial: preset === undefined ? '' : JSON.stringify(preset) }
  }
  const type = schema['type']
  if (type === 'string') {
    const isShort = 'pattern' in schema || 'format' in schema || Number(schema['maxLength'] ?? Infinity) <= SHORT_CHARS
    // What is needed is what the task is about; what may be left out is long where even nothing would do.
    const isLong = !isShort && (isRequired || !('minLength' in schema))
    return { ...common, kind: 'text', isLong, isSecret: schema['secret'] === true, initial: textOf(preset) }
  }
  if (type === 'integer' || type === 'number') {
    return {
      ...common,
      kind: 'number',
      isInteger: type === 'integer',
      minimum: numberOf(schema['minimum']),
      maximum: numberOf(schema['maximum']),
      initial: textOf(preset),
    }
  }
  if (type === 'boolean') return { ...common, kind: 'boolean', initial: textOf(preset) }
  if (type === 'array' && isTexts(schema['items'])) return { ...common, kind: 'lines' }
  if (type === 'object' && isRecordOfTexts(schema)) return { ...common, kind: 'pairs' }
  return { ...common, kind: 'json', initial: preset === undefined ? '' : JSON.stringify(preset, null, 2) }
}

/** The values of an enumeration, in any of the three ways to write one. */
function valuesOf(schema: Schema): readonly Json[] | undefined {
  const list = schema['enum']
  if (Array.isArray(list)) return list
  if (schema['const'] !== undefined) return [schema['const']]
  const members = schema['anyOf'] ?? schema['oneOf']
  if (!Array.isArray(members)) return undefined
  const constants = members.map((member: Json) => (isObjectSchema(member) ? member['const'] : undefined))
  return constants.every((constant) => constant !== undefined) ? constants : undefined
}

function isTexts(items: Json | undefined): boolean {
  return isObjectSchema(items) && items['type'] === 'string'
}

function isRecordOfTexts(schema: Schema): boolean {
  const patterns = schema['patternProperties']
  const members = isObjectSchema(patterns) ? Object.values(patterns) : [schema['additionalProperties']]
  return !('properties' in schema) && members.length > 0 && members.every(isTexts)
}

function numberOf(value: Json | undefined): number | undefined {
  return typeof value === 'number' ? value : undefined
}

function textOf(value: Json | undefined): string {
  if (value === undefined) return ''
  return typeof value === 'string' ? value : JSON.stringify(value)
}
