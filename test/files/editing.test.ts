import { linkSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Edit, editedText } from '../../src/resources/files/editedText.ts'
import { occurrencesOf } from '../../src/resources/files/occurrencesOf.ts'
import { WorkspaceFiles } from '../../src/resources/files/WorkspaceFiles.ts'
import { abortedAtCheck, NEVER, namesIn, openDescriptors, openWorld, refusal } from './world.ts'

const TARGET = { path: 'a.txt', maxLength: 10_000 }

const edited = (text: string, edit: Edit): string => editedText(text, edit, TARGET).text

async function refusedEdit(content: string | Buffer, edit: Edit): Promise<string> {
  const { files, root } = openWorld()
  writeFileSync(join(root, 'a.txt'), content)
  const message = await refusal(files.edit('a.txt', edit, NEVER))
  expect(readFileSync(join(root, 'a.txt'))).toEqual(Buffer.from(content))
  expect(namesIn(root)).toEqual(['a.txt'])
  return message
}

test('the one occurrence is replaced, whatever characters the texts have', async () => {
  const { files, root } = openWorld()
  const path = join(root, 'a.txt')
  writeFileSync(path, 'one $& (two)* three\n', { mode: 0o755 })
  expect(await files.edit('a.txt', { oldText: '(two)*', newText: "$1 $' é" }, NEVER)).toEqual({
    replacements: 1,
    bytes: 22,
  })
  expect(readFileSync(path, 'utf8')).toBe("one $& $1 $' é three\n")
  expect(statSync(path).mode & 0o777).toBe(0o755)
  expect(namesIn(root)).toEqual(['a.txt'])
})

test('with all, every occurrence is, from left to right without overlaps', () => {
  expect(editedText('aaaaa-aa', { oldText: 'aa', newText: 'b', all: true }, TARGET)).toEqual({
    text: 'bba-b',
    replacements: 3,
  })
})

test('an occurrence that is not unique is refused with the lines', async () => {
  expect(await refusedEdit('x\ny\nx\nx\n', { oldText: 'x', newText: 'z' })).toBe(
    'oldText is in "a.txt" several times, beginning in the lines 1, 3, 4: ' +
      'add lines around it that make it unique, or set all to replace every one',
  )
  expect(await refusedEdit('x\n'.repeat(50), { oldText: 'x', newText: 'z' })).toContain(
    'lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and more:',
  )
})

test('occurrences that overlap are not one', async () => {
  expect(await refusedEdit('\n\n\n', { oldText: '\n\n', newText: '\n' })).toContain('in the lines 1, 2:')
})

test('a text that is not there is refused', async () => {
  expect(await refusedEdit('one\n', { oldText: 'two', newText: 'x' })).toBe(
    'oldText is not in "a.txt": read the file and take the text exactly as it is',
  )
})

test('a near miss is shown as it is in the file, with its lines', async () => {
  const content = 'start\nif (a) {\n\treturn  b\n}\n'
  expect(await refusedEdit(content, { oldText: 'if (a) {\n    return b\n}', newText: 'x' })).toBe(
    'oldText is not in "a.txt", but the lines 2 to 4 differ from it in white space alone; ' +
      String.raw`there it is "if (a) {\n\treturn  b\n}"`,
  )
  expect(await refusedEdit('a\n  b   c\n', { oldText: 'b c', newText: 'x' })).toContain(
    'line 2 differs from it in white space alone; there it is "b   c"',
  )
  expect(await refusedEdit('b c\n', { oldText: 'b c\n\n', newText: 'x' })).toContain('line 1 differs')
})

test('white space alone is near to nothing, and a miss that is long, or in a long text, is not shown', async () => {
  expect(await refusedEdit('a b\n', { oldText: '  ', newText: 'x' })).not.toContain('differ')
  expect(await refusedEdit(`a  b${'x'.repeat(256 * 1024)}`, { oldText: 'a b', newText: 'x' })).not.toContain('differ')
  expect(await refusedEdit('a \n'.repeat(3000), { oldText: 'a\n'.repeat(3000), newText: 'x' })).not.toContain('differ')
})

test('line numbers that were taken along from a read are pointed out', async () => {
  expect(await refusedEdit('one\ntwo\n', { oldText: '     1\tone\n     2\ttwo', newText: 'x' })).toContain(
    'leave out the numbers',
  )
})

