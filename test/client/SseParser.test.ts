import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type SseFrame, SseOverflow, SseParser } from '../../src/client/SseParser.ts'

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

function parse(...chunks: (string | Uint8Array)[]): SseFrame[] {
  const parser = new SseParser()
  return chunks.flatMap((chunk) => parser.push(typeof chunk === 'string' ? bytes(chunk) : chunk))
}

/** The standard's text (WHATWG HTML section 9.2.6) on a whole stream, written down without a thought for chunks. */
function wholeStream(stream: Uint8Array): SseFrame[] {
  const lines = new TextDecoder().decode(stream).split(/\r\n|\r|\n/)
  lines.pop()
  const frames: SseFrame[] = []
  let [data, event, id] = ['', '', '']
  for (const line of lines) {
    if (line === '') {
      if (data !== '') frames.push({ event: event || 'message', data: data.slice(0, -1), id })
      data = ''
      event = ''
      continue
    }
    const [, name, value = ''] = /^([^:]*)(?:: ?(.*))?$/su.exec(line) ?? []
    if (name === 'data') data += `${value}\n`
    if (name === 'event') event = value
    if (name === 'id' && !value.includes('\0')) id = value
  }
  return frames
}

const PIECES = [
  '\r',
  '\n',
  '\r\n',
  '\n\n',
  'data',
  'data:',
  'data: ',
  'event: ',
  'id: ',
  'id',
  'retry: 5',
  ':',
  ' ',
  'x',
  '\0',
]
const piece = fc.oneof(
  fc.constantFrom(...PIECES, '\uFEFF', 'é', '€', '😀').map(bytes),
  fc.uint8Array({ minLength: 1, maxLength: 3 }),
)
const stream = fc.array(piece, { maxLength: 60 }).map((pieces) => Uint8Array.from(pieces.flatMap((part) => [...part])))

test('a stream cut at any bytes decodes as the standard decodes the whole of it', () => {
  fc.assert(
    fc.property(stream, fc.array(fc.nat({ max: 200 }), { maxLength: 12 }), (whole, places) => {
      const cuts = [0, ...places.map((place) => Math.min(place, whole.length)).toSorted((a, b) => a - b), whole.length]
      const chunks = cuts.slice(1).map((end, index) => whole.subarray(cuts[index], end))
      expect(parse(...chunks)).toEqual(wholeStream(whole))
    }),
    { numRuns: 1000 },
  )
})

test('a stream that comes byte by byte decodes as the whole of it', () => {
  const whole = bytes(
    '\uFEFFretry: 10\r\n\r\nid: 1\r\nevent: output\r\ndata: {"text":"grün 😀"}\r\ndata: more\r\n\r\n: beat\rdata\r\r',
  )
  expect(parse(...[...whole].map((byte) => Uint8Array.of(byte)))).toEqual([
    { event: 'output', data: '{"text":"grün 😀"}\nmore', id: '1' },
    { event: 'message', data: '', id: '1' },
  ])
})

test('a chunk that ends between CR and LF makes no blank line of its own', () => {
  expect(parse('data: a\r', '\ndata: b\r', '\n\r', '\n')).toEqual([{ event: 'message', data: 'a\nb', id: '' }])
})

test('an event comes out with its blank line, without waiting for the LF that may follow a CR', () => {
  expect(parse('data: a\r\r')).toHaveLength(1)
})

test('one byte order mark is taken off the start, and only there', () => {
  expect(parse('\uFEFFdata: a\n\n\uFEFFdata: b\n\n')).toEqual([{ event: 'message', data: 'a', id: '' }])
})

test('only one space after the colon belongs to the syntax', () => {
  expect(parse('data:  a\n\n')[0]?.data).toBe(' a')
})

test('an id with NUL is ignored, and an id stays until another comes', () => {
  expect(parse('id: 7\ndata: a\n\nid: 8\0\ndata: b\n\nid\ndata: c\n\n').map(({ id }) => id)).toEqual(['7', '7', ''])
})

test('an event type holds for its own event, also where that had no data', () => {
  expect(parse('event: output\n\ndata: a\n\n')).toEqual([{ event: 'message', data: 'a', id: '' }])
})

test('an event whose blank line never came is dropped', () => {
  expect(parse('data: a\n\ndata: b\n')).toHaveLength(1)
})

test('retry is taken where it is digits alone', () => {
  const parser = new SseParser()
  parser.push(bytes('retry: 1500\n\n'))
  parser.push(bytes('retry: 2s\nretry:\nretry: -1\n\n'))
  expect(parser.retryMs).toBe(1500)
})

test('an event that never ends is refused before it fills the memory', () => {
  const parser = new SseParser()
  const chunk = new Uint8Array(1024 * 1024).fill(0x61)
  const endless = () => {
    for (let sent = 0; sent <= 17; sent += 1) parser.push(chunk)
  }
  expect(endless).toThrow(SseOverflow)
})
