import { execFileSync } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join, matchesGlob } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { globFilter } from '../../src/resources/files/pattern/globFilter.ts'
import { abortedAtCheck, expectUntouched, NEVER, openDescriptors, openWorld, refusal, type World } from './world.ts'

/** Makes files of these paths, with their folders; each has as many bytes as its path. */
function plant({ root }: World, ...paths: readonly string[]): void {
  for (const path of paths) {
    mkdirSync(join(root, path, '..'), { recursive: true })
    writeFileSync(join(root, path), path)
  }
}

/** The paths that are listed, without what is said of them. */
async function listed({ files }: World, options: { path?: string; pattern?: string } = {}): Promise<string[]> {
  const { text } = await files.list(options, NEVER)
  return text
    .split('\n')
    .filter((line) => !line.startsWith('['))
    .map((line) => line.split('  ')[0] ?? '')
}

test('files, folders, links and the rest are told apart, sorted, with what is in a folder behind it', async () => {
  const world = openWorld()
  plant(world, 'src/b.ts', 'src/a/z.ts', 'src.txt', 'Z', 'src-x/y')
  mkdirSync(join(world.root, 'empty'))
  symlinkSync('src', join(world.root, 'link'))
  execFileSync('mkfifo', [join(world.root, 'fifo')])
  expect(await world.files.list({}, NEVER)).toEqual({
    text: [
      'Z  1 bytes',
      'empty/',
      'fifo  not a file',
      'link  symbolic link',
      'src/',
      'src/a/',
      'src/a/z.ts  10 bytes',
      'src/b.ts  8 bytes',
      'src-x/',
      'src-x/y  7 bytes',
      'src.txt  7 bytes',
    ].join('\n'),
    entries: 11,
    isCut: false,
  })
})

test('an empty folder says that nothing is there', async () => {
  expect(await openWorld().files.list({}, NEVER)).toEqual({ text: '[nothing is there]', entries: 0, isCut: false })
})

test('a folder is listed by paths below the workspace, however it is named', async () => {
  const world = openWorld()
  plant(world, 'src/a/z.ts', 'other')
  symlinkSync('src/a', join(world.root, 'link'))
  symlinkSync(`${world.root}/./src//a/.`, join(world.root, 'untidy'))
  for (const path of ['src/a', './src//a/', 'src/../src/a', join(world.root, 'src/a'), 'link', 'untidy']) {
    expect(await listed(world, { path })).toEqual(['src/a/z.ts'])
  }
})

test('what is not a folder, or not there, is refused', async () => {
  const world = openWorld()
  plant(world, 'a.txt')
  expect(await refusal(world.files.list({ path: 'a.txt' }, NEVER))).toContain('"a.txt" is not a folder')
  expect(await refusal(world.files.list({ path: 'no' }, NEVER))).toContain('there is no folder "no"')
  expect(await refusal(world.files.list({ path: 'no/such' }, NEVER))).toContain('there is no folder "no/such"')
})

test('folders full of what nobody wrote are named, and looked into when they are asked for', async () => {
  const world = openWorld()
  plant(world, 'node_modules/p/node_modules/q/i.js', 'node_modules/p/.git/config', 'a.js', '.git/config', '.env')
  expect((await world.files.list({}, NEVER)).text).toBe(
    ['.env  4 bytes', '.git/  not looked into', 'a.js  4 bytes', 'node_modules/  not looked into'].join('\n'),
  )
  expect(await listed(world, { path: '.git' })).toEqual(['.git/config'])
  expect(await listed(world, { pattern: '.git/*' })).toEqual(['.git/config'])
  expect(await listed(world, { pattern: 'node_modules/**/*.js' })).toEqual(['node_modules/p/node_modules/q/i.js'])
  expect(await listed(world, { pattern: '*.js' })).toEqual(['a.js'])
})

