import { globSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, test } from 'vitest'

/** What a folder or file of `src` may import of the others. Its own files it may always import. */
interface Rule {
  /** Folders or files of `src`, or `*` for all of it. */
  readonly mayImport: readonly string[]
  /** What it may import with `import type` only, so that nothing of it is loaded. */
  readonly typesOnly?: readonly string[]
  /** Packages and `node:` modules, where they are restricted. */
  readonly packages?: readonly string[]
  /** The only ones outside that may know it, whatever their own rows say. */
  readonly knownTo?: readonly string[]
}

const LEAVES = ['clock.ts', 'config.ts', 'logger.ts', 'waiting.ts']

const CLIENT_OF_BROWSERS = [
  'Backoff',
  'SseParser',
  'TerminalFilter',
  'decodeEvents',
  'error',
  'jobId',
  'plainText',
  'terminal',
].map((name) => `client/${name}.ts`)

/**
 * Who may import whom: the direction of every dependency, in one table. The longest name that fits a file is its row, and
 * what may be imported of a folder holds for all below it.
 */
const RULES: Readonly<Record<string, Rule>> = {
  'main.ts': { mayImport: ['*'] },
  'index.ts': { mayImport: ['*'] },
  // Put the parts together: a server of its own, a part of somebody's app, and what is common to both.
  'tether.ts': { mayImport: ['*'] },
  'plugin.ts': { mayImport: ['*'] },
  'core.ts': { mayImport: ['*'] },
  'openShared.ts': { mayImport: ['*'] },

  server: {
    mayImport: ['jobs', 'execution', 'tracing', 'eventlog', 'store', 'cancellation', 'job', ...LEAVES],
    typesOnly: ['metrics', 'health'],
  },
  // Counted where it happens, read when somebody scrapes: prom-client is loaded then.
  metrics: {
    mayImport: ['job', ...LEAVES],
    typesOnly: ['jobs', 'eventlog', 'server/ServerFigures.ts'],
    packages: ['prom-client'],
  },
  // The API alone, which does nothing where no SDK is registered.
  tracing: { mayImport: ['job', ...LEAVES], typesOnly: ['jobs'], packages: ['@opentelemetry/api'] },
  health: { mayImport: ['job', ...LEAVES], typesOnly: ['jobs', 'metrics'], packages: ['node:fs/promises'] },
  jobs: { mayImport: ['execution', 'resources', 'tracing', 'eventlog', 'store', 'cancellation', 'job', ...LEAVES] },
  execution: { mayImport: ['resources', 'tracing', 'eventlog', 'store', 'cancellation', 'job', ...LEAVES] },
  eventlog: { mayImport: ['store', 'job', ...LEAVES] },
  cancellation: { mayImport: ['job', ...LEAVES] },
  resources: { mayImport: ['job', ...LEAVES] },
  store: { mayImport: ['job', ...LEAVES] },
  // An implementation of a port: whoever uses it sees the port alone.
  'store/sqlite': { mayImport: ['store', 'job', ...LEAVES], knownTo: ['core.ts'] },
  // What only exists where several servers are one: without it nothing of this is loaded.
  cluster: {
    mayImport: ['eventlog', 'store', 'job', ...LEAVES],
    typesOnly: ['jobs/JobQueue.ts', 'jobs/Replicas.ts', 'jobs/SharedEngine.ts'],
    packages: ['ioredis', 'bullmq', 'p-queue', 'node:crypto', 'node:fs', 'node:net', 'node:timers/promises'],
    knownTo: ['openShared.ts'],
  },
  // What a job is: no input or output, no timers.
  job: { mayImport: [], packages: ['uuid'] },

  // What an author of tasks outside this project sees too.
  tasks: { mayImport: ['execution/task.ts', 'job'], typesOnly: ['resources'] },

  // Only the shapes of the wire. Connections are undici's own, so that a program may set how long a silent stream lives.
  client: { mayImport: [], typesOnly: ['job'], packages: ['undici', 'uuid'] },
  // What a page loads of it: `fetch` is all that it needs.
  'client/browser': { mayImport: ['client'], typesOnly: ['job'], packages: [] },
  'client/browser.ts': { mayImport: ['client'], typesOnly: ['job'], packages: [] },
  // The part of the client behind api-client.ts.
  'client/cli': { mayImport: ['client'], typesOnly: ['job'] },
  // Runs in a browser, which has no undici: of the client it has what needs neither that nor Node.
  dashboard: {
    mayImport: CLIENT_OF_BROWSERS,
    typesOnly: ['client', 'job'],
    packages: ['preact', 'preact/hooks', '@tanstack/virtual-core'],
  },

  'clock.ts': { mayImport: [], packages: [] },
  'waiting.ts': { mayImport: ['clock.ts'], packages: [] },
  'logger.ts': { mayImport: [], packages: [] },
  'config.ts': { mayImport: [], packages: ['node:net', 'node:path'] },
}

