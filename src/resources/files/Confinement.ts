import { existsSync } from 'node:fs'
import { lstat, mkdir, realpath } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import type { Folder, OpenFolder } from './Folder.ts'
import { openHeldFolder } from './HeldFolder.ts'
import { openNamedFolder } from './NamedFolder.ts'
import { PathWalk, type Place } from './PathWalk.ts'
import { segmentsOf } from './segmentsOf.ts'
import { unless } from './systemError.ts'
import { ToolError } from './ToolError.ts'

/**
 * One folder, and the ways from it to what is inside. Links are followed by hand, name by name, with every folder on the way
 * held open (`HeldFolder`), so that no path leads out, whatever another process does to the names meanwhile.
 *
 * Three things are out of reach. A hard link to a file elsewhere is that file, and is read (it is never written through: a write
 * puts a new file in its place). A folder of elsewhere that is moved or mounted into the workspace is inside. And it bounds what
 * is done through it, not what other tools of the job do.
 */
export class Confinement {
  readonly #root: string
  readonly #openFolder: OpenFolder
  /** Resolved once, when the folder above is first seen, so that what a job puts in the place of the workspace is noticed. */
  #realRoot: string | undefined

  /** `root`: absolute, or from the current folder. `openFolder` is for tests; by default whichever is safest here. */
  constructor(root: string, openFolder: OpenFolder = openSafely) {
    this.#root = resolve(root)
    this.#openFolder = openFolder
  }

  /** Whether `path` names the workspace itself. @throws {ToolError} as `find` */
  isRoot(path: string): boolean {
    return segmentsOf([this.#root], path).length === 0
  }

  /**
   * What is at `path`, links resolved; undefined where the workspace or a folder on the way is missing. To be disposed of.
   * @throws {ToolError} where the path leads out of the workspace, or through something that is not a folder
   */
  async find(path: string, signal: AbortSignal): Promise<Place | undefined> {
    const segments = segmentsOf(await this.#names(), path)
    return this.findEntry(segments, signal)
  }

  /** As `find`, by names that were read from folders. */
  async findEntry(segments: readonly string[], signal: AbortSignal): Promise<Place | undefined> {
    const root = await this.#open()
    if (root === undefined) return undefined
    return this.#walk(root, { segments, signal, makesFolders: false })
  }

  /** As `find`, with the missing folders on the way made: the workspace for its owner alone, as jobs have it. */
  async prepare(path: string, signal: AbortSignal): Promise<Place> {
    const segments = segmentsOf(await this.#names(), path)
    const root = (await this.#open()) ?? (await this.#make())
    const place = await this.#walk(root, { segments, signal, makesFolders: true })
    if (place === undefined) throw replaced()
    return place
  }

  #walk(
    root: Folder,
    options: { segments: readonly string[]; signal: AbortSignal; makesFolders: boolean },
  ): Promise<Place | undefined> {
    const roots = [this.#root, this.#realRoot ?? this.#root]
    return new PathWalk(root, { ...options, roots, openRoot: () => this.#open() }).place()
  }

  /** The names under which the workspace is known. */
  async #names(): Promise<readonly [string, ...string[]]> {
    const realRoot = await this.#resolve()
    return realRoot === undefined ? [this.#root] : [this.#root, realRoot]
  }

  async #resolve(): Promise<string | undefined> {
    if (this.#realRoot !== undefined) return this.#realRoot
    const above = await unless(['ENOENT'], realpath(dirname(this.#root)))
    if (above !== undefined) this.#realRoot ??= join(above, basename(this.#root))
    return this.#realRoot
  }

  async #open(): Promise<Folder | undefined> {
    const path = await this.#resolve()
    if (path === undefined) return undefined
    const folder = await this.#openFolder(path).catch(async (error: unknown) => {
      const info = await unless(['ENOENT'], lstat(path))
      if (info === undefined) return undefined
      throw info.isDirectory() ? error : replaced()
    })
    return folder === undefined ? undefined : unmoved(folder)
  }

  async #make(): Promise<Folder> {
    if (this.#realRoot === undefined) await mkdir(this.#root, { recursive: true, mode: 0o700 })
    else await this.#makeAgain(this.#realRoot)
    const folder = await this.#open()
    if (folder === undefined) throw replaced()
    return folder
  }

  /** The folder above was there before, so it is known which one it has to be. */
  async #makeAgain(path: string): Promise<void> {
    await using above = await unmoved(await this.#openFolder(dirname(path)))
    await unless(['EEXIST'], mkdir(above.entry(basename(path)), { mode: 0o700 }))
  }
}

function openSafely(root: string): Promise<Folder> {
  const canHold = process.platform === 'linux' && existsSync('/proc/self/fd')
  return canHold ? openHeldFolder(root) : openNamedFolder(root)
}

/** `folder`, if it is still where it was opened; else it is closed. */
async function unmoved(folder: Folder): Promise<Folder> {
  const isInside = await folder.isInside()
  if (isInside) return folder
  await folder[Symbol.asyncDispose]()
  throw replaced()
}

function replaced(): ToolError {
  return new ToolError(
    'the workspace was moved, or something else was put in its place: expected is a folder where it was before',
  )
}
