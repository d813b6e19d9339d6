import { Writable } from 'node:stream'
import { expect, test } from 'vitest'
import { LiveRegion } from '../../src/client/cli/LiveRegion.ts'
import { Screen } from '../../src/client/cli/Screen.ts'
import { openSink, type Sink } from '../../src/client/cli/Sink.ts'
import { eventually } from './spawnClient.ts'

/** What was written, in order. A write is done at once, unless it is held. */
class FakeSink implements Sink {
  written = ''
  writeCount = 0
  isHeld = false
  readonly isTerminal: boolean
  readonly place: string | undefined
  readonly size = { columns: 80, rows: 24 }
  readonly broken = new Promise<Error>(() => {})

  constructor(options: { isTerminal: boolean; place?: string }) {
    this.isTerminal = options.isTerminal
    this.place = options.place
  }

  async write(text: string): Promise<void> {
    this.written += text
    this.writeCount += 1
    if (this.isHeld) await new Promise(() => {})
  }

  async flush(): Promise<void> {}
}

const LOOK = { isColoured: false, isLive: false }

function openScreen(options: { isTerminal: boolean; isOnePlace: boolean }): {
  screen: Screen
  out: FakeSink
  err: FakeSink
} {
  const { isTerminal, isOnePlace } = options
  const out = new FakeSink({ isTerminal, place: 'a' })
  const err = new FakeSink({ isTerminal, place: isOnePlace ? 'a' : 'b' })
  return { screen: new Screen(out, err, LOOK), out, err }
}

test.each([true, false])(
  'rows of another voice wait for the end of the line of the text, and come in their order (terminal: %s)',
  async (isTerminal) => {
    const { screen, out } = openScreen({ isTerminal, isOnePlace: true })
    await screen.text('stdout', 'half ')
    const shown = [screen.rowsBetweenLines(['first']), screen.rowsBetweenLines(['second', 'third'])]
    await screen.text('stdout', 'a ')
    await screen.text('stdout', 'line\n')
    await Promise.all(shown)
    expect(out.written).toBe('half a line\nfirst\nsecond\nthird\n')
  },
)

test('the end of the text lets them through', async () => {
  const { screen, out } = openScreen({ isTerminal: true, isOnePlace: true })
  await screen.text('stdout', 'half')
  const shown = screen.rowsBetweenLines(['other'])
  await screen.endText()
  await shown
  await screen.text('stdout', 'next\n')
  expect(out.written).toBe('half\nother\nnext\n')
})

test('a line of the client does not wait', async () => {
  const { screen, out } = openScreen({ isTerminal: true, isOnePlace: true })
  await screen.text('stdout', 'half')
  screen.line('cancelling')
  expect(out.written).toBe('half\ncancelling\n')
})

test('text that falls silent in the middle of a line is broken by another voice after a second', async () => {
  const { screen, out } = openScreen({ isTerminal: true, isOnePlace: true })
  await screen.text('stdout', 'half')
  const sinceMs = performance.now()
  await screen.rowsBetweenLines(['other'])
  expect(performance.now() - sinceMs).toBeGreaterThan(990)
  expect(out.written).toBe('half\nother\n')
})

test('where stdout is another place, its text is as it came and nothing waits for it', async () => {
  const { screen, out, err } = openScreen({ isTerminal: false, isOnePlace: false })
  await screen.text('stdout', 'half')
  await screen.rowsBetweenLines(['other'])
  await screen.endText()
  await screen.text('stderr', 'a warning')
  await screen.rows(['row'])
  expect([out.written, err.written]).toEqual(['half', 'other\na warning\nrow\n'])
})

const ROW = { head: () => 'running', tail: () => [] }

function openLive(): { screen: Screen; sink: FakeSink } {
  const sink = new FakeSink({ isTerminal: true, place: 'a' })
  return { screen: new Screen(sink, sink, { isColoured: false, isLive: true }), sink }
}

test('a terminal that takes nothing is not drawn on again', async () => {
  const [free, held] = [openLive(), openLive()]
  held.sink.isHeld = true
  const undos = [free, held].map(({ screen }) => screen.addLive(ROW))
  await eventually(() => expect(free.sink.writeCount).toBeGreaterThan(3))
  expect(held.sink.writeCount).toBe(1)
  for (const undo of undos) undo()
})

test('what is over is taken away though nothing else is written, and then nothing is drawn any more', async () => {
  const [other, ended] = [regionWith(ROW), regionWith(ROW)]
  await eventually(() => expect(ended.ticks()).toBeGreaterThan(0))
  ended.isBusy = true
  ended.undo()
  const before = ended.ticks()
  await eventually(() => expect(ended.ticks()).toBeGreaterThan(before))
  ended.isBusy = false
  await eventually(() => expect(ended.drawn()).toBe('\r\x1b[2K'))
  const [ticks, ticksOfOther] = [ended.ticks(), other.ticks()]
  await eventually(() => expect(other.ticks()).toBeGreaterThan(ticksOfOther + 2))
  expect(ended.ticks()).toBe(ticks)
  other.undo()
})

/** A region that is drawn on each tick, unless the terminal is busy. */
function regionWith(row: typeof ROW) {
  let [ticks, drawn] = [0, '']
  const region = new LiveRegion(() => {
    ticks += 1
    if (!handle.isBusy) drawn = region.draw({ columns: 80, rows: 24 })
  })
  const handle = { isBusy: false, ticks: () => ticks, drawn: () => drawn, undo: region.add(row) }
  return handle
}

test('however many wait for a slow reader, the stream has one listener for them', async () => {
  const stream = new Writable({ highWaterMark: 1, write: (_chunk, _encoding, done) => void (release = done) })
  let release = (): void => {}
  const sink = openSink(stream)
  const writes = Array.from({ length: 20 }, () => sink.write('x'))
  expect(stream.listenerCount('drain')).toBe(1)
  const settled = Promise.all(writes).then(() => true)
  // Each release lets one of them through.
  for (const _ of writes) {
    release()
    await new Promise((resolve) => setImmediate(resolve))
  }
  expect(await settled).toBe(true)
})
