import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { LoopTurns } from '../../src/resources/files/LoopTurns.ts'
import { MatchedLines } from '../../src/resources/files/MatchedLines.ts'
import { LineMatcher } from '../../src/resources/files/pattern/LineMatcher.ts'
import { programOf } from '../../src/resources/files/pattern/program.ts'
import { readPattern } from '../../src/resources/files/pattern/syntax.ts'
import type { SearchOptions } from '../../src/resources/files/Search.ts'
import { JumpingClock } from '../JumpingClock.ts'
import { abortedAtCheck, expectUntouched, NEVER, openDescriptors, openWorld, refusal, type World } from './world.ts'

function plant({ root }: World, files: Readonly<Record<string, string | Buffer>>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(root, path, '..'), { recursive: true })
    writeFileSync(join(root, path), content)
  }
}

const found = async ({ files }: World, pattern: string, options: SearchOptions = {}): Promise<string> =>
  (await files.search(pattern, options, NEVER)).text

/** The longest that the event loop stood still during `work`. */
async function longestDelayMs(work: () => Promise<unknown>): Promise<number> {
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  await work()
  delay.disable()
  return delay.max / 1e6
}

test('lines that match come with their path and number, those of nearer files first', async () => {
  const world = openWorld()
  plant(world, {
    'src/a.ts': 'one\ntwo foo\r\n\nfoo foo',
    'z.txt': 'foo(\n',
    'src/deep/b.ts': 'xfoox\n',
    'no.txt': 'bar\n',
  })
  expect(await world.files.search('foo', {}, NEVER)).toEqual({
    text: ['z.txt:1: foo(', 'src/a.ts:2: two foo', 'src/a.ts:4: foo foo', 'src/deep/b.ts:1: xfoox'].join('\n'),
    matches: 4,
    files: 4,
    isCut: false,
  })
})

test('a pattern stands for itself unless it is said to be a regular expression', async () => {
  const world = openWorld()
  plant(world, { a: 'f(x)\nffx\nF(X)\n' })
  expect(await found(world, 'f(x)')).toBe('a:1: f(x)')
  expect(await found(world, 'f(x)', { isRegex: true })).toBe('a:2: ffx')
  expect(await found(world, 'f(x)', { ignoreCase: true })).toBe('a:1: f(x)\na:3: F(X)')
  expect(await found(world, '^F.X.$', { isRegex: true, ignoreCase: true })).toBe('a:1: f(x)\na:3: F(X)')
})

test('no match says so, and how many files were searched', async () => {
  const world = openWorld()
  plant(world, { a: 'x\n', b: 'y\n' })
  expect(await world.files.search('z', {}, NEVER)).toEqual({
    text: '[no line matches; files searched: 2]',
    matches: 0,
    files: 2,
    isCut: false,
  })
})

test('a path chooses a folder or a file', async () => {
  const world = openWorld()
  plant(world, { 'a/x': 'foo\n', 'b/x': 'foo\n', 'b/y': 'foo\n', 'node_modules/m/node_modules/i': 'foo\n' })
  symlinkSync('b/y', join(world.root, 'link'))
  expect(await found(world, 'foo')).toBe('a/x:1: foo\nb/x:1: foo\nb/y:1: foo')
  expect(await found(world, 'foo', { path: 'b' })).toBe('b/x:1: foo\nb/y:1: foo')
  expect(await found(world, 'foo', { path: 'b/x' })).toBe('b/x:1: foo')
  expect(await found(world, 'foo', { path: 'link' })).toBe('b/y:1: foo')
  expect(await found(world, 'foo', { path: 'node_modules' })).toBe('node_modules/m/node_modules/i:1: foo')
  expect(await refusal(world.files.search('foo', { path: 'c' }, NEVER))).toContain('there is no file "c"')
  const server = createServer().listen(join(world.root, 's'))
  onTestFinished(() => void server.close())
  await once(server, 'listening')
  expect(await refusal(world.files.search('foo', { path: 's' }, NEVER))).toContain('is a socket')
})

test('what is no text, no file or not inside is passed over', async () => {
  const world = openWorld()
  plant(world, { a: 'the canary\n', 'b.png': Buffer.from('the canary\0'), empty: '' })
  execFileSync('mkfifo', [join(world.root, 'fifo')])
  symlinkSync(world.outside.file, join(world.root, 'link'))
  symlinkSync(world.outside.folder, join(world.root, 'folder'))
  expect(await world.files.search('canary', {}, NEVER)).toEqual({
    text: 'a:1: the canary\n[binary files, not searched: 1]',
    matches: 1,
    files: 2,
    isCut: false,
  })
  expectUntouched(world.outside)
})

