import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { canonicalJson, type Json } from '../../src/job/json.ts'
import { json } from './arbitraries.ts'

/** The same value with the keys of every object written in another order. */
function reordered(value: Json): Json {
  if (value === null || typeof value !== 'object') return value
  if (Array.isArray(value)) return value.map(reordered)
  return Object.fromEntries(
    Object.entries(value)
      .toReversed()
      .map(([key, member]) => [key, reordered(member)]),
  )
}

test('the text does not depend on the order of keys', () => {
  fc.assert(
    fc.property(json, (value) => {
      expect(canonicalJson(reordered(value))).toBe(canonicalJson(value))
    }),
  )
})

test('the text is JSON that says the same', () => {
  fc.assert(
    fc.property(json, (value) => {
      expect(isDeepStrictEqual(JSON.parse(canonicalJson(value)), value)).toBe(true)
    }),
  )
})

test('two values have one text exactly where they are equal', () => {
  fc.assert(
    fc.property(json, json, (a, b) => {
      expect(canonicalJson(a) === canonicalJson(b)).toBe(isDeepStrictEqual(a, b))
    }),
  )
})

test.each([
  ['1', '"1"'],
  ['null', '"null"'],
  ['[]', '{}'],
  ['[1,2]', '[2,1]'],
  ['[[1],2]', '[1,[2]]'],
  ['{"a":1}', '{"a":1,"b":null}'],
  ['{"__proto__":1}', '{}'],
  ['{"a,\\"b":1}', '{"a":1,"b":1}'],
])('%s and %s differ', (a, b) => {
  expect(canonicalJson(JSON.parse(a))).not.toBe(canonicalJson(JSON.parse(b)))
})

test('a value nested more deeply than the call stack goes has a text too', () => {
  for (const [open, close] of [
    ['[', ']'],
    ['{"a":', '}'],
  ] as const) {
    const text = `${open.repeat(100_000)}1${close.repeat(100_000)}`
    expect(canonicalJson(JSON.parse(text)) === text).toBe(true)
  }
})
