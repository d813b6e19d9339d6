import { execFileSync } from 'node:child_process'
import {
  linkSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { toolErrorFor } from '../../src/resources/files/systemError.ts'
import { ToolError } from '../../src/resources/files/ToolError.ts'
import { WorkspaceFiles } from '../../src/resources/files/WorkspaceFiles.ts'
import {
  abortedAtCheck,
  expectUntouched,
  NEVER,
  namesIn,
  Outside,
  openDescriptors,
  openWorld,
  refusal,
  SECRET,
  temporaryFolder,
  WAYS,
} from './world.ts'

/** Everything that takes a path, with it. */
function callsWith(files: WorkspaceFiles, path: string): readonly (() => Promise<unknown>)[] {
  return [
    () => files.read(path, {}, NEVER),
    () => files.write(path, 'written', NEVER),
    () => files.edit(path, { oldText: 'canary', newText: 'cat' }, NEVER),
    () => files.list({ path }, NEVER),
    () => files.search('canary', { path }, NEVER),
  ]
}

test('a read, a listing and a write outside are seen by what these tests look at', () => {
  const traces = (touch: (outside: Outside) => void): number => {
    const outside = new Outside(join(temporaryFolder(), 'outside'))
    expectUntouched(outside)
    touch(outside)
    return outside.traces.length
  }
  expect(traces(({ file }) => readFileSync(file))).toBe(2)
  expect(traces(({ folder }) => namesIn(folder))).toBeGreaterThan(1)
  expect(traces(({ file }) => writeFileSync(file, SECRET))).toBe(2)
  expect(traces(({ folder }) => writeFileSync(join(folder, 'new'), ''))).toBeGreaterThan(0)
})

describe.each(WAYS)('with folders %s', (_, openFolder) => {
  const open = () => openWorld({ openFolder })

  /** Tries everything that takes a path with `path`, and expects each to say why not, with nothing touched. */
  async function expectRefused(world: ReturnType<typeof open>, path: string, why: string | RegExp): Promise<void> {
    const before = openDescriptors()
    for (const call of callsWith(world.files, path)) expect(await refusal(call())).toMatch(why)
    expect(openDescriptors()).toBe(before)
    expectUntouched(world.outside)
  }

  test('what is inside is found by any name for it', async () => {
    const { files, root } = open()
    mkdirSync(join(root, 'a/b'), { recursive: true })
    writeFileSync(join(root, 'a/b/c.txt'), 'inside')
    symlinkSync('a', join(root, 'relative'))
    symlinkSync(join(root, 'a'), join(root, 'absolute'))
    symlinkSync('../b/../b/c.txt', join(root, 'a/b/winding'))
    symlinkSync('relative/b', join(root, 'chain'))
    symlinkSync(`${root}/./a//b/`, join(root, 'untidy'))
    for (const path of [
      'a/b/c.txt',
      './a//b/./c.txt',
      'a/b/../b/c.txt',
      'no/such/../../a/b/c.txt',
      join(root, 'a/b/c.txt'),
      `${root}/x/../a/b/c.txt`,
      'relative/b/c.txt',
      'absolute/b/c.txt',
      'a/b/winding',
      'chain/c.txt',
      'untidy/c.txt',
    ]) {
      expect((await files.read(path, {}, NEVER)).text, path).toBe('     1\tinside')
    }
  })

  test('a workspace behind links is known by both names', async () => {
    const folder = temporaryFolder()
    mkdirSync(join(folder, 'real/workspace'), { recursive: true })
    symlinkSync('real', join(folder, 'link'))
    const root = join(folder, 'link/workspace')
    const files = new WorkspaceFiles(root, { openFolder })
    await files.write(join(root, 'a.txt'), 'inside', NEVER)
    const real = join(folder, 'real/workspace/a.txt')
    expect((await files.read(real, {}, NEVER)).text).toBe('     1\tinside')
    symlinkSync(real, join(root, 'by-real-name'))
    symlinkSync(join(root, 'a.txt'), join(root, 'by-other-name'))
    expect((await files.read('by-real-name', {}, NEVER)).text).toBe('     1\tinside')
    expect((await files.read('by-other-name', {}, NEVER)).text).toBe('     1\tinside')
  })

  test.each([
    '..',
    '../outside/canary.txt',
    'a/../../outside/canary.txt',
    '../../../../../../tether-nowhere/file',
    'a/b/../../..',
  ])('%s is refused', async (path) => {
    await expectRefused(open(), path, 'leads out of the workspace')
  })

  test('absolute paths of elsewhere are refused, also those that begin as the workspace does', async () => {
    const world = open()
    await expectRefused(world, '/tether-nowhere/file', 'leads out of the workspace')
    await expectRefused(world, '/tether-nowhere', 'leads out of the workspace')
    await expectRefused(world, world.outside.file, 'leads out of the workspace')
    await expectRefused(world, dirname(world.root), 'leads out of the workspace')
    await expectRefused(world, `${world.root}-twin/a`, 'leads out of the workspace')
    await expectRefused(world, '/proc/self/cwd/package.json', 'leads out of the workspace')
    await expectRefused(world, '/proc/kmsg', 'leads out of the workspace')
  })

  test.each([
    ['a\0b', 'has a NUL character'],
    ['~', 'begins with ~'],
    ['~/secrets', 'begins with ~'],
    ['file:///tether-nowhere/file', 'is a URL'],
    ['https://example.com/a', 'is a URL'],
    [`${'a/'.repeat(2048)}a`, 'is longer than 4096 characters'],
    [`${'x'.repeat(256)}/a`, 'at most 255 bytes'],
  ])('%.20s… is refused: it %s', async (path, why) => {
    const world = open()
    await expectRefused(world, path, why)
    expect(namesIn(world.root)).toEqual([])
  })

  test.each([
    'a\nb',
    ' ',
    '-rf',
    '...',
    '~a',
    'file:a',
    '\\',
    '*',
    '%2e%2e',
    'C:',
    'x'.repeat(255),
    './~/x',
    '\u202e',
    '😀',
  ])('%j is a name as others', async (path) => {
    const world = open()
    await world.files.write(path, 'inside', NEVER)
    expect((await world.files.read(path, {}, NEVER)).text).toBe('     1\tinside')
    expect((await world.files.list({}, NEVER)).entries).toBe(
      path.split('/').length - (path.startsWith('.') ? 1 : 0) || 1,
    )
    expectUntouched(world.outside)
  })

  test.each([
    ['a file', 'canary.txt', ''],
    ['a folder', '', ''],
    ['a folder, and on', '', '/canary.txt'],
    ['a folder, and to what is not there', '', '/new/file.txt'],
    ['a file that is not there', 'missing.txt', ''],
    ['a folder that is not there', 'missing', '/file.txt'],
  ])('a link to %s of elsewhere is refused', async (_, target, rest) => {
    const world = open()
    mkdirSync(join(world.root, 'sub'))
    symlinkSync(join(world.outside.folder, target), join(world.root, 'absolute'))
    symlinkSync(join('../../outside', target), join(world.root, 'sub/relative'))
    symlinkSync('sub/relative', join(world.root, 'chain'))
    for (const path of [`absolute${rest}`, `sub/relative${rest}`, `chain${rest}`]) {
      await expectRefused(world, path, /leads out of the workspace through (?:the|a) symbolic link/)
    }
    expect(readlinkSync(join(world.root, 'absolute'))).toBe(join(world.outside.folder, target))
  })

  test('a message is short, however long the path', async () => {
    const { files } = open()
    for (const call of callsWith(files, `../${'x'.repeat(4000)}`))
      expect((await refusal(call())).length).toBeLessThan(400)
  })

  test('whether something is there outside cannot be told from what is said', async () => {
    const world = open()
    symlinkSync(world.outside.file, join(world.root, 'one'))
    symlinkSync(join(world.outside.folder, 'missing'), join(world.root, 'two'))
    const [there = '', missing = ''] = await Promise.all(
      ['one', 'two'].map((path) => refusal(world.files.read(path, {}, NEVER))),
    )
    expect(there.replaceAll('one', 'two')).toBe(missing)
  })

  test('links that lead out and in again are refused', async () => {
    const world = open()
    symlinkSync('../workspace/a.txt', join(world.root, 'detour'))
    writeFileSync(join(world.root, 'a.txt'), 'canary')
    await expectRefused(world, 'detour', 'leads out of the workspace')
  })

  test('links that lead round are refused', async () => {
    const world = open()
    symlinkSync('self', join(world.root, 'self'))
    symlinkSync('b', join(world.root, 'a'))
    symlinkSync('a', join(world.root, 'b'))
    symlinkSync('.', join(world.root, 'here'))
    symlinkSync('grows/x', join(world.root, 'grows'))
    for (const path of ['self', 'a', 'b/c', 'grows']) {
      await expectRefused(world, path, 'leads through too many symbolic links')
    }
    await expectRefused(world, `${'here/'.repeat(41)}x`, 'leads through too many symbolic links')
    writeFileSync(join(world.root, 'x'), 'inside')
    expect((await world.files.read(`${'here/'.repeat(40)}x`, {}, NEVER)).text).toBe('     1\tinside')
  })

  test('a path with more steps than any honest one is refused', async () => {
    const world = open()
    mkdirSync(join(world.root, 'd'))
    // Each `..` begins anew.
    symlinkSync('d/../'.repeat(800), join(world.root, 'up'))
    await expectRefused(world, 'up', 'too many folders and links')
  })

  test('a link that was put in the place of the workspace is refused', async () => {
    const world = open()
    await world.files.write('canary.txt', 'inside', NEVER)
    renameSync(world.root, `${world.root}-old`)
    symlinkSync(world.outside.folder, world.root)
    await expectRefused(world, 'canary.txt', 'something else was put in its place')
    await expectRefused(world, '.', 'something else was put in its place')
  })

  test('a link that was there before the first call is refused too', async () => {
    const world = open()
    rmSync(world.root, { recursive: true })
    symlinkSync(world.outside.folder, world.root)
    await expectRefused(world, 'canary.txt', 'something else was put in its place')
  })

  test('a file in the place of the workspace is refused', async () => {
    const world = open()
    rmSync(world.root, { recursive: true })
    writeFileSync(world.root, '')
    await expectRefused(world, 'canary.txt', 'something else was put in its place')
  })

  test('a link that was put in the place of a folder above the workspace is refused', async () => {
    const folder = temporaryFolder()
    const outside = new Outside(join(folder, 'outside'))
    const root = join(folder, 'jobs/a')
    mkdirSync(root, { recursive: true })
    const files = new WorkspaceFiles(root, { openFolder })
    await files.write('canary.txt', 'inside', NEVER)
    renameSync(join(folder, 'jobs'), join(folder, 'jobs-old'))
    symlinkSync('outside', join(folder, 'jobs'))
    for (const call of callsWith(files, 'canary.txt')) expect(await refusal(call())).toContain('was moved')
    expectUntouched(outside)
    // Also where the workspace would have to be made anew.
    rmSync(join(outside.folder, 'a'), { recursive: true })
    for (const call of callsWith(files, 'other.txt')) await refusal(call())
    expect(namesIn(outside.folder)).toEqual(['b', 'b/canary.txt', 'canary.txt'])
  })

  test('nothing that a path is made of leads out', async () => {
    const segment = fc.oneof(
      fc.constantFrom('..', '..', '.', '', 'a', 'a', 'b', 'c', 'd', 'file', 'canary.txt', 'outside', 'workspace'),
      fc.constantFrom(
        '~',
        'a\nb',
        '%2e%2e',
        '..\\',
        '...',
        '\u202e..',
        'x'.repeat(256),
        '\0',
        'proc',
        'self',
        'cwd',
        'file:',
      ),
    )
    const relative = fc.array(segment, { maxLength: 6 }).map((segments) => segments.join('/'))
    const path = fc.record({ base: fc.constantFrom('', '', '', 'root/', 'outside/', 'above/'), below: relative })
    // These no link can have.
    const target = path.filter(({ base, below }) => !below.includes('\0') && base + below !== '')
    const node = fc.record({
      at: fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { minLength: 1, maxLength: 3 }).map((names) => names.join('/')),
      kind: fc.constantFrom('link', 'link', 'link', 'folder', 'file'),
      target,
    })
    const call = fc.record({ which: fc.nat(4), path })
    const seen = { done: 0, refused: 0 }
    await fc.assert(
      fc.asyncProperty(
        fc.array(node, { maxLength: 8 }),
        fc.array(call, { minLength: 1, maxLength: 8 }),
        async (nodes, calls) => {
          const folder = temporaryFolder()
          // So deep that what would lead out by mistake still ends in a folder of this test.
          const root = join(folder, '1/2/3/4/5/6/7/8/workspace')
          mkdirSync(root, { recursive: true })
          const outside = new Outside(join(root, '../outside'))
          const bases: Record<string, string> = { 'root/': root, 'outside/': outside.folder, 'above/': folder }
          const absolute = ({ base, below }: { base: string; below: string }): string =>
            base === '' ? below : `${bases[base]}/${below}`
          for (const { at, kind, target } of nodes) plantNode(root, at, kind, absolute(target))
          const files = new WorkspaceFiles(root, { openFolder })
          for (const { which, path } of calls) {
            const call = callsWith(files, absolute(path)).at(which)
            const outcome: unknown = await call?.().catch((error: unknown) => error)
            if (outcome instanceof Error && !(outcome instanceof ToolError)) throw outcome
            seen[outcome instanceof Error ? 'refused' : 'done'] += 1
            expect(outcome instanceof Error ? outcome.message : JSON.stringify(outcome)).not.toContain(SECRET)
          }
          expectUntouched(outside)
          expect(namesIn(folder).filter((name) => !/^[/1-8]*(?:\/(?:workspace|outside)(?:\/|$)|$)/.test(name))).toEqual(
            [],
          )
          rmSync(folder, { recursive: true })
        },
      ),
      // On a busy disk as many as there is time for.
      { numRuns: 300, interruptAfterTimeLimit: 10_000 },
    )
    expect(seen.done).toBeGreaterThan(20)
    expect(seen.refused).toBeGreaterThan(20)
  })

  test('an abort at any moment on a way through links leaves nothing open', async () => {
    const { files, root } = open()
    mkdirSync(join(root, 'a/b'), { recursive: true })
    symlinkSync('../../a/b', join(root, 'a/b/up'))
    symlinkSync(join(root, 'a/b/up'), join(root, 'link'))
    writeFileSync(join(root, 'a/b/file'), 'inside')
    const before = openDescriptors()
    let aborted = 0
    for (let check = 0; ; check += 1) {
      const { signal, reason } = abortedAtCheck(check)
      const outcome = await files.read('link/file', {}, signal).catch((error: unknown) => error)
      expect(openDescriptors()).toBe(before)
      if (outcome !== reason) break
      aborted += 1
    }
    expect(aborted).toBeGreaterThan(10)
  })
})