test('a pattern without a slash means names at any depth, with one it means paths below the folder', async () => {
  const world = openWorld()
  plant(world, 'a.ts', 'src/b.ts', 'src/deep/c.ts', 'src/deep/c.js', 'src/d.ts/x')
  expect(await listed(world, { pattern: '*.ts' })).toEqual(['a.ts', 'src/b.ts', 'src/d.ts/', 'src/deep/c.ts'])
  expect(await listed(world, { pattern: 'src/*.ts' })).toEqual(['src/b.ts', 'src/d.ts/'])
  expect(await listed(world, { path: 'src', pattern: 'deep/*' })).toEqual(['src/deep/c.js', 'src/deep/c.ts'])
  expect(await listed(world, { pattern: './*.ts' })).toEqual(['a.ts'])
  expect(await listed(world, { pattern: '*.none' })).toEqual([])
})

test('names with line breaks are quoted, so that none passes for another entry', async () => {
  const world = openWorld()
  plant(world, 'a\nb  1 bytes', 'c\u2028d')
  const { text } = await world.files.list({}, NEVER)
  expect(text).toBe(`${String.raw`"a\nb  1 bytes"  12 bytes`}\n"c\u2028d"  5 bytes`)
  expect(await listed(world, { pattern: 'a?b*' })).toEqual([String.raw`"a\nb`])
  expect((await world.files.read('a\nb  1 bytes', {}, NEVER)).lines).toBe(2)
})

test('past 1000 entries it is cut, says so, and has the nearer ones', async () => {
  const world = openWorld()
  plant(world, 'a/deep/x', ...Array.from({ length: 1001 }, (_, index) => `a/b/${index}`), 'z.txt')
  const { text, entries, isCut } = await world.files.list({}, NEVER)
  expect({ entries, isCut }).toEqual({ entries: 1000, isCut: true })
  expect(text).toMatch(/\n\[cut after 1000 entries: .*\]$/)
  const lines = text.split('\n')
  expect(lines).toContain('z.txt  5 bytes')
  expect(lines).toContain('a/deep/')
  const exact = openWorld({ limits: { maxListed: 3 } })
  plant(exact, '1', '2', '3')
  expect(await exact.files.list({}, NEVER)).toMatchObject({ entries: 3, isCut: false })
})

test('past 64 KiB it is cut', async () => {
  const world = openWorld()
  plant(world, ...Array.from({ length: 400 }, (_, index) => `${index}${'é'.repeat(100)}`))
  const { text, entries, isCut } = await world.files.list({}, NEVER)
  expect(isCut).toBe(true)
  expect(Buffer.byteLength(text)).toBeLessThan(65 * 1024)
  expect(entries).toBeGreaterThan(290)
})

test('past so many entries looked at it is cut, though few were wanted', async () => {
  const world = openWorld({ limits: { maxVisited: 10 } })
  plant(world, ...Array.from({ length: 8 }, (_, index) => `${index}.txt`), 'a/1', 'a/2', 'a/3')
  expect(await world.files.list({ pattern: '*.txt' }, NEVER)).toMatchObject({ entries: 8, isCut: true })
  const enough = openWorld({ limits: { maxVisited: 12 } })
  plant(enough, ...Array.from({ length: 8 }, (_, index) => `${index}.txt`), 'a/1', 'a/2', 'a/3')
  expect(await enough.files.list({ pattern: '*.txt' }, NEVER)).toMatchObject({ entries: 8, isCut: false })
})

test('links are not followed, out of the workspace or round in it', async () => {
  const world = openWorld()
  plant(world, 'a/b')
  symlinkSync(world.outside.folder, join(world.root, 'a/out'))
  symlinkSync('..', join(world.root, 'a/up'))
  expect(await listed(world)).toEqual(['a/', 'a/b', 'a/out', 'a/up'])
  expectUntouched(world.outside)
})

test('folders deeper than any path may be long are told of as not read', async () => {
  const world = openWorld()
  const name = 'd'.repeat(250)
  const program = `for (let i = 0; i < 20; i += 1) { fs.mkdirSync('${name}'); process.chdir('${name}') }`
  execFileSync(process.execPath, ['-e', program], { cwd: world.root })
  try {
    const { text, entries } = await world.files.list({}, NEVER)
    expect(text).toMatch(/\[folders that could not be read: 1\]$/)
    expect(entries).toBeGreaterThan(10)
  } finally {
    // Node's own way of removing it takes whole paths.
    execFileSync('rm', ['-r', join(world.root, name)])
  }
})

