import fc from 'fast-check'
import { expect, test } from 'vitest'
import { shownInput, summaryOf } from '../../src/execution/shownTool.ts'
import type { Json } from '../../src/job/json.ts'

const json = fc.jsonValue({ maxDepth: 5 }) as fc.Arbitrary<Json>

/** Values as large as a model can make them, with texts that take the most bytes as JSON. */
const large: fc.Arbitrary<Json> = fc.letrec<{ value: Json }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom<Json>('\u0000'.repeat(2000), '語'.repeat(2000), '\ud83d'.repeat(2000), '', 0),
    fc.array(tie('value'), { minLength: 40, maxLength: 60 }),
    fc.dictionary(fc.string({ minLength: 1, maxLength: 300 }), tie('value'), { minKeys: 1, maxKeys: 60 }),
  ),
})).value

test('a tool’s input that is small is shown as it is', () => {
  expect(shownInput({ command: 'make test', n: [1, 2, null, true], deep: { a: {} } })).toEqual({
    command: 'make test',
    n: [1, 2, null, true],
    deep: { a: {} },
  })
})

test('whatever it is, it fits into an event and is well-formed JSON', () => {
  fc.assert(
    fc.property(fc.oneof(json, large), (input) => {
      const text = JSON.stringify(shownInput(input))
      expect(text.isWellFormed()).toBe(true)
      expect(text).not.toMatch(/\\ud[89a-f]/)
      expect(Buffer.byteLength(text)).toBeLessThan(60 * 1024)
    }),
    { numRuns: 200 },
  )
})

test('a summary is one line of 200 characters at the most, well-formed', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 500 }), (text) => {
      const summary = summaryOf(text)
      expect(summary).not.toMatch(/[\r\n]/)
      expect(summary.isWellFormed()).toBe(true)
      expect(summary.length).toBeLessThan(230)
    }),
  )
})
