import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, linkSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { WorkspaceFiles } from '../../src/resources/files/WorkspaceFiles.ts'
import {
  abortedAtCheck,
  expectUntouched,
  NEVER,
  namesIn,
  openDescriptors,
  openWorld,
  refusal,
  temporaryFolder,
} from './world.ts'

test('a file is written with the folders on the way, and says how many bytes it has and whether it is new', async () => {
  const { files, root } = openWorld()
  expect(await files.write('a/b/c.txt', 'hé\n', NEVER)).toEqual({ bytes: 4, isNew: true })
  expect(await files.write('a/b/c.txt', '', NEVER)).toEqual({ bytes: 0, isNew: false })
  expect(readFileSync(join(root, 'a/b/c.txt'), 'utf8')).toBe('')
  expect(namesIn(root)).toEqual(['a', 'a/b', 'a/b/c.txt'])
})

test('the workspace is made by the first write, for its owner alone, and before that it is empty', async () => {
  const root = join(temporaryFolder(), 'jobs', 'one')
  const files = new WorkspaceFiles(root)
  expect(await files.list({}, NEVER)).toMatchObject({ entries: 0, isCut: false })
  expect(await files.list({ path: root }, NEVER)).toMatchObject({ entries: 0 })
  expect(await files.search('x', {}, NEVER)).toMatchObject({ matches: 0, files: 0 })
  expect(await refusal(files.read('a.txt', {}, NEVER))).toContain('there is no file "a.txt"')
  expect(await refusal(files.list({ path: 'sub' }, NEVER))).toContain('there is no folder "sub"')
  expect(existsSync(root)).toBe(false)
  await files.write('a.txt', 'a', NEVER)
  expect(statSync(root).mode & 0o777).toBe(0o700)
  expect(readFileSync(join(root, 'a.txt'), 'utf8')).toBe('a')
})

test('a workspace that was removed is made again', async () => {
  const { files, root } = openWorld()
  await files.write('a.txt', 'a', NEVER)
  execFileSync('rm', ['-r', root])
  expect(await files.list({}, NEVER)).toMatchObject({ entries: 0 })
  expect(await files.write('a.txt', 'b', NEVER)).toEqual({ bytes: 1, isNew: true })
  expect(readFileSync(join(root, 'a.txt'), 'utf8')).toBe('b')
})

test('a file that is replaced keeps its permissions, and a new one has those of any new file', async () => {
  const { files, root } = openWorld()
  const path = join(root, 'run.sh')
  writeFileSync(path, 'old')
  chmodSync(path, 0o4751)
  await files.write('run.sh', 'new', NEVER)
  expect(statSync(path).mode & 0o7777).toBe(0o751)
  await files.write('other', 'new', NEVER)
  expect(statSync(join(root, 'other')).mode & 0o777).toBe(0o666 & ~process.umask())
})

test('a write puts a new file in the place of the old one, so that a hard link to elsewhere is never written through', async () => {
  const { files, root, outside } = openWorld()
  linkSync(outside.file, join(root, 'hard.txt'))
  await files.write('hard.txt', 'new', NEVER)
  expect(readFileSync(join(root, 'hard.txt'), 'utf8')).toBe('new')
  expectUntouched(outside)
})

test('who has the old file open keeps all of it', async () => {
  const { files, root } = openWorld()
  await files.write('a.txt', 'old text', NEVER)
  const old = readFileSync(join(root, 'a.txt'))
  const { ino } = statSync(join(root, 'a.txt'))
  await files.write('a.txt', 'new', NEVER)
  expect(statSync(join(root, 'a.txt')).ino).not.toBe(ino)
  expect(old.toString()).toBe('old text')
})

test('a link to a file inside stays a link, and the file behind it is written, also where it is missing', async () => {
  const { files, root } = openWorld()
  mkdirSync(join(root, 'real'))
  symlinkSync('real/a.txt', join(root, 'link'))
  expect(await files.write('link', 'one', NEVER)).toEqual({ bytes: 3, isNew: true })
  expect(await files.write('link', 'two', NEVER)).toEqual({ bytes: 3, isNew: false })
  expect(readFileSync(join(root, 'real/a.txt'), 'utf8')).toBe('two')
  expect(namesIn(root)).toEqual(['link', 'real', 'real/a.txt'])
})

