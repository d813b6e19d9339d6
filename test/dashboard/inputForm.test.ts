import { expect, test } from 'vitest'
import { inputOf, inputSoFar, typedOf, variantsOf } from '../../src/dashboard/form/InputForm.ts'
import { Type } from '../../src/execution/task.ts'
import type { Json } from '../../src/job/json.ts'
import { command } from '../../src/tasks/command.ts'

/** As `GET /tasks` gives it. */
function wired(schema: object): Json {
  const value: Json = JSON.parse(JSON.stringify(schema))
  return value
}

function inputFor(schema: object, typed: object): object {
  const [variant] = variantsOf(wired(schema))
  if (variant === undefined) throw new Error('the schema gives no form')
  const result = inputOf(variant, new Map(Object.entries(typed)))
  return result.kind === 'ok' ? result : { ...result, errors: Object.fromEntries(result.errors) }
}

test('what is left empty is left out, and missed where it is needed', () => {
  const schema = Type.Object({ a: Type.String(), b: Type.Optional(Type.Integer()), c: Type.Optional(Type.Boolean()) })
  expect(inputFor(schema, { a: 'x' })).toEqual({ kind: 'ok', input: { a: 'x' } })
  expect(inputFor(schema, { b: '1' })).toEqual({ kind: 'wrong', errors: { a: 'is needed' } })
  expect(inputFor(schema, { a: 'x', c: 'false' })).toEqual({ kind: 'ok', input: { a: 'x', c: false } })
})

test('a box that must be ticked or not says no where nobody ticked it', () => {
  expect(inputFor(Type.Object({ isOn: Type.Boolean() }), {})).toEqual({ kind: 'ok', input: { isOn: false } })
})

test('a default is what stands in the field', () => {
  const schema = Type.Object({ n: Type.Integer({ default: 3 }), size: Type.Enum(['s', 'l'], { default: 'l' }) })
  expect(inputFor(schema, {})).toEqual({ kind: 'ok', input: { n: 3, size: 'l' } })
})

test.each([
  [Type.Integer(), '1.5', 'must be a number'],
  [Type.Number(), 'many', 'must be a number'],
  [Type.Record(Type.String(), Type.String()), 'A', 'must be lines of the form NAME=VALUE'],
  [Type.Object({ deep: Type.Number() }), '{', 'must be JSON'],
])('%j refuses %j', (schema, text, error) => {
  expect(inputFor(Type.Object({ field: schema }), { field: text })).toEqual({ kind: 'wrong', errors: { field: error } })
})

test('each form of an input is called by what only it has', () => {
  const variants = variantsOf(wired(command.input))
  expect(variants.map(({ name }) => name)).toEqual(['command', 'argv'])
  expect(variants[1]?.fields.map(({ name, kind }) => [name, kind])).toEqual([
    ['argv', 'lines'],
    ['cwd', 'text'],
    ['env', 'pairs'],
    ['stdin', 'text'],
  ])
})

test.each([{}, true, Type.String(), Type.Array(Type.String()), Type.Union([Type.Object({}), Type.String()])])(
  'where a form cannot be made of %j, it is typed as JSON',
  (schema) => {
    expect(variantsOf(wired(Object(schema)))).toEqual([])
  },
)

test('a field may be called as what every object has', () => {
  const names = ['__proto__', 'constructor', 'toString']
  const schema = {
    type: 'object',
    required: names,
    properties: Object.fromEntries(names.map((name) => [name, Type.String()])),
  }
  expect(inputFor(schema, {})).toMatchObject({ kind: 'wrong', errors: { constructor: 'is needed' } })
  const typed = Object.fromEntries(names.map((name) => [name, 'x']))
  expect(JSON.stringify(inputFor(schema, typed))).toBe(
    '{"kind":"ok","input":{"__proto__":"x","constructor":"x","toString":"x"}}',
  )
})

test('what was typed is the same as JSON and back, what is wrong too, and what the form cannot show stays JSON', () => {
  const [variant] = variantsOf({
    type: 'object',
    properties: {
      count: { type: 'integer' },
      name: { type: 'string' },
      tags: { type: 'array', items: { type: 'string' } },
      shape: { type: 'object', properties: {} },
    },
  })
  if (variant === undefined) throw new Error('no form')
  const typed = new Map([
    ['count', 'seven'],
    ['name', 'a'],
    ['tags', 'one\ntwo'],
    ['shape', ''],
  ])
  expect(inputSoFar(variant, typed)).toEqual({ count: 'seven', name: 'a', tags: ['one', 'two'] })
  expect(typedOf(variant, inputSoFar(variant, typed))).toEqual(typed)
  for (const input of [[], undefined, { other: 1 }, { name: 1 }, { name: '' }, { tags: ['a\nb'] }]) {
    expect(typedOf(variant, input), JSON.stringify(input)).toBeUndefined()
  }
  for (const text of [' ', '0x10', '1e999', '1.5']) {
    expect(inputOf(variant, new Map([['count', text]])).kind, text).toBe('wrong')
  }
})
