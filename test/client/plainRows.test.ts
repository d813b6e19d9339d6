import fc from 'fast-check'
import { expect, test } from 'vitest'
import { durationText } from '../../src/client/cli/duration.ts'
import { essenceOf } from '../../src/client/cli/essence.ts'
import { LineBuffer } from '../../src/client/cli/LineBuffer.ts'
import { OutputTail } from '../../src/client/cli/OutputTail.ts'
import { NO_PAINT, PAINT } from '../../src/client/cli/Paint.ts'
import { ServerClock } from '../../src/client/cli/ServerClock.ts'
import { cutTo, paragraphOf, rowsOf, widthOf } from '../../src/client/cli/textWidth.ts'
import { toolLine } from '../../src/client/cli/toolLine.ts'
import { plainText, plainWords } from '../../src/client/plainText.ts'

const anyText = fc.string({ unit: 'binary' })
const plain = anyText.map(plainWords)
const columns = fc.integer({ min: 1, max: 120 })

test.each([
  ['plain', 5],
  ['é', 1],
  ['e\u0301', 1],
  ['日本', 4],
  ['한국', 4],
  ['ｆｕｌｌ', 8],
  ['✅', 2],
  ['❤\ufe0f', 2],
  ['…│✓', 3],
  ['👩‍👧', 4],
  ['𠀀', 2],
  ['', 0],
])('%s is at most %i cells wide', (text, width) => {
  expect(widthOf(text)).toBe(width)
})

test('what is cut fits, is a beginning of the text, and nothing is cut that fits', () => {
  fc.assert(
    fc.property(plain, columns, (text, room) => {
      const cut = cutTo(text, room)
      expect(widthOf(cut)).toBeLessThanOrEqual(room)
      if (widthOf(text) <= room) expect(cut).toBe(text)
      else expect(text.startsWith(cut.slice(0, -1)) && cut.endsWith('…')).toBe(true)
    }),
  )
})

test('rows hold all of a text, and each fits where its first character does', () => {
  fc.assert(
    fc.property(plain, columns, (text, room) => {
      const rows = rowsOf(text, room)
      expect(rows.join('')).toBe(text)
      // Only a character that is wider than the room by itself does not fit.
      for (const row of rows) expect(widthOf(row)).toBeLessThanOrEqual(Math.max(room, 2))
    }),
  )
})

test('a paragraph holds all words, each row fits, and all but the first begin further in', () => {
  fc.assert(
    fc.property(plain, fc.integer({ min: 6, max: 80 }), (text, room) => {
      const rows = paragraphOf(text, room)
      expect(rows.join('').replaceAll(' ', '')).toBe(text.replaceAll(' ', ''))
      for (const row of rows) expect(widthOf(row)).toBeLessThanOrEqual(room)
      for (const row of rows.slice(1)) expect(row).toMatch(/^ {2}/)
    }),
  )
  expect(paragraphOf('one two three', 9)).toEqual(['one two', '  three'])
  expect(paragraphOf(`at ${'x'.repeat(12)} end`, 9)).toEqual(['at', `  ${'x'.repeat(7)}`, '  xxxxx', '  end'])
})

test('a plain text has no controls, no line ends and nothing that turns or hides', () => {
  const nasty = fc.constantFrom(
    '\x1b',
    '\x9b',
    '\r',
    '\n',
    '\u2028',
    '\u202e',
    '\u2066',
    '\u200b',
    '\ufeff',
    '\u{e0041}',
    '\ud800',
    '\u00ad',
  )
  fc.assert(
    fc.property(fc.array(fc.oneof(nasty, anyText)), (parts) => {
      const text = plainText(parts.join(''))
      expect(text).not.toMatch(
        // oxlint-disable-next-line no-control-regex -- controls are what this is about
        /[\0-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]|[\u{e0000}-\u{e0fff}]/u,
      )
      expect(text.isWellFormed()).toBe(true)
    }),
  )
})

test('joined emoji, flags, accents and joiners of words survive', () => {
  for (const text of ['👩‍👩‍👧‍👦', '🇩🇪', 'a\u0301\u0323', 'می\u200cخواهم', '❤️']) expect(plainText(text)).toBe(text)
})

test('marks are not piled up', () => {
  expect(plainText(`a${'\u0301'.repeat(1000)}b${'\u200d'.repeat(1000)}`)).toHaveLength(14)
})

