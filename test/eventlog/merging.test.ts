import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { PendingEvents } from '../../src/eventlog/PendingEvents.ts'
import { splitText } from '../../src/eventlog/splitText.ts'
import { MAX_EVENT_BYTES, type TaskEvent } from '../../src/job/event.ts'
import { eventsOf, openWorld, parseFrames, startOf, taskOf } from '../world.ts'
import { CollectingSink } from './CollectingSink.ts'

const CHANNELS = ['stdout', 'stderr', 'text', 'reasoning'] as const
const AT = '2026-01-01T00:00:00.000Z'

/** Text as tasks send it, with a weight on what is awkward: control characters, pairs, long runs. */
const texts = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.constantFrom('', '\n', '\u0000', '\u001b[0m', '𝄞', 'é', '\u2028', '"', '\\'),
  fc
    .tuple(fc.constantFrom('\u0001', '𝄞', 'x', '語', '"'), fc.integer({ min: 1, max: 12_000 }))
    .map(([c, n]) => c.repeat(n)),
)

/** What each channel said, in order, where neighbours of one channel are one. */
function joined(events: readonly TaskEvent[]): string[][] {
  const all: string[][] = []
  for (const event of events) {
    if (event.type !== 'output' || event.text === '') continue
    const last = all.at(-1)
    if (last?.[0] === event.channel) last[1] += event.text
    else all.push([event.channel, event.text])
  }
  return all
}

describe('merging outputs', () => {
  test('keeps the text exact and every event within its limit, whatever the borders', () => {
    const outputs = fc.array(fc.record({ channel: fc.constantFrom(...CHANNELS), text: texts, take: fc.boolean() }), {
      maxLength: 30,
    })
    fc.assert(
      fc.property(outputs, (sent) => {
        const pending = new PendingEvents()
        const lines: string[] = []
        for (const { channel, text, take } of sent) {
          pending.push({ type: 'output', channel, text }, AT)
          if (take) lines.push(...pending.take())
        }
        lines.push(...pending.take())
        expect(pending.isEmpty).toBe(true)
        expect(pending.units).toBe(0)
        for (const line of lines) expect(Buffer.byteLength(line)).toBeLessThanOrEqual(MAX_EVENT_BYTES - 256)
        const got = lines.map((line): TaskEvent => JSON.parse(line))
        expect(joined(got)).toEqual(joined(sent.map(({ channel, text }) => ({ type: 'output', channel, text }))))
      }),
      { numRuns: 60 },
    )
  })

  test('never moves an output past another event', () => {
    const pending = new PendingEvents()
    pending.push({ type: 'output', channel: 'text', text: 'a' }, AT)
    pending.push({ type: 'output', channel: 'text', text: 'b' }, AT)
    pending.push({ type: 'progress', current: 1 }, AT)
    pending.push({ type: 'output', channel: 'text', text: 'c' }, AT)
    const types = pending.take().map((line) => JSON.parse(line))
    expect(types).toMatchObject([{ text: 'ab' }, { type: 'progress' }, { text: 'c' }])
  })
})

test('splitText gives back the same text in pieces that are short enough and part no pair', () => {
  const pairs = fc.array(fc.constantFrom('𝄞', 'x', '語', '\u0000'), { maxLength: 60 }).map((parts) => parts.join(''))
  fc.assert(
    fc.property(pairs, fc.integer({ min: 2, max: 9 }), (text, maxLength) => {
      const pieces = splitText(text, maxLength)
      expect(pieces.join('')).toBe(text)
      for (const piece of pieces) {
        expect(piece.length).toBeLessThanOrEqual(maxLength)
        expect(piece.isWellFormed()).toBe(true)
      }
    }),
  )
})

describe('on the wire', () => {
  test.each([
    ['control characters', '\u0001'],
    ['pairs', '𝄞'],
    ['three-byte characters', '語'],
    ['quotes', '"'],
  ])('a long text of %s comes out exact, in events of at most 64 KiB', async (_name, unit) => {
    const text = `${unit.repeat(70_000)}x`
    const tether = await openWorld({
      tasks: [taskOf('speaks', async (ctx, input) => ctx.output(typeof input === 'string' ? input.slice(1) : ''))],
    })
    const { ref } = await tether.jobs.start(startOf('speaks', `.${text}`))
    expect((await tether.jobs.outcome(ref)).status).toBe('succeeded')
    const sink = new CollectingSink()
    const { reader } = await tether.jobs.attach(ref, { after: 0, named: true, sink })
    reader.start()
    await sink.over
    for (const line of sink.frames.split('\n')) {
      expect(Buffer.byteLength(line)).toBeLessThanOrEqual(MAX_EVENT_BYTES + 'data: '.length)
    }
    const got = parseFrames(sink.frames).map((event) => (event.type === 'output' ? event.text : ''))
    expect(got.join('') === text).toBe(true)
  })

  test('an input that is long in bytes does not make job.queued longer than 64 KiB', async () => {
    const tether = await openWorld({ tasks: [taskOf('reads', async () => undefined)] })
    const { ref, view } = await tether.jobs.start(startOf('reads', '語'.repeat(30_000)))
    expect(view.input).toHaveLength(30_000)
    const [queued] = await eventsOf(tether, ref)
    expect(Buffer.byteLength(JSON.stringify(queued))).toBeLessThanOrEqual(MAX_EVENT_BYTES)
  })

  test('half a pair is written as a replacement character, not as broken UTF-8', async () => {
    const tether = await openWorld({ tasks: [taskOf('halves', async (ctx) => ctx.output('a\ud834b'))] })
    const { ref } = await tether.jobs.start(startOf('halves', null))
    await tether.jobs.outcome(ref)
    expect((await eventsOf(tether, ref))[2]).toMatchObject({ text: 'a\ufffdb' })
  })
})
