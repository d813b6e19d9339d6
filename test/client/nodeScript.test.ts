import { execFileSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test } from 'vitest'
import { expectExit, type SpawnedClient, spawnProgram } from './spawnClient.ts'

const SCRIPT = fileURLToPath(new URL('../../scripts/node', import.meta.url))
const TOOLS = ['sh', 'readlink', 'dirname', 'flock', 'ps', 'ln', 'rm', 'sleep', 'mkdir', 'cat', 'touch']

/** What `npm ci` leaves behind, slowly enough for a second start to come in between; npm.log counts its runs. */
const NPM = `#!/bin/sh
echo "$@" >> npm.log
rm -rf node_modules
mkdir -p node_modules/.bin
sleep 0.3
ln -s "$FAKE_NODE" node_modules/.bin/node
touch node_modules/.package-lock.json
echo "added 1 package"
`

/** A project of its own, with a PATH that holds only what the script may count on. */
class Project {
  readonly root = realpathSync(mkdtempSync(join(tmpdir(), 'tether-node-')))
  readonly script = join(this.root, 'scripts', 'node')
  readonly bin = join(this.root, 'bin')

  build(options: { npm?: string; tools?: readonly string[] }): void {
    mkdirSync(join(this.root, 'scripts'))
    mkdirSync(this.bin)
    cpSync(SCRIPT, this.script)
    writeFileSync(join(this.root, 'package-lock.json'), '{}')
    for (const tool of options.tools ?? TOOLS) symlinkSync(whereIs(tool), join(this.bin, tool))
    if (options.npm !== undefined) writeFileSync(join(this.bin, 'npm'), options.npm, { mode: 0o755 })
  }

  run(args: readonly string[], cwd = '/'): SpawnedClient {
    return spawnProgram(this.script, args, { cwd, env: { PATH: this.bin, FAKE_NODE: process.execPath } })
  }

  npmRuns(): string[] {
    const log = join(this.root, 'npm.log')
    return existsSync(log) ? readFileSync(log, 'utf8').trimEnd().split('\n') : []
  }
}

function project(options: { npm?: string; tools?: readonly string[] } = {}): Project {
  const made = new Project()
  onTestFinished(() => rmSync(made.root, { recursive: true, force: true }))
  made.build(options)
  return made
}

function whereIs(tool: string): string {
  return execFileSync('/bin/sh', ['-c', 'command -v "$0"', tool], { encoding: 'utf8' }).trim()
}

const PRINT_FOLDER = ['-p', 'process.cwd() + process.argv.length', 'one argument']

test('a first start installs, quietly, and runs Node in the folder of the caller', async () => {
  const { root, ...made } = project({ npm: NPM })
  const start = spawnProgram(made.script, PRINT_FOLDER, {
    cwd: tmpdir(),
    env: { PATH: made.bin, FAKE_NODE: process.execPath },
  })
  await expectExit(start, 0)
  expect(start.out()).toBe(`${realpathSync(tmpdir())}2\n`)
  expect(start.err()).toBe('tether: installing what is missing (npm ci), once\n')
  expect(readFileSync(join(root, 'npm.log'), 'utf8')).toMatch(/^ci --include=dev /)
})

test('it is installed again only when the lock file is newer', async () => {
  const made = project({ npm: NPM })
  await expectExit(made.run(['-v']), 0)
  const second = made.run(['-v'])
  await expectExit(second, 0)
  expect(second.err()).toBe('')
  expect(made.npmRuns()).toHaveLength(1)
  const later = new Date(Date.now() + 60_000)
  utimesSync(join(made.root, 'package-lock.json'), later, later)
  await expectExit(made.run(['-v']), 0)
  expect(made.npmRuns()).toHaveLength(2)
})

test.each([
  ['flock', TOOLS],
  ['a symbolic link, where there is no flock', TOOLS.filter((tool) => tool !== 'flock')],
])('two starts at once install once: %s', async (_, tools) => {
  const made = project({ npm: NPM, tools })
  const starts = [made.run(['-p', '1']), made.run(['-p', '2']), made.run(['-p', '3'])]
  for (const start of starts) await expectExit(start, 0)
  expect(made.npmRuns()).toHaveLength(1)
  expect(existsSync(join(made.root, '.install-lock'))).toBe(false)
})

test('the link of a start that died does not hold up the next', async () => {
  const made = project({ npm: NPM, tools: TOOLS.filter((tool) => tool !== 'flock') })
  symlinkSync('999999999', join(made.root, '.install-lock'))
  await expectExit(made.run(['-v']), 0)
})

test('an npm that fails is shown with what it said', async () => {
  const made = project({ npm: '#!/bin/sh\necho "registry on fire"\nexit 7\n' })
  const start = made.run(['-v'])
  await expectExit(start, 1)
  expect(start.err()).toContain('registry on fire\ntether: npm ci failed in ')
  expect(start.out()).toBe('')
})

test('without npm and without packages, one line says what to install', async () => {
  const start = project().run(['-v'])
  await expectExit(start, 1)
  expect(start.err()).toMatch(/^tether: npm is not in PATH and the packages are not installed: .*\n$/)
})

test.each([
  ['v24.1.0', 0, 'machine 24\n', ''],
  ['v20.20.2', 1, '', 'tether: Node must be 24 or later, got v20.20.2 from '],
])('without npm, a Node %s of the machine serves if it is new enough', async (version, code, out, err) => {
  const made = project()
  mkdirSync(join(made.root, 'node_modules'))
  const node = `#!/bin/sh\nif [ "$1" = --version ]; then echo ${version}; else echo machine 24; fi\n`
  writeFileSync(join(made.bin, 'node'), node, { mode: 0o755 })
  const start = made.run(['program.ts'])
  await expectExit(start, code)
  expect(start.out()).toBe(out)
  expect(start.err()).toContain(err)
})

test('it is found through a link from elsewhere, and nothing stays in front of Node', async () => {
  const made = project({ npm: NPM })
  const link = join(made.bin, 'linked')
  symlinkSync(made.script, link)
  const start = spawnProgram(link, ['-p', 'process.pid'], { env: { PATH: made.bin, FAKE_NODE: process.execPath } })
  await expectExit(start, 0)
  expect(Number(start.out())).toBe(start.child.pid)
})

test('what Node compiled is kept with the packages, unless the caller names another folder', async () => {
  const made = project({ npm: NPM })
  const print = ['-p', 'process.env.NODE_COMPILE_CACHE']
  const env = { PATH: made.bin, FAKE_NODE: process.execPath, NODE_COMPILE_CACHE: '' }
  const own = spawnProgram(made.script, print, { env })
  await expectExit(own, 0)
  expect(own.out()).toBe(`${join(made.root, 'node_modules', '.cache', 'tether')}\n`)
  const named = spawnProgram(made.script, print, { env: { ...env, NODE_COMPILE_CACHE: '/elsewhere' } })
  await expectExit(named, 0)
  expect(named.out()).toBe('/elsewhere\n')
})