describe('a write is refused', () => {
  test('to a folder, and to a name that means one', async () => {
    const { files, root } = openWorld()
    mkdirSync(join(root, 'folder'))
    expect(await refusal(files.write('folder', 'x', NEVER))).toContain('is a folder')
    expect(await refusal(files.write('new/', 'x', NEVER))).toContain('names a folder')
    expect(await refusal(files.write('.', 'x', NEVER))).toContain('is a folder')
    expect(namesIn(root)).toEqual(['folder'])
  })

  test('below a file', async () => {
    const { files, root } = openWorld()
    writeFileSync(join(root, 'a'), 'a')
    expect(await refusal(files.write('a/b', 'x', NEVER))).toContain('"a" is not a folder')
  })

  test('to a FIFO, which stays as it is', async () => {
    const { files, root } = openWorld()
    execFileSync('mkfifo', [join(root, 'fifo')])
    expect(await refusal(files.write('fifo', 'x', NEVER))).toContain('is a FIFO')
    expect(statSync(join(root, 'fifo')).isFIFO()).toBe(true)
  })

  test('past 4 MiB of UTF-8', async () => {
    const { files, root } = openWorld()
    const max = 4 * 1024 * 1024
    expect(await files.write('a', 'é'.repeat(max / 2), NEVER)).toEqual({ bytes: max, isNew: true })
    expect(await refusal(files.write('b', `${'é'.repeat(max / 2)}x`, NEVER))).toContain(
      `would have ${max + 1} bytes; at most ${max} are written`,
    )
    expect(namesIn(root)).toEqual(['a'])
  })

  test('of a text that is half a character', async () => {
    expect(await refusal(openWorld().files.write('a', '\ud83d', NEVER))).toContain('half of a surrogate pair')
  })

  test('with a name that is too long, whatever the name of the draft', async () => {
    const { files, root } = openWorld()
    await files.write('x'.repeat(255), 'x', NEVER)
    expect(await refusal(files.write('x'.repeat(256), 'x', NEVER))).toContain('at most 255 bytes')
    expect(namesIn(root)).toEqual(['x'.repeat(255)])
  })
})

test('a write that is aborted at any moment leaves the old or the new file, no draft and no open descriptor', async () => {
  const { files, root } = openWorld()
  const path = join(root, 'a/b.txt')
  const text = 'n'.repeat(3 * 1024 * 1024)
  const before = openDescriptors()
  let aborted = 0
  for (let check = 0; ; check += 1) {
    mkdirSync(join(root, 'a'), { recursive: true })
    writeFileSync(path, 'old')
    const { signal, reason } = abortedAtCheck(check)
    const outcome = await files.write('a/b.txt', text, signal).catch((error: unknown) => error)
    expect(namesIn(root)).toEqual(['a', 'a/b.txt'])
    expect(openDescriptors()).toBe(before)
    if (outcome !== reason) {
      expect(outcome).toEqual({ bytes: text.length, isNew: false })
      break
    }
    aborted += 1
    expect(readFileSync(path, 'utf8')).toBe('old')
  }
  // At least: on entry, at each name, at each MiB, and last before the rename.
  expect(aborted).toBeGreaterThanOrEqual(7)
})

test('a process that is killed while it writes leaves the old or the new file, and what else it leaves is not shown', async () => {
  const { files, root } = openWorld()
  const fixture = join(import.meta.dirname, 'fixtures', 'writer.ts')
  const path = join(root, 'a.txt')
  let drafts = 0
  for (let check = 0, hasEnded = false; !hasEnded; check += 1) {
    writeFileSync(path, 'old')
    const writer = spawn(process.execPath, [fixture, root, 'a.txt', 'new', String(check)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    onTestFinished(() => void writer.kill('SIGKILL'))
    const exited = once(writer, 'exit')
    const [output] = await Promise.race([once(writer.stdout, 'data'), exited])
    writer.kill('SIGKILL')
    await exited
    hasEnded = String(output) === 'ended'
    expect(readFileSync(path, 'utf8')).toBe(hasEnded ? 'new'.repeat(1_000_000) : 'old')
    expect((await files.list({}, NEVER)).text).toMatch(/^a\.txt {2}\d+ bytes$/)
    expect((await files.search('new', {}, NEVER)).files).toBe(1)
    drafts = namesIn(root).length - 1
  }
  // It was killed at the beginning of the draft, in its middle, at its end and before its renaming.
  expect(drafts).toBeGreaterThanOrEqual(4)
})

test('writes of one file at the same time leave one of the texts', async () => {
  const { files, root } = openWorld()
  const texts = Array.from({ length: 20 }, (_, index) => String(index).repeat(50_000))
  await Promise.all(texts.map((text) => files.write('a.txt', text, NEVER)))
  expect(texts).toContain(readFileSync(join(root, 'a.txt'), 'utf8'))
  expect(namesIn(root)).toEqual(['a.txt'])
})

test('a write that fails holds up none that comes after it', async () => {
  const { files } = openWorld()
  const failing = refusal(files.write('../x', 'x', NEVER))
  const following = files.write('x', 'x', NEVER)
  expect(await failing).toContain('leads out of the workspace')
  expect(await following).toEqual({ bytes: 1, isNew: true })
})