test('nothing to look for, and nothing to change, are refused', async () => {
  expect(await refusedEdit('one', { oldText: '', newText: 'x' })).toContain('oldText is empty')
  expect(await refusedEdit('one', { oldText: 'one', newText: 'one' })).toContain('are the same')
})

describe('where lines end with CR LF', () => {
  test('texts of LF mean these line ends, and the file keeps them', () => {
    expect(edited('a\r\nb\r\nc\r\n', { oldText: 'a\nb\n', newText: 'x\ny\nz\n' })).toBe('x\r\ny\r\nz\r\nc\r\n')
    expect(edited('a\r\nb\r\n', { oldText: 'b', newText: 'x\ny' })).toBe('a\r\nx\r\ny\r\n')
  })

  test('texts that have a CR are taken as they are', () => {
    expect(edited('a\r\nb\r\n', { oldText: 'a\r\n', newText: 'a\n' })).toBe('a\nb\r\n')
    expect(edited('a\r\nb\r\n', { oldText: 'a', newText: 'x\r\ny\n' })).toBe('x\r\ny\n\r\nb\r\n')
  })

  test('the first line decides for a file that has both', async () => {
    expect(edited('a\nb\r\nc\n', { oldText: 'c', newText: 'x\ny' })).toBe('a\nb\r\nx\ny\n')
    expect(await refusedEdit('a\nb\r\nc\n', { oldText: 'b\nc', newText: 'x' })).toContain(
      String.raw`the lines 2 to 3 differ from it in white space alone; there it is "b\r\nc"`,
    )
  })
})

test('a byte order mark stays', async () => {
  const { files, root } = openWorld()
  writeFileSync(join(root, 'a.txt'), '\uFEFFone\n')
  await files.edit('a.txt', { oldText: 'one', newText: 'two' }, NEVER)
  expect(readFileSync(join(root, 'a.txt'), 'utf8')).toBe('\uFEFFtwo\n')
})

test('a file that is not UTF-8 is refused, not spoiled', async () => {
  expect(await refusedEdit(Buffer.from([0x61, 0xe9, 0x62]), { oldText: 'a', newText: 'x' })).toContain(
    'is not UTF-8 text',
  )
  expect(await refusedEdit('a\0b', { oldText: 'a', newText: 'x' })).toContain('is not UTF-8 text')
})

test('a file past 4 MiB is refused before and after', async () => {
  const max = 4 * 1024 * 1024
  const full = `x${'é'.repeat(max / 2 - 1)}`
  expect(await refusedEdit(`${full}aa`, { oldText: 'x', newText: 'y' })).toContain(`has more than ${max} bytes`)
  expect(await refusedEdit(`${full}a`, { oldText: 'x', newText: 'yy' })).toContain(`would have ${max + 1} bytes`)
})

test('what many replacements would grow to is refused before it is made', () => {
  const bomb = { oldText: 'a', newText: 'x'.repeat(9000), all: true }
  expect(() => editedText('a'.repeat(10_000), bomb, TARGET)).toThrow('would have 90000000 characters; at most 10000')
  expect(() => editedText('a'.repeat(10_001), { ...bomb, newText: '' }, TARGET)).toThrow('more than 10000 times')
  expect(edited('a'.repeat(10_000), { ...bomb, newText: '' })).toBe('')
})

test.each(['missing.txt', 'folder', '../a.txt'])('%s cannot be edited', async (path) => {
  const { files, root } = openWorld()
  mkdirSync(join(root, 'folder'))
  expect(await refusal(files.edit(path, { oldText: 'a', newText: 'b' }, NEVER))).toContain(path)
  expect(namesIn(root)).toEqual(['folder'])
})

test('an edit is never made through a hard link to elsewhere', async () => {
  const { files, root, outside } = openWorld()
  linkSync(outside.file, join(root, 'hard.txt'))
  await files.edit('hard.txt', { oldText: 'canary', newText: 'cat' }, NEVER)
  expect(readFileSync(join(root, 'hard.txt'), 'utf8')).toBe('the cat sings')
  // It was read: that much a hard link allows.
  expect(readFileSync(outside.file, 'utf8')).toBe('the canary sings')
})

