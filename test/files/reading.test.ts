import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import { chunksOf } from '../../src/resources/files/chunksOf.ts'
import { openHeldFolder } from '../../src/resources/files/HeldFolder.ts'
import { NumberedLines } from '../../src/resources/files/NumberedLines.ts'
import { openFile } from '../../src/resources/files/openFile.ts'
import { WorkspaceFiles } from '../../src/resources/files/WorkspaceFiles.ts'
import { abortedAtCheck, NEVER, namesIn, openDescriptors, openWorld, refusal } from './world.ts'

/** What `read` gives for a file with `content`. */
async function readBack(content: string | Buffer, options = {}, limits = {}) {
  const { files, root } = openWorld({ limits })
  writeFileSync(join(root, 'a.txt'), content)
  return files.read('a.txt', options, NEVER)
}

const numbered = (count: number): string => Array.from({ length: count }, (_, index) => `line ${index + 1}\n`).join('')

test('lines come with their numbers, as cat -n writes them', async () => {
  const { files, root } = openWorld()
  const content = 'one\n\n\tthree\nfour'
  writeFileSync(join(root, 'a.txt'), content)
  const { text, lines, isCut } = await files.read('a.txt', {}, NEVER)
  expect(text).toBe('     1\tone\n     2\t\n     3\t\tthree\n     4\tfour')
  expect(text).toBe(execFileSync('cat', ['-n', join(root, 'a.txt')], { encoding: 'utf8' }))
  expect({ lines, isCut }).toEqual({ lines: 4, isCut: false })
})

test('a line break at the end begins no further line, and CR LF ends a line as LF does', async () => {
  expect((await readBack('a\n')).text).toBe('     1\ta')
  expect((await readBack('a\r\nb\rc\r\n')).text).toBe('     1\ta\n     2\tb\rc')
  expect((await readBack('\n\n')).lines).toBe(2)
})

test('an empty file says that it is', async () => {
  expect(await readBack('')).toEqual({ text: '[the file is empty]', lines: 0, isCut: false })
})

test('a byte order mark is not part of the first line, nor of what is counted', async () => {
  expect((await readBack('\uFEFFa\n')).text).toBe('     1\ta')
  const later = `${'x\n'.repeat(32 * 1024)}\uFEFFy\n`
  expect((await readBack(later, { firstLine: 32 * 1024 + 1 })).text).toBe(' 32769\t\uFEFFy')
})

test('firstLine and maxLines choose a part, and the note says where to go on', async () => {
  const { text, lines, isCut } = await readBack(numbered(10), { firstLine: 4, maxLines: 2 })
  expect(text).toBe(
    '     4\tline 4\n     5\tline 5\n[cut after line 5: the file goes on, it has 71 bytes; read on with firstLine 6]',
  )
  expect({ lines, isCut }).toEqual({ lines: 2, isCut: true })
  expect(await readBack(numbered(10), { firstLine: 9, maxLines: 2 })).toEqual({
    text: '     9\tline 9\n    10\tline 10',
    lines: 2,
    isCut: false,
  })
})

test('reading on from where it was cut, again and again, gives every line once', async () => {
  const { files, root } = openWorld({ limits: { maxAnswerBytes: 300, maxReadLines: 7 } })
  writeFileSync(
    join(root, 'a.txt'),
    Array.from({ length: 100 }, (_, index) => `${index} ${'x'.repeat(index % 90)}\n`).join(''),
  )
  const seen: string[] = []
  for (let firstLine = 1, isCut = true; isCut; ) {
    const part = await files.read('a.txt', { firstLine }, NEVER)
    seen.push(...part.text.split('\n').filter((line) => !line.startsWith('[')))
    isCut = part.isCut
    if (isCut) firstLine = Number(/read on with firstLine (\d+)/.exec(part.text)?.[1])
  }
  expect(seen.map((line) => Number.parseInt(line, 10))).toEqual(Array.from({ length: 100 }, (_, index) => index + 1))
})

test('no more than 2000 lines come at once, also where more are asked for', async () => {
  const { text, lines, isCut } = await readBack(numbered(2001), { maxLines: 5000 })
  expect({ lines, isCut }).toEqual({ lines: 2000, isCut: true })
  expect(text).toMatch(/read on with firstLine 2001\]$/)
  expect(await readBack(numbered(2000))).toMatchObject({ lines: 2000, isCut: false })
})

