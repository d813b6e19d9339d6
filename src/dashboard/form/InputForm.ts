import type { Json } from '../../job/json.ts'
import { type Field, fieldOf, isObjectSchema } from './Field.ts'

/** One way to give a task its input. */
export interface Variant {
  readonly name: string
  readonly fields: readonly Field[]
}

/** What a task takes, as a form: one variant or several to choose from; none where only JSON will do. */
export function variantsOf(schema: Json): readonly Variant[] {
  if (!isObjectSchema(schema)) return []
  const choices = schema['anyOf'] ?? schema['oneOf']
  const members = Array.isArray(choices) ? choices : [schema]
  const variants = members.map(variantOf)
  return variants.every((variant) => variant !== undefined) ? named(variants) : []
}

function variantOf(schema: Json): Variant | undefined {
  if (!isObjectSchema(schema) || schema['type'] !== 'object') return undefined
  const properties = schema['properties']
  if (!isObjectSchema(properties)) return undefined
  const required = Array.isArray(schema['required']) ? schema['required'] : []
  const fields = Object.entries(properties).map(([name, member]) =>
    fieldOf(name, isObjectSchema(member) ? member : {}, required.includes(name)),
  )
  const title = schema['title']
  return { name: typeof title === 'string' ? title : '', fields }
}

/** A variant without a title is called by what only it has, or by its place. */
function named(variants: readonly Variant[]): readonly Variant[] {
  return variants.map((variant, index) => {
    if (variant.name !== '') return variant
    const others = new Set(
      variants.filter((other) => other !== variant).flatMap(({ fields }) => fields.map(({ name }) => name)),
    )
    const own = variant.fields.find(({ name }) => !others.has(name))
    return { ...variant, name: own?.name ?? `Form ${index + 1}` }
  })
}

/** What each field of a form holds, as it was typed. No object: a field may be called as what every object has. */
export type Typed = ReadonlyMap<string, string>

export type InputResult =
  | { readonly kind: 'ok'; readonly input: Json }
  | { readonly kind: 'wrong'; readonly errors: ReadonlyMap<string, string> }

/** The input that was typed; a field that was left empty is left out. */
export function inputOf({ fields }: Variant, typed: Typed): InputResult {
  const input: [string, Json][] = []
  const errors = new Map<string, string>()
  for (const field of fields) {
    const text = typed.get(field.name) ?? field.initial
    // A box that nobody ticked says no where an answer is needed, and else nothing.
    const isLeftOut = text === '' && !(field.kind === 'boolean' && field.isRequired)
    if (isLeftOut) {
      if (field.isRequired) errors.set(field.name, 'is needed')
      continue
    }
    const value = valueOf(field, text)
    if (value === undefined) errors.set(field.name, WANTED[field.kind])
    else input.push([field.name, value])
  }
  return errors.size === 0 ? { kind: 'ok', input: Object.fromEntries(input) } : { kind: 'wrong', errors }
}

const WANTED = {
  text: 'must be text',
  number: 'must be a number',
  boolean: 'must be yes or no',
  choice: 'must be one of the list',
  lines: 'must be lines',
  pairs: 'must be lines of the form NAME=VALUE',
  json: 'must be JSON',
} as const

function valueOf(field: Field, text: string): Json | undefined {
  switch (field.kind) {
    case 'text':
      return text
    case 'number': {
      const value = Number(text)
      return Number.isFinite(value) && (!field.isInteger || Number.isInteger(value)) ? value : undefined
    }
    case 'boolean':
      return text === 'true'
    case 'choice':
      return field.values.find((value) => JSON.stringify(value) === text)
    case 'lines':
      return text.split('\n').filter((line, at, all) => line !== '' || at < all.length - 1)
    case 'pairs':
      return pairsOf(text)
    case 'json':
      return parseJson(text)
    default:
      return field satisfies never
  }
}

function pairsOf(text: string): Json | undefined {
  const pairs = text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => /^([^=]+)=(.*)$/.exec(line))
  if (pairs.some((pair) => pair === null)) return undefined
  return Object.fromEntries(pairs.map((pair) => [pair?.[1]?.trim() ?? '', pair?.[2] ?? '']))
}

export function parseJson(text: string): Json | undefined {
  try {
    const value: Json = JSON.parse(text)
    return value
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}