/** Puts something at a path that was made up. Where another is in the way, it is left: through a link, this would be elsewhere. */
function plantNode(root: string, at: string, kind: string, target: string): void {
  const names = at.split('/')
  const name = names.pop() ?? ''
  let folder = root
  for (const above of names) {
    folder = join(folder, above)
    if (lstatSync(folder, { throwIfNoEntry: false }) === undefined) mkdirSync(folder)
    else if (!lstatSync(folder).isDirectory()) return
  }
  const path = join(folder, name)
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined) return
  if (kind === 'folder') mkdirSync(path)
  else if (kind === 'file') writeFileSync(path, 'inside', { flag: 'wx' })
  else symlinkSync(target, path)
}

test('a hard link to elsewhere is that file: it can be read, and is never written', async () => {
  const { files, root, outside } = openWorld()
  linkSync(outside.file, join(root, 'hard'))
  expect((await files.read('hard', {}, NEVER)).text).toContain(SECRET)
  await files.write('hard', 'x', NEVER)
  expect(readFileSync(outside.file, 'utf8')).toBe(SECRET)
})

describe.runIf(process.platform === 'linux')('a folder that is moved out while it is used', () => {
  test.each(['read', 'write', 'list'] as const)('is noticed by a %s', async (what) => {
    const world = openWorld()
    const { files, root } = world
    const away = join(dirname(root), 'away')
    const calls = {
      read: (signal: AbortSignal) => files.read('a/b/file', {}, signal),
      write: (signal: AbortSignal) => files.write('a/b/file', 'written', signal),
      list: (signal: AbortSignal) => files.list({ path: 'a/b' }, signal),
    }
    let noticed = 0
    const whole = abortedAtCheck(Infinity)
    mkdirSync(join(root, 'a/b'), { recursive: true })
    writeFileSync(join(root, 'a/b/file'), 'inside')
    await calls[what](whole.signal)
    for (let moment = 0; moment < whole.checks; moment += 1) {
      const moving = abortedAtCheck(Infinity, (check) => check === moment && renameSync(join(root, 'a'), away))
      const before = openDescriptors()
      const outcome = await calls[what](moving.signal).catch((error: unknown) => error)
      expect(openDescriptors()).toBe(before)
      if (outcome instanceof ToolError && /was moved out of the workspace/.test(outcome.message)) noticed += 1
      else if (outcome instanceof Error && !(outcome instanceof ToolError)) throw outcome
      rmSync(join(root, 'a'), { recursive: true, force: true })
      renameSync(away, join(root, 'a'))
      writeFileSync(join(root, 'a/b/file'), 'inside')
    }
    expect(noticed).toBeGreaterThan(0)
  })
})