test('the line of a tool fits in any width, whatever it tells', () => {
  const word = fc.oneof(plain, fc.constantFrom('', 'x'.repeat(300), '日'.repeat(200)))
  const state = fc.constantFrom('running', 'succeeded', 'failed', 'unfinished')
  fc.assert(
    fc.property(
      fc.record({ state, tool: word, essence: word, remark: word, tookMs: fc.option(fc.nat(), { nil: undefined }) }),
      fc.integer({ min: 2, max: 200 }),
      (line, room) => {
        const row = toolLine(line, room, NO_PAINT)
        expect(widthOf(row)).toBeLessThanOrEqual(room)
        // oxlint-disable-next-line no-control-regex -- colours are what this is about
        expect(toolLine(line, room, PAINT).replaceAll(/\x1b\[\d+m/g, '')).toBe(row)
      },
    ),
  )
})

test('where there is no room for all, the time stays, and what went wrong gets half of the rest', () => {
  const line = {
    state: 'failed',
    tool: 'write_file',
    essence: 'e'.repeat(50),
    remark: 'r'.repeat(50),
    tookMs: 5,
  } as const
  expect(toolLine(line, 60, NO_PAINT)).toBe(`✗ write_file  ${'e'.repeat(18)}…  ${'r'.repeat(18)}…  5 ms`)
  expect(toolLine({ ...line, essence: 'short' }, 60, NO_PAINT)).toBe(`✗ write_file  short  ${'r'.repeat(32)}…  5 ms`)
  expect(toolLine({ ...line, remark: 'short' }, 60, NO_PAINT)).toBe(`✗ write_file  ${'e'.repeat(32)}…  short  5 ms`)
})

test.each([
  [{ command: 'npm test', timeoutMs: 5 }, 'npm test'],
  [{ timeoutMs: 5, command: ' a\n\tb ' }, 'a b'],
  [{ command: 'serve', background: true }, 'serve &'],
  [{ path: 'src', pattern: 'TODO' }, 'TODO'],
  [{ text: 'long', path: 'a.txt' }, 'a.txt'],
  [{ selector: '#go', text: 'x' }, '#go'],
  [{ depth: 3, topic: 'birds' }, 'birds'],
  [{ command: 3 }, '{"command":3}'],
  [{ command: '' }, '{"command":""}'],
  [{}, ''],
  [null, ''],
  ['words  as they are', 'words as they are'],
  [[1, 2], '[1,2]'],
  [7, '7'],
])('of the input %j the essence is %j', (input, essence) => {
  expect(essenceOf(input)).toBe(essence)
})

test.each([
  [-5, '0 ms'],
  [0.4, '0 ms'],
  [999.4, '999 ms'],
  [1000, '1.0 s'],
  [59_999, '59.9 s'],
  [60_000, '1 min 0 s'],
  [3_599_999, '59 min 59 s'],
  [3_600_000, '1 h 0 min'],
])('%d ms is %s', (ms, text) => {
  expect(durationText(ms)).toBe(text)
})

function linesOf(...parts: string[]): string[] {
  const buffer = new LineBuffer()
  const lines = parts.flatMap((part) => buffer.push(part))
  return [...lines, buffer.takePartial()]
}

test('lines are the same wherever their text is cut', () => {
  const piece = fc.constantFrom('a', 'b', '\r', '\n', '\r\n')
  fc.assert(
    fc.property(fc.array(fc.array(piece).map((parts) => parts.join(''))), (parts) => {
      expect(linesOf(...parts)).toEqual(linesOf(parts.join('')))
    }),
  )
})

test('a line that begins again is shown as it stands in the end', () => {
  expect(linesOf('10%\r20%\rdone\nnext\r\ntwo\r\r\nlast\r')).toEqual(['done', 'next', 'two', 'last'])
})

test('a line without end comes out in pieces', () => {
  const lines = linesOf('x'.repeat(20_000))
  expect(lines.map((line) => line.length)).toEqual([8192, 8192, 3616])
})

test('of endless output the last lines are kept, and all are counted', () => {
  const tail = new OutputTail(3)
  for (let line = 1; line <= 1000; line += 1) tail.push('stdout', `${line}\n`)
  tail.push('stderr', 'half')
  expect(tail.lines).toEqual(['999', '1000', 'half'])
  expect(tail.count).toBe(1001)
  expect(tail.end()).toEqual(['half'])
  expect(tail.count).toBe(1001)
})

test("the server's clock runs from the newest of its events, whatever ours says", () => {
  const clock = new ServerClock()
  const at = '2001-02-03T04:05:06.000Z'
  expect(clock.note({ at })).toBe(Date.parse(at))
  clock.note({ at: '2001-02-03T04:00:00.000Z' })
  expect(clock.note({ at: 'never' })).toBeGreaterThanOrEqual(Date.parse(at))
  expect(clock.nowMs() - Date.parse(at)).toBeLessThan(1000)
})