test('no more than 64 KiB come at once', async () => {
  const { text, isCut } = await readBack(`${'é'.repeat(500)}\n`.repeat(200))
  expect(isCut).toBe(true)
  const [note = '', ...lines] = text.split('\n').toReversed()
  const bytes = Buffer.byteLength(lines.join('\n'))
  expect(bytes).toBeLessThanOrEqual(64 * 1024)
  expect(bytes).toBeGreaterThan(63 * 1024)
  expect(note).toContain(`after line ${lines.length}`)
})

test('a long line is cut with a note, between characters, and the lines behind it are there', async () => {
  const long = `${'x'.repeat(1999)}😀${'y'.repeat(100_000)}`
  const { text } = await readBack(`${long}\nnext\n`)
  expect(text).toBe(
    `     1\t${'x'.repeat(1999)} [cut: ${long.length - 1999} more characters in this line]\n     2\tnext`,
  )
})

test('a CR where a long line is cut is not the end of the line', async () => {
  expect((await readBack('a\rbc\n', {}, { maxLineLength: 2 })).text).toBe(
    '     1\ta\r [cut: 2 more characters in this line]',
  )
})

test('no more of a file is read than is wanted', async () => {
  const { files, root } = openWorld()
  writeFileSync(join(root, 'a.txt'), numbered(500_000))
  const looks = abortedAtCheck(Infinity)
  await files.read('a.txt', { maxLines: 1 }, looks.signal)
  expect(looks.checks).toBeLessThan(6)
})

test('a long read that is aborted at any moment ends there, with nothing left open', async () => {
  const { files, root } = openWorld()
  writeFileSync(join(root, 'a.txt'), numbered(200_000))
  const before = openDescriptors()
  let aborted = 0
  for (let check = 0; ; check += 1) {
    const { signal, reason } = abortedAtCheck(check)
    const outcome = await files.read('a.txt', { firstLine: 200_000 }, signal).catch((error: unknown) => error)
    expect(openDescriptors()).toBe(before)
    if (outcome !== reason) break
    aborted += 1
  }
  // The file is read in 35 pieces.
  expect(aborted).toBeGreaterThan(35)
})

test('a line that is longer than a whole answer is told of, so that the next can be reached', async () => {
  const { text, isCut } = await readBack(`${'x'.repeat(5000)}\nnext\n`, {}, { maxAnswerBytes: 100 })
  expect(isCut).toBe(true)
  expect(text).toContain('read on with firstLine 2')
})

test('characters of several bytes are whole wherever the file is parted for reading', async () => {
  const content = `x${'é😀'.repeat(25)}\n`.repeat(1000)
  // The 64 KiB that are read at a time end in line 432, within a character.
  const { text } = await readBack(content, { firstLine: 400, maxLines: 100 })
  expect(
    new Set(
      text
        .split('\n')
        .slice(0, 100)
        .map((line) => line.slice(7)),
    ),
  ).toEqual(new Set([`x${'é😀'.repeat(25)}`]))
})

test('bytes that are not UTF-8 show as U+FFFD', async () => {
  expect((await readBack(Buffer.from([0x61, 0xff, 0x62]))).text).toBe('     1\ta\uFFFDb')
  expect((await readBack(Buffer.from([0x61, 0xc3]))).text).toBe('     1\ta\uFFFD')
})

test('a line past the last is refused with the number of the last', async () => {
  const { files, root } = openWorld()
  writeFileSync(join(root, 'a.txt'), numbered(3))
  expect(await refusal(files.read('a.txt', { firstLine: 4 }, NEVER))).toBe(
    '"a.txt" has no line 4: firstLine must be from 1 to 3, its last line',
  )
})

test.each([0, -1, 1.5, Number.NaN, Infinity])('%s is refused as a number of lines', async (value) => {
  const { files, root } = openWorld()
  writeFileSync(join(root, 'a.txt'), 'a')
  expect(await refusal(files.read('a.txt', { firstLine: value }, NEVER))).toContain('firstLine must be a whole number')
  expect(await refusal(files.read('a.txt', { maxLines: value }, NEVER))).toContain('maxLines must be a whole number')
})