const SRC = join(import.meta.dirname, '..', 'src')

/** Files that are the way in: they are run, never imported. */
const ENTRIES = ['main.ts', 'index.ts', 'client/node.ts', 'client/browser.ts', 'client/cli/bin.ts']

/** The only files that construct what lives as long as the server. */
const MAKERS = [...ENTRIES, 'tether.ts', 'plugin.ts', 'core.ts']

interface Import {
  readonly specifier: string
  readonly isTypeOnly: boolean
}

/** What is made for one job or one reader, wherever that begins; an isolated task's process has one job, so all is made there. */
const MADE_WHERE_NEEDED = [
  'JobScope',
  'JobLog',
  'JobReader',
  'JobConnections',
  'ModelProviders',
  'Confinement',
  'WorkspaceFiles',
]

/** Every import of a module's text: static, dynamic, re-exported, of types, and of files that it starts as programs. */
function importsOf(text: string): readonly Import[] {
  const code = text.replaceAll(/\/\*[^]*?\*\/|^\s*\/\/.*$/gm, '')
  const statements = code.matchAll(
    /^\s*(?:import|export)\b(?:(\s+type)?\s[\w\s{},*$]*?\bfrom\s+|\s+)['"]([^'"\n]+)['"]/gm,
  )
  const expressions = code.matchAll(/\b(?:import|new URL)\(\s*['"`]([^'"`]+)['"`]/g)
  return [
    ...[...statements].map(([, type, specifier = '']) => ({ specifier, isTypeOnly: type !== undefined })),
    ...[...expressions].map(([, specifier = '']) => ({ specifier, isTypeOnly: false })),
  ]
}

const FILES = globSync('**/*.{ts,tsx}', { cwd: SRC }).toSorted()

/** The row of a file: the longest name that the file is, or is below. */
function rowOf(file: string): string | undefined {
  return Object.keys(RULES)
    .filter((name) => isWithin(file, name))
    .toSorted((a, b) => b.length - a.length)[0]
}

function isWithin(file: string, name: string): boolean {
  return name === '*' || file === name || file.startsWith(`${name}/`)
}

/** Why `file` may not have this import; undefined where it may. */
function objectionTo(file: string, { specifier, isTypeOnly }: Import): string | undefined {
  const row = rowOf(file)
  const rule = row === undefined ? undefined : RULES[row]
  if (row === undefined || rule === undefined) return `${file} has no row in the table`
  if (!specifier.startsWith('.')) {
    const isAllowed = rule.packages === undefined || isTypeOnly || rule.packages.includes(specifier)
    return isAllowed ? undefined : `${file} may not import the package ${specifier}`
  }
  const target = normalize(join(dirname(file), specifier))
  if (target.startsWith('..')) return `${file} may not import ${specifier}, which is outside src`
  if (ENTRIES.includes(target)) return `${file} may not import ${target}: it is a way in`
  const targetRow = rowOf(target)
  if (targetRow === row) return undefined
  const knownTo = targetRow === undefined ? undefined : RULES[targetRow]?.knownTo
  if (knownTo !== undefined && !knownTo.includes(row)) return `${file} may not know ${target}`
  const allowed = isTypeOnly ? [...rule.mayImport, ...(rule.typesOnly ?? [])] : rule.mayImport
  return allowed.some((name) => isWithin(target, name))
    ? undefined
    : `${file} may not import ${isTypeOnly ? 'even types of ' : ''}${target}`
}

/** Classes of other folders of which a file makes instances; errors are data, and thrown by whoever meets them. */
function strangersMadeBy(file: string, text: string): readonly string[] {
  return [...text.matchAll(/^import \{([^}]*)\} from '(\.[^']+)'/gm)]
    .filter(([, , specifier = '']) => rowOf(normalize(join(dirname(file), specifier))) !== rowOf(file))
    .flatMap(([, names = '']) => names.split(',').map((name) => name.trim()))
    .filter((name) => /^[A-Z]\w*$/.test(name) && !/(?:Error|Failure|Stopped)$/.test(name))
    .filter((name) => !MADE_WHERE_NEEDED.includes(name) && new RegExp(`\\bnew ${name}\\b`).test(text))
}

test('imports point down', () => {
  const objections = FILES.flatMap((file) =>
    importsOf(readFileSync(join(SRC, file), 'utf8')).flatMap((found) => objectionTo(file, found) ?? []),
  )
  expect(objections).toEqual([])
})

test('the table has a row for everything in src, and was compared with real files', () => {
  expect(FILES.length).toBeGreaterThan(15)
  expect(FILES.filter((file) => rowOf(file) === undefined)).toEqual([])
  const imports = FILES.flatMap((file) => importsOf(readFileSync(join(SRC, file), 'utf8')))
  expect(imports.filter((found) => found.specifier.startsWith('.')).length).toBeGreaterThan(FILES.length)
  for (const { specifier } of imports) expect(specifier).not.toMatch(/\s/)
})

test('what lives as long as the server is constructed in one place', () => {
  const objections = FILES.flatMap((file) => {
    const row = rowOf(file) ?? ''
    // The client is a program of its own.
    if (MAKERS.includes(file) || isWithin(row, 'client') || isWithin(row, 'dashboard')) return []
    return strangersMadeBy(file, readFileSync(join(SRC, file), 'utf8')).map((name) => `${file} constructs ${name}`)
  })
  expect(objections).toEqual([])
  expect(strangersMadeBy('jobs/a.ts', "import { A } from '../store/A.ts'\nnew A()\nnew Map()")).toEqual(['A'])
  expect(strangersMadeBy('jobs/a.ts', "import { A } from './A.ts'\nnew A()")).toEqual([])
})

describe('an import is seen', () => {
  test.each([
    ["import { a } from './a.ts'", './a.ts', false],
    ["import {\n  a,\n  b,\n} from '../b/a.ts'", '../b/a.ts', false],
    ["import type { A } from './a.ts'", './a.ts', true],
    ["import { type A } from './a.ts'", './a.ts', false],
    ["import * as a from './a.ts'", './a.ts', false],
    ["import a from 'node:fs'", 'node:fs', false],
    ["import './a.ts'", './a.ts', false],
    ["export { a } from './a.ts'", './a.ts', false],
    ["export * from './a.ts'", './a.ts', false],
    ["export type { A } from './a.ts'", './a.ts', true],
    ["const a = await import('./a.ts')", './a.ts', false],
    ["type A = import('./a.ts').A", './a.ts', false],
    ["spawn(new URL('./a.ts', import.meta.url))", './a.ts', false],
  ])('%j', (text, specifier, isTypeOnly) => {
    expect(importsOf(`const x = 1\n${text}\n`)).toEqual([{ specifier, isTypeOnly }])
  })

  test.each([
    "// import { a } from './a.ts'",
    "/** import('./a.ts') */",
    "const from = './a.ts'",
    "export const a = 'b'",
  ])('and %j is none', (text) => {
    expect(importsOf(`${text}\n`)).toEqual([])
  })
})

test.each([
  ['job/status.ts', '../store/JobStore.ts', false],
  ['job/status.ts', '../store/JobStore.ts', true],
  ['job/status.ts', 'node:fs', false],
  ['execution/a.ts', '../jobs/JobManager.ts', true],
  ['jobs/a.ts', '../main.ts', false],
  ['tasks/command.ts', '../execution/Execution.ts', false],
  ['tasks/command.ts', '../resources/processes/Containment.ts', false],
  ['client/a.ts', '../job/status.ts', false],
  ['client/a.ts', './cli/a.ts', false],
  ['client/a.ts', 'node:fs', false],
  ['server/a.ts', '../../scripts/a.ts', false],
  ['jobs/a.ts', '../store/sqlite/SqliteJobStore.ts', true],
  ['jobs/a.ts', '../cluster/RedisJobStore.ts', true],
  ['tether.ts', './cluster/RedisJobStore.ts', true],
  ['main.ts', './cluster/RedisJobStore.ts', true],
  ['cluster/a.ts', '../jobs/JobManager.ts', true],
  ['cluster/a.ts', '../jobs/JobQueue.ts', false],
  ['cluster/a.ts', '../store/sqlite/SqliteJobStore.ts', false],
  ['newfolder/a.ts', '../job/status.ts', true],
])('%s importing %s (types only: %s) is objected to', (file, specifier, isTypeOnly) => {
  expect(objectionTo(file, { specifier, isTypeOnly })).toBeDefined()
})

test.each([
  ['tasks/command.ts', '../execution/task.ts', false],
  ['tasks/command.ts', '../resources/processes/Containment.ts', true],
  ['client/a.ts', '../job/status.ts', true],
  ['client/cli/a.ts', '../a.ts', false],
  ['store/sqlite/a.ts', '../JobStore.ts', false],
  ['main.ts', './server/a.ts', false],
  ['openShared.ts', './cluster/RedisJobStore.ts', false],
  ['cluster/a.ts', '../store/JobStore.ts', false],
])('%s importing %s (types only: %s) is fine', (file, specifier, isTypeOnly) => {
  expect(objectionTo(file, { specifier, isTypeOnly })).toBeUndefined()
})
