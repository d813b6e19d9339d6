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

/** What was typed so far, as a value to go on with as JSON: what is wrong stands there as it was typed. */
export function inputSoFar({ fields }: Variant, typed: Typed): Json {
  return Object.fromEntries(
    fields.flatMap((field) => {
      const text = typed.get(field.name) ?? field.initial
      return text === '' ? [] : [[field.name, valueOf(field, text) ?? text]]
    }),
  )
}

/** What would have to be typed for this input; undefined where the form cannot say the same. */
export function typedOf({ fields }: Variant, input: Json | undefined): Typed | undefined {
  if (!isObjectSchema(input)) return undefined
  const typed = new Map(fields.map(({ name }) => [name, '']))
  for (const [name, value] of Object.entries(input)) {
    const field = fields.find((one) => one.name === name)
    if (field === undefined) return undefined
    const text = textFor(field, value)
    const isSame = text !== '' && JSON.stringify(valueOf(field, text)) === JSON.stringify(value)
    if (isSame) typed.set(name, text)
    // A text where something else is wanted is what was typed there before.
    else if (['number', 'pairs', 'json'].includes(field.kind) && typeof value === 'string' && value !== '')
      typed.set(name, value)
    else return undefined
  }
  return typed
}

function textFor(field: Field, value: Json): string {
  if (field.kind === 'text') return typeof value === 'string' ? value : ''
  if (field.kind === 'lines')
    return Array.isArray(value) ? value.filter((line) => typeof line === 'string').join('\n') : ''
  if (field.kind === 'pairs') {
    return isObjectSchema(value)
      ? Object.entries(value)
          .map(([key, text]) => `${key}=${typeof text === 'string' ? text : ''}`)
          .join('\n')
      : ''
  }
  return JSON.stringify(value, null, field.kind === 'json' ? 2 : 0)
}

const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i

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
      // `Number` takes nothing but space for 0, and knows hexadecimals.
      const value = NUMBER.test(text.trim()) ? Number(text) : Number.NaN
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

/** What a server's message says of one of these fields, which it calls `input.NAME`. */
export function refusedField({ fields }: Variant, message: string): ReadonlyMap<string, string> {
  const about = fields.find(({ name }) =>
    /^[ .[]/.test(message.startsWith(`input.${name}`) ? message.slice(6 + name.length) : ''),
  )
  return new Map(about === undefined ? [] : [[about.name, message.slice(6 + about.name.length).trim()]])
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
