import { lstat } from 'node:fs/promises'
import type { Confinement } from './Confinement.ts'
import type { Folder } from './Folder.ts'
import type { FileLimits } from './limits.ts'
import { globFilter } from './pattern/globFilter.ts'
import { shownPath } from './shownPath.ts'
import { unless } from './systemError.ts'
import { type Entry, walk } from './walk.ts'

export interface ListOptions {
  /**
   * A glob: `*`, `?`, `**`, `[a-z]`, `{one,other}`. With a `/` in it, it is compared with paths below the folder that is listed;
   * without, with names at any depth. Default: everything.
   */
  readonly pattern?: string
}

export interface ListResult {
  /**
   * For the model: an entry a line, by its path below the workspace, what is in a folder behind the folder: `src/`,
   * `src/a.ts  12 bytes`, `src/b.ts  symbolic link`. Then, in square brackets, what was left out. A path with control characters
   * in it is quoted.
   */
  readonly text: string
  readonly entries: number
  /** Whether a limit left something out: then the nearer entries are there, the deeper ones missing. */
  readonly isCut: boolean
}

export interface ListRequest extends ListOptions {
  /** The folder, below the workspace, with `/`. */
  readonly start: string
  readonly limits: FileLimits
  readonly signal: AbortSignal
}

/** @throws {ToolError} where the pattern is no glob */
export async function listing(confinement: Confinement, request: ListRequest): Promise<ListResult> {
  const { start, pattern, limits, signal } = request
  const isWanted = pattern === undefined ? () => true : globFilter(pattern)
  const asked = new Set(`${start}/${pattern ?? ''}`.split('/'))
  const from = start === '' ? 0 : start.length + 1
  const listed = new ListedEntries(limits)
  const options = { start, maxVisited: limits.maxVisited, asksFor: (name: string) => asked.has(name), signal }
  for await (const visit of walk(confinement, options)) {
    if (visit.kind === 'unreadable') {
      listed.unreadable += 1
      continue
    }
    for (const entry of visit.entries) {
      if (listed.isFull) break
      signal.throwIfAborted()
      if (!isWanted(entry.path.slice(from), entry.name)) continue
      const text = await lineFor(visit.folder, entry)
      if (text !== undefined) listed.add(entry.path, text)
    }
    if (visit.isCut) listed.isFull = true
    if (listed.isFull) break
  }
  return listed.result()
}

/** Undefined where it vanished since it was seen. */
async function lineFor(folder: Folder, { kind, name, path, isSkipped }: Entry): Promise<string | undefined> {
  const shown = shownPath(kind === 'folder' ? `${path}/` : path)
  if (kind === 'folder') return isSkipped ? `${shown}  not looked into` : shown
  if (kind === 'link') return `${shown}  symbolic link`
  if (kind === 'special') return `${shown}  not a file`
  const info = await unless(['ENOENT'], lstat(folder.entry(name)))
  return info === undefined ? undefined : `${shown}  ${info.size} bytes`
}

class ListedEntries {
  readonly #limits: FileLimits
  readonly #lines: { readonly key: string; readonly text: string }[] = []
  #bytes = 0
  isFull = false
  /** How many folders could not be read. */
  unreadable = 0

  constructor(limits: FileLimits) {
    this.#limits = limits
  }

  add(path: string, text: string): void {
    this.#bytes += Buffer.byteLength(text) + 1
    this.isFull = this.#lines.length >= this.#limits.maxListed || this.#bytes > this.#limits.maxAnswerBytes
    if (this.isFull) return
    // With `/` before every other character, what is in a folder comes behind it and before the folder's neighbours.
    this.#lines.push({ key: path.replaceAll('/', '\0'), text })
  }

  result(): ListResult {
    const entries = this.#lines.length
    const lines = this.#lines.sort((a, b) => (a.key < b.key ? -1 : 1)).map(({ text }) => text)
    if (entries === 0 && !this.isFull) lines.push('[nothing is there]')
    if (this.isFull) lines.push(`[cut after ${entries} entries: list one of the folders, or use a narrower pattern]`)
    if (this.unreadable > 0) lines.push(`[folders that could not be read: ${this.unreadable}]`)
    return { text: lines.join('\n'), entries, isCut: this.isFull }
  }
}