test('a path that could pass for another line is quoted', async () => {
  const world = openWorld()
  plant(world, { 'a:1: x\nb': 'foo\n' })
  expect(await found(world, 'foo')).toBe(String.raw`"a:1: x\nb":1: foo`)
})

describe('lines of any length are searched to their end', () => {
  test('and of a long one what is around the match is shown', async () => {
    const world = openWorld()
    const long = `${'é'.repeat(300_000)}needle${'y'.repeat(300_000)}`
    plant(world, { 'a.min.js': `first\n${long}\nneedle after\n` })
    const lines = (await found(world, 'needle')).split('\n')
    expect(lines).toHaveLength(2)
    expect(lines[0]).toMatch(/^a\.min\.js:2: …é{190,}needley{90,}…$/)
    expect(lines[0]?.length).toBeLessThan(320)
    expect(lines[1]).toBe('a.min.js:3: needle after')
  })

  test('where a match lies across what is read at a time', async () => {
    const world = openWorld()
    for (const before of [65_530, 65_535, 65_536, 131_069, 131_072]) {
      plant(world, { a: `${'x'.repeat(before)}needle${'y'.repeat(before)}` })
      expect(await found(world, 'x+needley+$', { isRegex: true })).toMatch(/^a:1: …/)
      plant(world, { a: `${'x\n'.repeat(before / 2)}xneedley\r\n${'y\n'.repeat(before)}` })
      expect(await found(world, '^xneedley$', { isRegex: true })).toBe(`a:${Math.floor(before / 2) + 1}: xneedley`)
    }
  })

  test('and characters of several bytes and units are whole everywhere', async () => {
    const world = openWorld()
    for (const before of ['', 'x']) {
      plant(world, { a: `${before}${'😀'.repeat(100_000)}!` })
      expect(await found(world, `^${before}😀+!$`, { isRegex: true })).toMatch(/^a:1: …/)
      const shown = await found(world, `^${before}😀{50}`, { isRegex: true })
      expect(shown.isWellFormed()).toBe(true)
      expect(shown).not.toContain('\uFFFD')
    }
    plant(world, { a: Buffer.from([0x61, 0xc3]) })
    expect(await found(world, '^a.$', { isRegex: true })).toBe('a:1: a\uFFFD')
  })

  test('and each is told once, however often it matches', async () => {
    const world = openWorld()
    plant(world, { a: `${'needle '.repeat(100_000)}\nneedle` })
    expect((await found(world, 'needle')).split('\n').map((line) => line.slice(0, 4))).toEqual(['a:1:', 'a:2:'])
  })
})

test('lines that come in any pieces match as splitting the text would have them', async () => {
  const character = fc.constantFrom('a', 'b', '\n', '\r\n', '😀')
  const patterns = fc.constantFrom('a', '^$', 'b$', '^a.*b', '😀')
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(character, { maxLength: 6 }), { maxLength: 8 }),
      patterns,
      async (pieces, pattern) => {
        const matcher = new LineMatcher(programOf(readPattern(pattern), { ignoreCase: false }))
        const lines = new MatchedLines(matcher, { turns: new LoopTurns(), maxLength: 1000, goesOn: () => true })
        const numbers: number[] = []
        const ended = [...pieces, ['\n']].map((piece) => piece.join(''))
        for (const piece of ended) for await (const match of lines.in(piece)) numbers.push(match.line)
        const oracle = new RegExp(pattern, 'u')
        const all = ended.join('').split(/\r?\n/).slice(0, -1)
        expect(numbers).toEqual(all.flatMap((line, index) => (oracle.test(line) ? [index + 1] : [])))
      },
    ),
    { numRuns: 500 },
  )
})

test('a NUL far behind the beginning makes no file binary', async () => {
  const world = openWorld()
  plant(world, { a: `${'x\n'.repeat(40_000)}needle\0\n` })
  expect(await found(world, 'needle')).toBe('a:40001: needle\0')
})

