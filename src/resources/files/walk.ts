import type { Dirent } from 'node:fs'
import { opendir } from 'node:fs/promises'
import type { Confinement } from './Confinement.ts'
import type { Folder } from './Folder.ts'
import type { Place } from './PathWalk.ts'
import { isDraft } from './replaceFile.ts'
import { toolErrorFor } from './systemError.ts'

export interface Entry {
  readonly name: string
  /** Below the workspace, with `/`. */
  readonly path: string
  readonly kind: 'file' | 'folder' | 'link' | 'special'
  /** A folder that is not looked into. */
  readonly isSkipped: boolean
}

export type Visit =
  | {
      readonly kind: 'folder'
      /** Open until the next visit. */
      readonly folder: Folder
      /** In the order of their names, by code units. */
      readonly entries: readonly Entry[]
      /** Whether this was the last visit because too many entries were looked at. */
      readonly isCut: boolean
    }
  /** A folder that was there and could not be read, mostly for lack of permission. */
  | { readonly kind: 'unreadable' }

export interface WalkOptions {
  /** Below the workspace, with `/`; empty is the workspace. */
  readonly start: string
  readonly maxVisited: number
  /** Whether folders of this name are looked into although they are among those that are skipped. */
  readonly asksFor: (name: string) => boolean
  readonly signal: AbortSignal
}

/** Folders of what others wrote, or programs for themselves. */
const SKIPPED: ReadonlySet<string> = new Set([
  '.cache',
  '.git',
  '.gradle',
  '.hg',
  '.mypy_cache',
  '.next',
  '.nuxt',
  '.pytest_cache',
  '.ruff_cache',
  '.svn',
  '.tox',
  '.turbo',
  '.venv',
  '__pycache__',
  'bower_components',
  'node_modules',
])

/** Entries that are taken from the system at a time. */
const BATCH = 256

/**
 * Visits a folder and those below it, nearer ones first: where a limit ends it, what is missing is the deepest. Links are not
 * followed. Names that are not UTF-8 cannot be given to Node as text, and what bears them cannot be opened.
 */
export async function* walk(confinement: Confinement, options: WalkOptions): AsyncGenerator<Visit> {
  const waiting = [options.start]
  let left = options.maxVisited
  // It grows while it is gone through.
  for (const path of waiting) {
    try {
      await using place = await reopened(confinement, path, options.signal)
      if (place === undefined) continue
      const entries = await entriesOf(place, left + 1, options)
      const isCut = entries.length > left
      if (isCut) entries.pop()
      left -= entries.length
      for (const entry of entries) if (entry.kind === 'folder' && !entry.isSkipped) waiting.push(entry.path)
      yield { kind: 'folder', folder: place.folder, entries, isCut }
      if (isCut) return
    } catch (error) {
      // The job's processes may take a folder away, or close it, at any time; that is no reason to tell of none.
      if (toolErrorFor(error, path) === undefined) throw error
      yield { kind: 'unreadable' }
    }
  }
}

/** The folder, if it still is where it was seen. */
async function reopened(confinement: Confinement, path: string, signal: AbortSignal): Promise<Place | undefined> {
  const place = await confinement.findEntry(path === '' ? [] : path.split('/'), signal)
  if (place?.kind === 'folder' && place.path === path) return place
  await place?.[Symbol.asyncDispose]()
  return undefined
}

async function entriesOf(place: Place, max: number, { asksFor, signal }: WalkOptions): Promise<Entry[]> {
  const entries: Entry[] = []
  for await (const found of await opendir(place.folder.path, { bufferSize: BATCH })) {
    signal.throwIfAborted()
    const { name } = found
    if (isDraft(name)) continue
    if (entries.length >= max) break
    const kind = kindOf(found)
    const isSkipped = kind === 'folder' && SKIPPED.has(name) && !asksFor(name)
    entries.push({ name, path: place.path === '' ? name : `${place.path}/${name}`, kind, isSkipped })
  }
  return entries.sort((a, b) => (a.name < b.name ? -1 : 1))
}

function kindOf(entry: Dirent): Entry['kind'] {
  if (entry.isFile()) return 'file'
  if (entry.isDirectory()) return 'folder'
  return entry.isSymbolicLink() ? 'link' : 'special'
}
