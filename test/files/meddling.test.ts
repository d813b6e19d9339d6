import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Confinement } from '../../src/resources/files/Confinement.ts'
import { isWithin } from '../../src/resources/files/isWithin.ts'
import { openFile } from '../../src/resources/files/openFile.ts'
import { WorkspaceFiles } from '../../src/resources/files/WorkspaceFiles.ts'
import { walk } from '../../src/resources/files/walk.ts'
import { type Meddle, meddled } from './MeddledFolder.ts'
import {
  expectUntouched,
  NEVER,
  namesIn,
  openDescriptors,
  openWorld,
  refusal,
  temporaryFolder,
  WAYS,
  type World,
} from './world.ts'

let before = 0
beforeEach(() => {
  before = openDescriptors()
})
afterEach(() => {
  expect(openDescriptors()).toBe(before)
})

describe.each(WAYS)('with folders %s', (way, openFolder) => {
  /** A workspace in which `meddle` happens. */
  function openMeddled(meddle: (root: string) => Meddle, limits = {}): World {
    let happens: Meddle = () => undefined
    const world = openWorld({ limits, openFolder: meddled(openFolder, (...call) => happens(...call)) })
    happens = meddle(world.root)
    mkdirSync(join(world.root, 'a/b'), { recursive: true })
    writeFileSync(join(world.root, 'a/b/file'), 'inside')
    return world
  }

  test('neither a link nor a file is entered as a folder, nor opened as one', async () => {
    const { root, outside } = openWorld()
    symlinkSync(outside.folder, join(root, 'link'))
    writeFileSync(join(root, 'file'), '')
    await using folder = await openFolder(root)
    await expect(folder.enter('link')).rejects.toHaveProperty('code', 'ENOTDIR')
    await expect(folder.enter('file')).rejects.toHaveProperty('code', 'ENOTDIR')
    await expect(openFolder(join(root, 'link'))).rejects.toHaveProperty('code', 'ENOTDIR')
    expectUntouched(outside)
  })

  test('a link is not opened as a file', async () => {
    const { root, outside } = openWorld()
    symlinkSync(outside.file, join(root, 'link'))
    await using folder = await openFolder(root)
    await expect(openFile(folder, 'link', 'link')).rejects.toHaveProperty('code', 'ELOOP')
    expectUntouched(outside)
  })

  test('what became a FIFO is not waited for', async () => {
    const { root } = openWorld()
    execFileSync('mkfifo', [join(root, 'fifo')])
    await using folder = await openFolder(root)
    expect(await refusal(openFile(folder, 'fifo', 'fifo'))).toBe('"fifo" is a FIFO; expected is a file')
  })

  test('a folder knows whether it is inside, and a file opened in it', async () => {
    const { root, outside } = openWorld()
    mkdirSync(join(root, 'a'))
    writeFileSync(join(root, 'a/file'), 'inside')
    await using folder = await openFolder(root)
    await using below = await folder.enter('a')
    await using file = await openFile(below, 'file', 'a/file')
    const opened = { name: 'file', handle: file.handle }
    expect([await folder.isInside(), await below.isInside(), await below.isInside(opened)]).toEqual([true, true, true])
    renameSync(join(root, 'a/file'), join(dirname(root), 'file'))
    symlinkSync(join(dirname(root), 'file'), join(root, 'a/file'))
    expect(await below.isInside(opened)).toBe(false)
    renameSync(join(root, 'a'), join(dirname(root), 'workspace-2'))
    symlinkSync(join(dirname(root), 'workspace-2'), join(root, 'a'))
    expect([await folder.isInside(), await below.isInside()]).toEqual([true, false])
    expectUntouched(outside)
  })

  test('a folder that becomes a link after it was looked at is taken for the link that it is', async () => {
    const { files, root } = openMeddled((root) => (what, name, times) => {
      if (what !== 'enter' || name !== 'b' || times > 0) return
      renameSync(join(root, 'a/b'), join(root, 'c'))
      symlinkSync('../c', join(root, 'a/b'))
    })
    // Where the name was simply passed over, this would be found.
    writeFileSync(join(root, 'a/file'), 'another')
    expect((await files.read('a/b/file', {}, NEVER)).text).toBe('     1\tinside')
  })

  test('a link that becomes a folder after it was looked at is taken for the folder that it is', async () => {
    const { files, root } = openMeddled((root) => (what, name, times) => {
      if (what !== 'entry' || name !== 'link' || times !== 1) return
      unlinkSync(join(root, 'link'))
      mkdirSync(join(root, 'link'))
      writeFileSync(join(root, 'link/file'), 'of the folder')
    })
    symlinkSync('a/b', join(root, 'link'))
    writeFileSync(join(root, 'file'), 'another')
    expect((await files.read('link/file', {}, NEVER)).text).toBe('     1\tof the folder')
  })

  test('a folder that is gone after it was looked at is missing', async () => {
    const { files, root } = openMeddled((root) => (what, name) => {
      if (what === 'enter' && name === 'b') rmSync(join(root, 'a/b'), { recursive: true, force: true })
    })
    writeFileSync(join(root, 'a/file'), 'another')
    expect(await refusal(files.read('a/b/file', {}, NEVER))).toContain('there is no file "a/b/file"')
    expect(await refusal(files.list({ path: 'a/b' }, NEVER))).toContain('there is no folder "a/b"')
  })

  test('a folder that somebody else makes just before is used', async () => {
    const { files, root } = openMeddled((root) => (what, name, times) => {
      if (what === 'entry' && name === 'new' && times === 1) mkdirSync(join(root, 'new'))
    })
    expect(await files.write('new/file', 'x', NEVER)).toEqual({ bytes: 1, isNew: true })
    expect(readFileSync(join(root, 'new/file'), 'utf8')).toBe('x')
  })

  test('a workspace that somebody else makes again just before is used', async () => {
    const { files, root } = openMeddled((root) => (what, name) => {
      if (what === 'entry' && name === 'workspace') mkdirSync(root)
    })
    await files.list({}, NEVER)
    rmSync(root, { recursive: true })
    expect(await files.write('file', 'x', NEVER)).toEqual({ bytes: 1, isNew: true })
  })

  test('a link in the place of a folder far above the workspace is noticed, also where that is made again', async () => {
    const { root: folder, outside } = openWorld()
    const root = join(folder, 'top/a/b')
    const files = new WorkspaceFiles(root, { openFolder })
    await files.write('file', 'inside', NEVER)
    rmSync(join(outside.folder, 'a/b'), { recursive: true })
    renameSync(join(folder, 'top'), join(folder, 'old'))
    symlinkSync(outside.folder, join(folder, 'top'))
    expect(await refusal(files.write('file', 'x', NEVER))).toContain('was moved')
    expect(namesIn(join(outside.folder, 'a'))).toEqual([])
  })

  test('a file that is gone after it was seen is left out of a listing and of a search', async () => {
    const world = openMeddled((root) => (what, name) => {
      if (what === 'entry' && name === 'file') rmSync(join(root, 'a/b/file'), { force: true })
    })
    expect((await world.files.list({}, NEVER)).text).toBe('a/\na/b/')
    writeFileSync(join(world.root, 'a/b/file'), 'inside')
    expect(await world.files.search('inside', {}, NEVER)).toEqual({
      text: '[no line matches; files searched: 0]',
      matches: 0,
      files: 0,
      isCut: false,
    })
  })

  test('a folder that becomes a link to another, after it was seen, is not gone through', async () => {
    const world = openMeddled((root) => (what, name, times) => {
      if (what !== 'entry' || name !== 'z' || times > 0) return
      rmSync(join(root, 'z'), { recursive: true })
      symlinkSync('a', join(root, 'z'))
    })
    mkdirSync(join(world.root, 'z'))
    expect((await world.files.list({}, NEVER)).text).toBe('a/\na/b/\na/b/file  6 bytes\nz/')
  })

  test('a folder that becomes a link to elsewhere, after it was seen, is told of as not read', async () => {
    const world = openMeddled((root) => (what, name, times) => {
      if (what !== 'entry' || name !== 'z' || times > 0) return
      rmSync(join(root, 'z'), { recursive: true })
      symlinkSync('../outside', join(root, 'z'))
    })
    mkdirSync(join(world.root, 'z'))
    expect((await world.files.list({}, NEVER)).text).toBe(
      'a/\na/b/\na/b/file  6 bytes\nz/\n[folders that could not be read: 1]',
    )
    expectUntouched(world.outside)
  })

  test('a link in the place of a draft is not written through', async () => {
    const { files, root, outside } = openMeddled((root) => (what, name) => {
      if (what === 'entry' && name.startsWith('.tether-')) symlinkSync('../outside/canary.txt', join(root, name))
    })
    expect(await refusal(files.write('new', 'x', NEVER))).toContain('something of that name appeared meanwhile')
    expectUntouched(outside)
    expect(namesIn(root)).not.toContain('new')
  })

  test('a walk that came to its limit goes no further', async () => {
    const { root } = openWorld()
    for (const path of ['a/1', 'b/2', 'c/3']) mkdirSync(join(root, path), { recursive: true })
    const seen: unknown[] = []
    const options = { start: '', maxVisited: 4, asksFor: () => false, signal: NEVER }
    for await (const visit of walk(new Confinement(root, openFolder), options)) {
      if (visit.kind === 'folder') seen.push([visit.entries.map(({ path }) => path), visit.isCut])
    }
    expect(seen).toEqual([
      [['a', 'b', 'c'], false],
      [['a/1'], false],
      [[], true],
    ])
  })

  test(`what is done to a folder that was moved out is noticed (${way})`, async () => {
    const away = temporaryFolder()
    const { files, root } = openMeddled((root) => (what, name) => {
      if (what === 'entry' && name.startsWith('.tether-')) renameSync(join(root, 'a'), join(away, 'a'))
    })
    const outcome = await files.write('a/b/file', 'x', NEVER).catch((error: unknown) => error)
    expect(outcome).toHaveProperty('name', 'ToolError')
    expect(namesIn(root)).toEqual([])
    renameSync(join(away, 'a'), join(root, 'a'))
    const reading = openMeddled((root) => (what, name, times) => {
      if (what === 'entry' && name === 'file' && times === 1) renameSync(join(root, 'a'), join(away, 'a'))
    })
    const why = way === 'known by name' ? 'it vanished meanwhile' : 'was moved out of the workspace meanwhile'
    expect(await refusal(reading.files.read('a/b/file', {}, NEVER))).toContain(why)
    expect(namesIn(away)).toEqual(['a', 'a/b', 'a/b/file'])
    expect(readFileSync(join(away, 'a/b/file'), 'utf8')).toBe('inside')
  })
})

test.each([
  ['/a/b', '/a/b', true],
  ['/a/b', '/a/b/c', true],
  ['/a/b', '/a/bc', false],
  ['/a/b', '/a', false],
  ['/', '/a', true],
])('%s has %s in it: %s', (folder, path, expected) => {
  expect(isWithin(folder, path)).toBe(expected)
})