describe('the lines of a text that comes in pieces', () => {
  const linesOf = (pattern: string, leftover = ''): MatchedLines => {
    const matcher = new LineMatcher(programOf(readPattern(pattern), { ignoreCase: false }))
    matcher.advance(leftover, 0)
    return new MatchedLines(matcher, { turns: new LoopTurns(), maxLength: 10, goesOn: () => true })
  }

  test('begin with a line, wherever the matcher was before', async () => {
    expect(await Array.fromAsync(linesOf('^b', 'a').in('b\n'))).toEqual([{ line: 1, text: 'b' }])
    expect(await Array.fromAsync(linesOf('^b', 'b matches').in('c\nb\n'))).toEqual([{ line: 2, text: 'b' }])
  })

  test('show that their beginning is not there', async () => {
    const lines = linesOf('b')
    expect(await Array.fromAsync(lines.in('a\naaa'))).toEqual([])
    expect(await Array.fromAsync(lines.in('b\nb\n'))).toEqual([
      { line: 2, text: '…b' },
      { line: 3, text: 'b' },
    ])
    expect(await Array.fromAsync(lines.in('ba'))).toEqual([{ line: 4, text: 'ba…' }])
    expect(await Array.fromAsync(lines.in('b\nb\r\n'))).toEqual([{ line: 5, text: 'b' }])
  })

  test('give the event loop back before they begin, and in between', async () => {
    const take = vi.spyOn(LoopTurns.prototype, 'take')
    onTestFinished(() => take.mockRestore())
    await Array.fromAsync(linesOf('x').in('a\n'))
    expect(take).toHaveBeenCalledTimes(1)
    await Array.fromAsync(linesOf('x').in('a b c d\n'.repeat(2_000_000)))
    expect(take.mock.calls.length).toBeGreaterThan(4)
  })
})

describe('a search is cut, and says so,', () => {
  test('past 200 matches', async () => {
    const world = openWorld()
    plant(world, { a: 'x\n'.repeat(201) })
    const { text, matches, isCut } = await world.files.search('x', {}, NEVER)
    expect({ matches, isCut }).toEqual({ matches: 200, isCut: true })
    expect(text).toMatch(/a:200: x\n\[cut after 200 matches: .*\]$/)
    plant(world, { a: 'x\n'.repeat(200) })
    expect(await world.files.search('x', {}, NEVER)).toMatchObject({ matches: 200, isCut: false })
  })

  test('past 64 KiB', async () => {
    const world = openWorld({ limits: { maxMatches: 10_000 } })
    plant(world, { a: `${'é'.repeat(299)}\n`.repeat(1000) })
    const { text, isCut } = await world.files.search('é', {}, NEVER)
    expect(isCut).toBe(true)
    expect(Buffer.byteLength(text)).toBeLessThan(65 * 1024)
    expect(Buffer.byteLength(text)).toBeGreaterThan(63 * 1024)
  })

  test('past so many entries', async () => {
    const world = openWorld({ limits: { maxVisited: 3 } })
    plant(world, { 1: 'x\n', 2: 'x\n', 3: 'x\n' })
    expect(await world.files.search('x', {}, NEVER)).toMatchObject({ matches: 3, isCut: false })
    plant(world, { 4: 'x\n', 5: 'x\n', 6: 'x\n' })
    const { text, matches, isCut } = await world.files.search('x', {}, NEVER)
    expect({ matches, isCut }).toEqual({ matches: 3, isCut: true })
    expect(text).toContain('[cut after 3 files and folders: ')
  })

  test('past its time, in the middle of a file and between files', async () => {
    const clock = new JumpingClock()
    const world = openWorld({ clock })
    plant(world, { a: 'x\n'.repeat(50_000), b: 'x\n' })
    const signal = new AbortController().signal
    let checks = 0
    signal.throwIfAborted = () => {
      checks += 1
      if (checks === 8) clock.jump(10_000)
    }
    const { text, isCut, files } = await world.files.search('y', {}, signal)
    expect({ isCut, files }).toEqual({ isCut: true, files: 1 })
    expect(text).toContain('[cut after 10000 ms: ')
  })
})

