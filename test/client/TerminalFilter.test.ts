import fc from 'fast-check'
import { expect, test } from 'vitest'
import { escapeControls, plainLine } from '../../src/client/plainText.ts'
import { TerminalFilter } from '../../src/client/TerminalFilter.ts'

function filtered(...parts: string[]): string {
  const filter = new TerminalFilter()
  return parts.map((part) => filter.filter(part)).join('')
}

test('colours, tabs and line ends are kept', () => {
  const text = 'a\tb\r\n\x1b[1;31mred\x1b[0m \x1b[38:2::1:2:3mrgb\x1b[m\n'
  expect(filtered(text)).toBe(text)
})

test.each([
  ['a new title', '\x1b]0;owned\x07'],
  ['a new title, closed by ST', '\x1b]2;owned\x1b\\'],
  ['a new title in C1 controls', '\x9d0;owned\x9c'],
  ['the clipboard', '\x1b]52;c;b3duZWQ=\x07'],
  ['a key programmed by DCS', '\x1bP1;1|17/6f\x1b\\'],
  ['a reset', '\x1bc'],
  ['the cursor moved', '\x1b[2A'],
  ['the screen cleared, in C1', '\x9b2J'],
  ['a question that the terminal answers as input', '\x1b[6n'],
  ['a mode of the keyboard, which also ends in m', '\x1b[>4;2m'],
  ['another character set', '\x1b(0'],
  ['backspaces, bells and deletes', '\b\x07\x7f\0'],
  ['another direction', '\u202e\u2066\u2069'],
  ['a colour of endless length', `\x1b[${'1;'.repeat(100)}m`],
])('%s is taken out', (_, sequence) => {
  expect(filtered(`a${sequence}b`)).toBe('ab')
})

test('a string that is never closed swallows its own line at most', () => {
  expect(filtered('\x1b]0;never closed\nseen')).toBe('\nseen')
})

test('what comes out has no control characters but line ends, tabs and whole colours, wherever the input is cut', () => {
  const pieces = [
    '\x1b',
    '[',
    ']',
    '0',
    ';',
    'm',
    '31',
    'A',
    '\\',
    '\x07',
    '\x9b',
    '\x9d',
    '\x9c',
    'P',
    '\n',
    'é',
    '>',
    '\x18',
    '(',
  ]
  fc.assert(
    fc.property(
      fc.array(fc.array(fc.constantFrom(...pieces), { maxLength: 8 }).map((part) => part.join(''))),
      (parts) => {
        const out = filtered(...parts)
        expect(out).toBe(filtered(parts.join('')))
        // oxlint-disable-next-line no-control-regex -- controls are what this is about
        expect(out.replaceAll(/\x1b\[[0-9;:]*m/g, '')).not.toMatch(/[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]/)
      },
    ),
  )
})

test('colours go where they are not wanted', () => {
  expect(new TerminalFilter({ keepsColours: false }).filter('\x1b[31mred\x1b[0m\n')).toBe('red\n')
})

test('it is known whether colours are still on', () => {
  const filter = new TerminalFilter()
  filter.filter('\x1b[31mred')
  expect(filter.isStyled).toBe(true)
  filter.filter('\x1b[0m')
  expect(filter.isStyled).toBe(false)
})

test('a line of our own has no control characters of others', () => {
  expect(plainLine('a\nb\x1b]0;x\x07\x9bc\n')).toBe('a b ]0;x  c')
})

test('JSON shown on a terminal has no control characters and is the same JSON', () => {
  const value = 'a\x1b\x7f\x9b\x85é\u202e'
  expect(escapeControls(JSON.stringify(value))).not.toMatch(/[\x7f-\x9f\u202e]/)
  expect(JSON.parse(escapeControls(JSON.stringify(value)))).toBe(value)
})
