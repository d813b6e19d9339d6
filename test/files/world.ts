import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished } from 'vitest'
import type { OpenFolder } from '../../src/resources/files/Folder.ts'
import { openHeldFolder } from '../../src/resources/files/HeldFolder.ts'
import { openNamedFolder } from '../../src/resources/files/NamedFolder.ts'
import { ToolError } from '../../src/resources/files/ToolError.ts'
import { WorkspaceFiles, type WorkspaceFilesOptions } from '../../src/resources/files/WorkspaceFiles.ts'

/** A signal that is never aborted. */
export const NEVER = new AbortController().signal

/** Both ways of opening folders, for what has to hold for both. */
export const WAYS: readonly (readonly [string, OpenFolder])[] = [
  ...(process.platform === 'linux' ? [['held by descriptors', openHeldFolder] as const] : []),
  ['known by name', openNamedFolder],
]

/** What no tool may ever show. */
export const SECRET = 'the canary sings'

export interface World {
  readonly root: string
  readonly files: WorkspaceFiles
  /** A folder beside the workspace, with files, which nobody may touch. */
  readonly outside: Outside
}

/** A workspace, which exists, and what is beside it. All of it goes with the test. */
export function openWorld(options: WorkspaceFilesOptions = {}): World {
  const folder = temporaryFolder()
  const root = join(folder, 'workspace')
  mkdirSync(root)
  return { root, files: new WorkspaceFiles(root, options), outside: new Outside(join(folder, 'outside')) }
}

export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'tether-files-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** So that a way that should have led to these names inside finds them outside too, wherever on it a link leads there. */
const OUTSIDE = ['', 'canary.txt', 'b', 'b/canary.txt', 'a', 'a/b', 'a/b/canary.txt']

/** A folder that shows whether anybody read it, wrote to it or looked what is in it. */
export class Outside {
  readonly folder: string
  readonly file: string
  readonly #paths: readonly string[]
  readonly #seen: readonly string[]

  constructor(folder: string) {
    this.folder = folder
    this.file = join(folder, 'canary.txt')
    mkdirSync(join(folder, 'a/b'), { recursive: true })
    mkdirSync(join(folder, 'b'))
    this.#paths = OUTSIDE.map((path) => join(folder, path))
    for (const path of this.#paths) if (path.endsWith('.txt')) writeFileSync(path, SECRET)
    // The kernel notes a read where the last one was before the last change (relatime, mount(8)).
    for (const path of this.#paths) utimesSync(path, new Date('2001-01-01'), new Date('2002-02-02'))
    this.#seen = this.#look()
  }

  /** What is different from the beginning; nothing should be. */
  get traces(): readonly string[] {
    const now = this.#look()
    return [...now.filter((line) => !this.#seen.includes(line)), ...this.#seen.filter((line) => !now.includes(line))]
  }

  #look(): string[] {
    // Times first: the rest of the look changes them.
    const times = this.#paths.map((path) => {
      const { atimeMs, mtimeMs, size } = statSync(path)
      return `${path} was read at ${atimeMs} and changed at ${mtimeMs}, has ${size} bytes`
    })
    const names = namesIn(this.folder)
    const texts = this.#paths.filter((path) => path.endsWith('.txt')).map((path) => readFileSync(path, 'utf8'))
    for (const path of this.#paths) utimesSync(path, new Date('2001-01-01'), statSync(path).mtime)
    return [...times, ...names, ...texts]
  }
}

/** What a model is told where `call` is refused. */
export async function refusal(call: Promise<unknown>): Promise<string> {
  const outcome = await call.then(
    (value) => new Error(`it was not refused: ${JSON.stringify(value)}`),
    (error: unknown) => error,
  )
  if (!(outcome instanceof ToolError)) throw outcome
  return outcome.message
}

/** A signal that aborts itself when it is asked for the time after `checks` times. */
export function abortedAtCheck(checks: number, onCheck: (check: number) => void = () => undefined) {
  const controller = new AbortController()
  const { signal } = controller
  const counted = { signal, checks: 0, reason: new Error('nobody wants it any more') }
  signal.throwIfAborted = () => {
    onCheck(counted.checks)
    if (counted.checks >= checks) controller.abort(counted.reason)
    counted.checks += 1
    AbortSignal.prototype.throwIfAborted.call(signal)
  }
  return counted
}

/** How many descriptors this process has open. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length
}

/** What is in `root`, at any depth, by paths below it. Links are not followed; Node 26 follows them where it is asked for all. */
export function namesIn(root: string, below = ''): string[] {
  return readdirSync(join(root, below), { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(below, entry.name)
      return entry.isDirectory() ? [path, ...namesIn(root, path)] : [path]
    })
    .toSorted()
}

export function expectUntouched(outside: Outside): void {
  expect(outside.traces).toEqual([])
}