describe('what is no text file is refused at once, by name:', () => {
  test('a missing file', async () => {
    const { files, root } = openWorld()
    expect(await refusal(files.read('no/such', {}, NEVER))).toContain('there is no file "no/such"')
    expect(namesIn(root)).toEqual([])
  })

  test('a folder, and the workspace', async () => {
    const { files, root } = openWorld()
    mkdirSync(join(root, 'folder'))
    expect(await refusal(files.read('folder', {}, NEVER))).toBe('"folder" is a folder; expected is a file')
    expect(await refusal(files.read('', {}, NEVER))).toContain('is a folder')
    expect(await refusal(files.read(root, {}, NEVER))).toContain('is a folder')
  })

  test('something below a file', async () => {
    const { files, root } = openWorld()
    writeFileSync(join(root, 'a.txt'), 'a')
    expect(await refusal(files.read('a.txt/b', {}, NEVER))).toBe(
      '"a.txt" is not a folder, so there is nothing below it',
    )
  })

  test('a binary file', async () => {
    const { files, root } = openWorld()
    writeFileSync(join(root, 'a.png'), Buffer.concat([Buffer.alloc(100, 'x'), Buffer.from([0])]))
    expect(await refusal(files.read('a.png', {}, NEVER))).toBe('"a.png" is a binary file; expected is text')
  })

  test('a FIFO that nobody writes to', async () => {
    const { files, root } = openWorld()
    execFileSync('mkfifo', [join(root, 'fifo')])
    expect(await refusal(files.read('fifo', {}, NEVER))).toBe('"fifo" is a FIFO; expected is a file')
  })

  test('a socket', async () => {
    const { files, root } = openWorld()
    const server = createServer().listen(join(root, 's'))
    onTestFinished(() => void server.close())
    await new Promise((resolve) => server.once('listening', resolve))
    expect(await refusal(files.read('s', {}, NEVER))).toBe('"s" is a socket; expected is a file')
  })

  test('a device without end', async () => {
    expect(await refusal(new WorkspaceFiles('/dev').read('zero', {}, NEVER))).toBe(
      '"zero" is a device; expected is a file',
    )
  })

  test('a file of /proc without end', async () => {
    expect(await refusal(new WorkspaceFiles(`/proc/${process.pid}`).read('pagemap', {}, NEVER))).toContain(
      'is a binary file',
    )
  })
})

test('a file of /proc, which says that it has no bytes, is read to its end', async () => {
  const { text } = await new WorkspaceFiles('/proc/sys/kernel').read('ostype', {}, NEVER)
  expect(text).toBe('     1\tLinux')
})

test('a file that grows while it is read has an end', async () => {
  const { files, root } = openWorld({ limits: { maxAnswerBytes: 10_000_000, maxReadLines: 1_000_000 } })
  const path = join(root, 'a.txt')
  writeFileSync(path, 'x\n'.repeat(100_000))
  const signal = new AbortController().signal
  // It grows by more than is read, whenever the reader looks up.
  signal.throwIfAborted = () => writeFileSync(path, 'y\n'.repeat(50_000), { flag: 'a' })
  expect(await files.read('a.txt', {}, signal)).toMatchObject({ isCut: false })
})

test('a file is read as far as it went when it was opened', async () => {
  const { root } = openWorld()
  writeFileSync(join(root, 'a'), 'before')
  await using folder = await openHeldFolder(root)
  await using file = await openFile(folder, 'a', 'a')
  writeFileSync(join(root, 'a'), 'after', { flag: 'a' })
  const chunks: string[] = []
  for await (const chunk of chunksOf(file, NEVER)) chunks.push(chunk.toString())
  expect(chunks.join('')).toBe('before')
})

test('a text in any pieces gives the same lines', () => {
  const options = { firstLine: 2, maxLines: 4, maxBytes: 60, maxLineLength: 6 }
  const character = fc.constantFrom('a', '\n', '\r', '😀', 'é')
  fc.assert(
    fc.property(fc.array(fc.array(character, { maxLength: 8 }), { maxLength: 20 }), (pieces) => {
      const whole = new NumberedLines(options)
      whole.push(pieces.flat().join(''))
      whole.end()
      const parted = new NumberedLines(options)
      for (const piece of pieces) parted.push(piece.join(''))
      parted.end()
      expect([parted.text, parted.isCut, parted.count]).toEqual([whole.text, whole.isCut, whole.count])
    }),
    { numRuns: 1000 },
  )
})

test('lines are those that splitting the text would give', () => {
  const character = fc.constantFrom('a', 'b', '\n', '\r\n', '😀')
  fc.assert(
    fc.property(fc.array(character, { maxLength: 30 }), fc.integer({ min: 1, max: 4 }), (characters, firstLine) => {
      const text = characters.join('')
      const lines = new NumberedLines({ firstLine, maxLines: 1000, maxBytes: 10_000, maxLineLength: 1000 })
      lines.push(text)
      lines.end()
      const expected = text.replace(/\r?\n$/, '').split(/\r?\n/)
      const numbers = expected.map((line, index) => `${String(index + 1).padStart(6)}\t${line}`)
      expect(lines.text).toBe(text === '' ? '' : numbers.slice(firstLine - 1).join('\n'))
    }),
    { numRuns: 1000 },
  )
})