describe('an abort ends a search at once:', () => {
  test('in the middle of a big tree', async () => {
    const world = openWorld()
    const text = 'some text that is there\n'.repeat(100)
    for (let folder = 0; folder < 40; folder += 1) {
      plant(world, Object.fromEntries(Array.from({ length: 50 }, (_, file) => [`${folder}/${file}`, text])))
    }
    const whole = abortedAtCheck(Infinity)
    expect((await world.files.search('nothing', {}, whole.signal)).files).toBe(2000)
    const before = openDescriptors()
    const middle = Math.floor(whole.checks / 2)
    const aborted = abortedAtCheck(middle)
    await expect(world.files.search('nothing', {}, aborted.signal)).rejects.toBe(aborted.reason)
    // It looked no further, and did nothing more.
    expect(aborted.checks).toBe(middle + 1)
    expect(openDescriptors()).toBe(before)
  })

  test('from outside, while it reads a file without end', async () => {
    const world = openWorld({ limits: { maxSearchMs: 60_000 } })
    plant(world, { a: `${'x'.repeat(70_000)}\n` })
    // It takes no place on the disk, and hours to be searched.
    truncateSync(join(world.root, 'a'), 2 ** 40)
    const controller = new AbortController()
    const reason = new Error('nobody wants it any more')
    const search = world.files.search('nothing', { path: 'a' }, controller.signal)
    for (let turn = 0; turn < 200; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    const startedMs = performance.now()
    controller.abort(reason)
    await expect(search).rejects.toBe(reason)
    expect(performance.now() - startedMs).toBeLessThan(1000)
  })

  test('at any moment, with nothing left open', async () => {
    const world = openWorld()
    plant(world, { 'a/b': 'foo\n'.repeat(10_000), c: 'foo\n' })
    const before = openDescriptors()
    let aborted = 0
    for (let check = 0; ; check += 1) {
      const { signal, reason } = abortedAtCheck(check)
      const outcome = await world.files.search('foo', {}, signal).catch((error: unknown) => error)
      expect(openDescriptors()).toBe(before)
      if (outcome !== reason) break
      aborted += 1
    }
    expect(aborted).toBeGreaterThan(20)
  })

  test('before it begins', async () => {
    const { files } = openWorld()
    const signal = AbortSignal.abort(new Error('never wanted'))
    await expect(files.search('x', {}, signal)).rejects.toBe(signal.reason)
    await expect(files.list({}, signal)).rejects.toBe(signal.reason)
    await expect(files.read('a', {}, signal)).rejects.toBe(signal.reason)
    await expect(files.write('a', 'x', signal)).rejects.toBe(signal.reason)
    await expect(files.edit('a', { oldText: 'x', newText: 'y' }, signal)).rejects.toBe(signal.reason)
    // Also where there would be something else to say.
    await expect(files.search('', { path: '..' }, signal)).rejects.toBe(signal.reason)
    await expect(files.write('../a', 'x', signal)).rejects.toBe(signal.reason)
  })
})

describe('the event loop goes on', () => {
  // A machine that is busy with other tests takes the processor away for hundreds of milliseconds.
  const WIDE_MARGIN_MS = 2000

  test.each(['(a+)+$', '(a|aa)+$', '(.*a){12}b', '(?:a|b)*a(?:a|b){30}c'])(
    'while %s is searched for, on which backtracking would take years',
    async (pattern) => {
      const world = openWorld()
      const lines = Array.from({ length: 2000 }, (_, index) => `${'ab'.repeat(index % 50)}${'a'.repeat(200)}!`)
      plant(world, { a: lines.join('\n'), b: 'a'.repeat(1_000_000) })
      const delayMs = await longestDelayMs(() => world.files.search(pattern, { isRegex: true }, NEVER))
      expect(delayMs).toBeLessThan(WIDE_MARGIN_MS)
    },
  )

  test('while a hundred search at the same time', async () => {
    const world = openWorld()
    plant(world, { a: `${'some text that is there '.repeat(10)}\n`.repeat(10_000) })
    const searches = Array.from({ length: 100 }, (_, index) => `(?:.*s){9}${index}x`)
    const delayMs = await longestDelayMs(() =>
      Promise.all(searches.map((pattern) => world.files.search(pattern, { isRegex: true }, NEVER))),
    )
    expect(delayMs).toBeLessThan(WIDE_MARGIN_MS)
  })
})

test('of all that have work, one goes on in a turn of the event loop', async () => {
  let turn = 0
  let isOver = false
  const count = (): void => {
    turn += 1
    if (!isOver) setImmediate(count)
  }
  setImmediate(count)
  const turns: number[] = []
  const workers = Array.from({ length: 10 }, () => new LoopTurns())
  await Promise.all(
    workers.map(async (worker) => {
      for (let round = 0; round < 5; round += 1) {
        await worker.take()
        turns.push(turn)
      }
    }),
  )
  isOver = true
  expect(turns).toHaveLength(50)
  expect(new Set(turns).size).toBe(50)
})

test('a turn is over when it has been used for a while, and not before', async () => {
  const turns = new LoopTurns()
  await turns.take()
  const startedMs = performance.now()
  while (!turns.isOver) expect(performance.now() - startedMs).toBeLessThan(1000)
  expect(performance.now() - startedMs).toBeGreaterThan(3)
})