test('what is not shown any more is not looked at', async () => {
  const world = openWorld({ limits: { maxListed: 1 } })
  plant(world, ...Array.from({ length: 300 }, (_, index) => `${index}/x`))
  const looks = abortedAtCheck(Infinity)
  expect(await world.files.list({}, looks.signal)).toMatchObject({ entries: 1, isCut: true })
  // Each entry once as it is read, and the first two as they are listed.
  expect(looks.checks).toBeGreaterThan(300)
  expect(looks.checks).toBeLessThan(320)
})

test('a listing that is aborted at any moment ends with the reason, and no open descriptor', async () => {
  const world = openWorld()
  plant(world, 'a/1', 'a/2', 'a/b/3', 'c/4')
  const before = openDescriptors()
  let aborted = 0
  for (let check = 0; ; check += 1) {
    const { signal, reason } = abortedAtCheck(check)
    const outcome = await world.files.list({}, signal).catch((error: unknown) => error)
    expect(openDescriptors()).toBe(before)
    if (outcome !== reason) break
    aborted += 1
  }
  expect(aborted).toBeGreaterThan(15)
})

describe('a glob', () => {
  /** What this project's own globs say of a path. */
  const own = (glob: string, path: string): boolean => globFilter(glob)(path, path.split('/').at(-1) ?? '')

  test('is compared as Node compares it, dots aside', () => {
    const piece = fc.constantFrom('a', 'b', '*', '?', '**', '[ab]', '[!a]', '{a,b}', '{a,b*}', 'é')
    const glob = fc
      .array(
        fc.array(piece, { minLength: 1, maxLength: 2 }).map((parts) => parts.join('')),
        { minLength: 2, maxLength: 3 },
      )
      .map((names) => names.join('/'))
    // No characters of two units: Node takes them for two.
    const name = fc.array(fc.constantFrom('a', 'b', 'é'), { minLength: 1, maxLength: 2 }).map((parts) => parts.join(''))
    const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((names) => names.join('/'))
    let matching = 0
    fc.assert(
      fc.property(glob, path, (glob, path) => {
        const expected = matchesGlob(path, glob)
        if (expected) matching += 1
        expect(own(glob, path)).toBe(expected)
      }),
      { numRuns: 5000 },
    )
    expect(matching).toBeGreaterThan(100)
  })

  test.each([
    ['*.ts', 'a/b.ts', true],
    ['*', '.hidden', true],
    ['**/*.ts', '.x/a.ts', true],
    ['**/*.ts', 'a.ts', true],
    ['src/**', 'src/a/b', true],
    ['src/**', 'srcx/a', false],
    ['a/*', 'a/b/c', false],
    ['a/[^b]', 'a/c', true],
    ['a/[^b]x', 'a//x', false],
    ['[]]', ']', true],
    ['[\\]', '\\', true],
    ['[a-c].js', 'b.js', true],
    [String.raw`\*`, '*', true],
    [String.raw`\*`, 'a', false],
    ['a.b', 'axb', false],
    ['(a|b)', '(a|b)', true],
    ['a,b', 'a,b', true],
    ['{a,{b,c}d}', 'cd', true],
    ['[', '[', true],
  ])('%s and %s: %s', (glob, path, expected) => {
    expect(own(glob, path)).toBe(expected)
  })

  test.each(['', '/', '{a', 'a}', '[z-a]', '*'.repeat(1001), '\ud83d'])('%j is refused', (glob) => {
    expect(() => globFilter(glob)).toThrow(
      expect.objectContaining({ name: 'ToolError', message: expect.stringContaining('is no glob') }),
    )
  })

  test('that is slow for others takes no time to speak of', () => {
    const startedMs = performance.now()
    for (const glob of [
      `${'*a'.repeat(20)}*b`,
      '{1..1000000}',
      '{a,b}'.repeat(100),
      '+(+(a))b',
      `${'**/'.repeat(100)}b`,
    ]) {
      expect(own(glob, 'a'.repeat(200))).toBe(false)
    }
    expect(performance.now() - startedMs).toBeLessThan(2000)
  })
})
