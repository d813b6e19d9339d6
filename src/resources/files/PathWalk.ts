import type { Stats } from 'node:fs'
import { lstat, mkdir, readlink } from 'node:fs/promises'
import { isAbsolute, sep } from 'node:path'
import type { Folder } from './Folder.ts'
import { quotedPath } from './shownPath.ts'
import { unless } from './systemError.ts'
import { ToolError } from './ToolError.ts'

/** Where a path leads, inside the workspace and behind all links. */
export type Place = FolderPlace | EntryPlace | MissingPlace

interface PlaceBase extends AsyncDisposable {
  /** The folder that it is, or is in. Open until the place is disposed of. */
  readonly folder: Folder
  /** Below the workspace, with `/`; empty is the workspace. */
  readonly path: string
}

export interface FolderPlace extends PlaceBase {
  readonly kind: 'folder'
}

export interface EntryPlace extends PlaceBase {
  readonly kind: 'entry'
  readonly name: string
  /** Of the entry itself, which was neither a link nor a folder. */
  readonly info: Stats
}

export interface MissingPlace extends PlaceBase {
  readonly kind: 'missing'
  readonly name: string
}

export interface WalkOptions {
  readonly segments: readonly string[]
  /** The names of the workspace, below which an absolute link may lead. */
  readonly roots: readonly string[]
  readonly makesFolders: boolean
  readonly signal: AbortSignal
  /** Opens the workspace again. */
  readonly openRoot: () => Promise<Folder | undefined>
}

/** As many as Linux follows (MAXSYMLINKS). */
const MAX_LINKS = 40

/** Links that lead up make the walk begin anew; with this many steps every honest path is at its end. */
const MAX_STEPS = 1000

/** One way from the workspace to an entry: each folder is opened from the one before, each link is read and followed by hand. */
export class PathWalk {
  readonly #options: WalkOptions
  #folder: Folder
  /** The names from the workspace to `#folder`, none of them a link. */
  #done: string[] = []
  #pending: string[]
  #links = 0

  /** Takes `root` over: it is in the place, or closed. */
  constructor(root: Folder, options: WalkOptions) {
    this.#folder = root
    this.#options = options
    this.#pending = [...options.segments]
  }

  /** Undefined where a folder on the way is missing and is not to be made. @throws {ToolError} */
  async place(): Promise<Place | undefined> {
    try {
      const place = await this.#place()
      if (place === undefined) await this.#close()
      return place
    } catch (error) {
      await this.#close()
      throw error
    }
  }

  async #place(): Promise<Place | undefined> {
    for (let step = 0; step < MAX_STEPS; step += 1) {
      this.#options.signal.throwIfAborted()
      const name = this.#pending.shift()
      if (name === undefined) return { kind: 'folder', ...this.#base() }
      if (name === '..') {
        await this.#goUp()
        continue
      }
      const info = await unless(['ENOENT'], lstat(this.#folder.entry(name)))
      if (info === undefined) {
        if (this.#pending.length === 0) return { kind: 'missing', name, ...this.#base(name) }
        if (!this.#options.makesFolders) return undefined
        await unless(['EEXIST'], mkdir(this.#folder.entry(name)))
        this.#pending.unshift(name)
      } else if (info.isSymbolicLink()) await this.#follow(name)
      else if (info.isDirectory()) await this.#enter(name)
      else if (this.#pending.length === 0) return { kind: 'entry', name, info, ...this.#base(name) }
      else throw new ToolError(`${quotedPath(this.#pathOf(name))} is not a folder, so there is nothing below it`)
    }
    throw new ToolError(`${this.#wanted()} has too many folders and links on the way, or they keep changing`)
  }

  /** The folder that was come to, and how an entry of it is called from the workspace. */
  #base(...entry: readonly string[]): PlaceBase {
    const folder = this.#folder
    return {
      folder,
      path: [...this.#done, ...entry].join('/'),
      [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
    }
  }

  async #enter(name: string): Promise<void> {
    // It may have been swapped or removed since it was looked at; then it is looked at again.
    const next = await unless(['ENOENT', 'ENOTDIR', 'ELOOP'], this.#folder.enter(name))
    if (next === undefined) {
      this.#pending.unshift(name)
      return
    }
    await this.#moveTo(next)
    this.#done.push(name)
    // A folder that was moved meanwhile took what is held open with it.
    if (!(await next.isInside())) throw new ToolError(`${this.#wanted()} was moved out of the workspace meanwhile`)
  }

  async #follow(name: string): Promise<void> {
    const target = await unless(['ENOENT', 'EINVAL'], readlink(this.#folder.entry(name)))
    if (target === undefined) {
      this.#pending.unshift(name)
      return
    }
    this.#links += 1
    if (this.#links > MAX_LINKS) throw new ToolError(`${this.#wanted()} leads through too many symbolic links`)
    const names = namesOf(target)
    if (!isAbsolute(target)) {
      this.#pending.unshift(...names)
      return
    }
    const root = this.#options.roots.map(namesOf).find((root) => root.every((part, index) => names[index] === part))
    if (root === undefined) throw this.#leadsOut(name)
    this.#pending.unshift(...names.slice(root.length))
    await this.#startOver()
  }

  /** To the folder above, as it was come by: opening `..` would lead to wherever the folder has been moved. */
  async #goUp(): Promise<void> {
    const name = this.#done.pop()
    if (name === undefined) throw this.#leadsOut('..')
    this.#pending.unshift(...this.#done)
    await this.#startOver()
  }

  async #startOver(): Promise<void> {
    const root = await this.#options.openRoot()
    if (root === undefined) throw new ToolError(`${this.#wanted()} vanished meanwhile`)
    this.#done = []
    await this.#moveTo(root)
  }

  async #moveTo(next: Folder): Promise<void> {
    const last = this.#folder
    this.#folder = next
    await last[Symbol.asyncDispose]()
  }

  async #close(): Promise<void> {
    await this.#folder[Symbol.asyncDispose]()
  }

  #pathOf(name: string): string {
    return [...this.#done, name].join('/')
  }

  #wanted(): string {
    return `the path ${quotedPath(this.#options.segments.join('/'))}`
  }

  #leadsOut(name: string): ToolError {
    const link = name === '..' ? 'a symbolic link' : `the symbolic link ${quotedPath(this.#pathOf(name))}`
    return new ToolError(`${this.#wanted()} leads out of the workspace through ${link}: use a path inside it`)
  }
}

function namesOf(path: string): string[] {
  return path.split(sep).filter((name) => name !== '' && name !== '.')
}