test.each([
  ['EACCES', 'permission is denied'],
  ['ENOSPC', 'the disk is full'],
])('what the system refuses with %s is told to the model', (code, why) => {
  const error = Object.assign(new Error(code), { code })
  expect(toolErrorFor(error, 'a')?.message).toBe(`"a": ${why}`)
  expect(toolErrorFor(error, 'a')?.cause).toBe(error)
})

test('what has nothing to do with the path is not', () => {
  expect(toolErrorFor(Object.assign(new Error('x'), { code: 'EMFILE' }), 'a')).toBeUndefined()
  expect(toolErrorFor(new TypeError('x'), 'a')).toBeUndefined()
  expect(toolErrorFor('x', 'a')).toBeUndefined()
})

test.runIf(process.platform === 'linux')(
  'ten thousand calls, of which most fail, leave no descriptor open',
  async () => {
    const { files, root, outside } = openWorld()
    mkdirSync(join(root, 'sub'))
    symlinkSync(outside.folder, join(root, 'out'))
    symlinkSync('sub', join(root, 'in'))
    writeFileSync(join(root, 'sub/canary.txt'), 'canary')
    writeFileSync(join(root, 'binary'), '\0')
    execFileSync('mkfifo', [join(root, 'fifo')])
    const paths = [
      'sub/canary.txt',
      'in/canary.txt',
      'in',
      'out',
      'out/canary.txt',
      '..',
      'no/such',
      'fifo',
      'binary',
      'a\0',
    ]
    const before = openDescriptors()
    let calls = 0
    while (calls < 10_000) {
      const batch = paths.flatMap((path) => callsWith(files, path))
      await Promise.allSettled(batch.map((call) => call()))
      rmSync(join(root, 'no'), { recursive: true, force: true })
      calls += batch.length
    }
    expect(openDescriptors()).toBe(before)
    expectUntouched(outside)
  },
)
