import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { TextRow } from '../../src/dashboard/trace/row.ts'
import { TextRows } from '../../src/dashboard/trace/TextRows.ts'

/** The rows that come of text that comes in these pieces. */
function rowsOf(pieces: readonly string[]): readonly TextRow[] {
  const rows = new TextRows('stdout')
  const shown: TextRow[] = []
  for (const piece of pieces) shown.push(...rows.append(shown.at(-1), piece).begun)
  return shown
}

function textOf(pieces: readonly string[]): string {
  return rowsOf(pieces)
    .map(({ text }) => text)
    .join('')
}

test.each([
  [['one\r\ntwo\n'], 'one\ntwo\n'],
  [['one\r', '\ntwo'], 'one\ntwo'],
  [['10%\r20%\r', '30%'], '30%'],
  [['kept\n10%\r20%\n'], 'kept\n20%\n'],
  [['10%\r'], '10%'],
  [['\u001b[3', '1mred\u001b[', '0m'], 'red'],
  [['a\r\r\nb'], 'a\nb'],
])('%j is shown as %j', (pieces, shown) => {
  expect(textOf(pieces)).toBe(shown)
})

test('text is shown whole and in order, however it is cut, in rows that stay small', () => {
  const line = fc.string({ maxLength: 200 }).map((text) => text.replaceAll(/[\p{Cc}\u2028-\u202e\u2066-\u2069]/gu, ' '))
  fc.assert(
    fc.property(fc.array(line, { maxLength: 200 }), fc.array(fc.nat(5000), { maxLength: 20 }), (lines, cuts) => {
      const text = lines.map((one) => `${one}\n`).join('')
      const places = [0, ...cuts.map((cut) => Math.min(cut, text.length)).toSorted((a, b) => a - b), text.length]
      const pieces = places.slice(1).map((place, index) => text.slice(places[index], place))
      const rows = rowsOf(pieces)
      expect(rows.map((row) => row.text).join('')).toBe(text)
      for (const row of rows) {
        expect(row.text.length).toBeLessThanOrEqual(4000)
        expect(row.text.split('\n').length - 1).toBe(row.lines)
        expect(row.lines).toBeLessThanOrEqual(40)
      }
    }),
    { numRuns: 200 },
  )
})

test('a row is told to have changed where text was added to it', () => {
  const rows = new TextRows('text')
  const [first] = rows.append(undefined, 'one ').begun
  expect(rows.append(first, 'two\n')).toEqual({ begun: [], isChanged: true })
  expect(first).toMatchObject({ text: 'one two\n', lines: 1 })
})