test('edits of one file at the same time are all made', async () => {
  const { files, root } = openWorld()
  const names = Array.from({ length: 30 }, (_, index) => `<${index}>`)
  writeFileSync(join(root, 'a.txt'), names.join('\n'))
  await Promise.all(names.map((name) => files.edit('a.txt', { oldText: name, newText: `${name}!` }, NEVER)))
  expect(readFileSync(join(root, 'a.txt'), 'utf8')).toBe(names.map((name) => `${name}!`).join('\n'))
})

test('an edit of a file that somebody else changes meanwhile is refused, and their change stays', async () => {
  const { files, root } = openWorld()
  const path = join(root, 'a.txt')
  const edit = { oldText: 'one', newText: 'two' }
  writeFileSync(path, 'one')
  const counted = abortedAtCheck(Infinity)
  await files.edit('a.txt', edit, counted.signal)
  writeFileSync(path, 'one')
  // The file has been read by the time of the draft's first write, which is third from the last.
  const meanwhile = abortedAtCheck(Infinity, (check) => check === counted.checks - 2 && writeFileSync(path, 'one more'))
  expect(await refusal(files.edit('a.txt', edit, meanwhile.signal))).toContain('was changed by somebody else meanwhile')
  expect(readFileSync(path, 'utf8')).toBe('one more')
  expect(namesIn(root)).toEqual(['a.txt'])
})

test('an edit that is aborted at any moment leaves the old or the new file, no draft and no open descriptor', async () => {
  const { files, root } = openWorld()
  const path = join(root, 'a.txt')
  const before = openDescriptors()
  let aborted = 0
  for (let check = 0; ; check += 1) {
    writeFileSync(path, 'one')
    const { signal, reason } = abortedAtCheck(check)
    const outcome = await files
      .edit('a.txt', { oldText: 'one', newText: 'two' }, signal)
      .catch((error: unknown) => error)
    expect(namesIn(root)).toEqual(['a.txt'])
    expect(openDescriptors()).toBe(before)
    if (outcome !== reason) break
    aborted += 1
    expect(readFileSync(path, 'utf8')).toBe('one')
  }
  expect(readFileSync(path, 'utf8')).toBe('two')
  expect(aborted).toBeGreaterThanOrEqual(5)
})

test('occurrences are where trying every place finds them', () => {
  const text = (maxLength: number) => fc.array(fc.constantFrom('a', 'b'), { maxLength }).map((parts) => parts.join(''))
  fc.assert(
    fc.property(text(60), text(5), fc.constantFrom('a', 'b'), (haystack, start, end) => {
      const wanted = start + end
      const expected = Array.from(haystack, (_, index) => index).filter((index) => haystack.startsWith(wanted, index))
      expect(occurrencesOf(haystack, wanted, 1000)).toEqual(expected)
      expect(occurrencesOf(haystack, wanted, 2)).toEqual(expected.slice(0, 2))
    }),
    { numRuns: 3000 },
  )
})

test('texts on which searching is slow take no time to speak of', () => {
  const startedMs = performance.now()
  // With `indexOf` these take 4.5 s for a tenth of the text.
  const wanted = `${'a'.repeat(500_000)}b${'a'.repeat(500_000)}`
  expect(occurrencesOf('a'.repeat(4_000_000), wanted, 10)).toEqual([])
  expect(() => edited('a '.repeat(2_000_000), { oldText: 'a  '.repeat(400_000) + 'b', newText: 'x' })).toThrow(
    'is not in',
  )
  expect(performance.now() - startedMs).toBeLessThan(3000)
})

test('edits of one file by several agents are all made', async () => {
  const { files, root } = openWorld()
  const others = new WorkspaceFiles(`${root}/../workspace/`)
  for (let round = 0; round < 50; round += 1) {
    writeFileSync(join(root, 'a.txt'), 'a1\nb1\n')
    await Promise.all([
      files.edit('a.txt', { oldText: 'a1', newText: 'a2' }, NEVER),
      others.edit('a.txt', { oldText: 'b1', newText: 'b2' }, NEVER),
    ])
    expect(readFileSync(join(root, 'a.txt'), 'utf8')).toBe('a2\nb2\n')
  }
})
