import { isUtf8 } from 'node:buffer'
import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, lstat, open } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { type Clock, systemClock } from '../../clock.ts'
import { Confinement } from './Confinement.ts'
import { chunksOf } from './chunksOf.ts'
import { type Edit, editedText } from './editedText.ts'
import type { OpenFolder } from './Folder.ts'
import { DEFAULT_LIMITS, type FileLimits } from './limits.ts'
import { type ListOptions, type ListResult, listing } from './listing.ts'
import { assertFile, assertFileOrNothing, noSuchFile, openFile, type ReadableFile } from './openFile.ts'
import type { EntryPlace } from './PathWalk.ts'
import { type ReadOptions, type ReadResult, readNumbered } from './readNumbered.ts'
import { replaceFile } from './replaceFile.ts'
import { Search, type SearchOptions, type SearchResult } from './Search.ts'
import { quotedPath } from './shownPath.ts'
import { toolErrorFor, unless } from './systemError.ts'
import { ToolError } from './ToolError.ts'

export interface WriteResult {
  /** Of the file, as UTF-8. */
  readonly bytes: number
  /** Whether there was no file before. */
  readonly isNew: boolean
}

export interface EditResult {
  readonly replacements: number
  /** Of the whole file now. */
  readonly bytes: number
}

export interface OpenedFile extends ReadableFile {
  /** Below the workspace, with `/`, links resolved. */
  readonly path: string
}

export interface WorkspaceFilesOptions {
  /** Default: `DEFAULT_LIMITS`. */
  readonly limits?: Partial<FileLimits>
  readonly clock?: Clock
  /** How the workspace is opened. Default: whichever way is safest on this system; see `HeldFolder` and `NamedFolder`. */
  readonly openFolder?: OpenFolder
}

const CREATE_FLAGS =
  constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_APPEND | (constants.O_NOFOLLOW ?? 0)

/**
 * The last write to each workspace that is being written to. By its path: agents of one job, each with an object of its own, may
 * work in the same one. None of them rejects.
 */
const lastWrites = new Map<string, Promise<unknown>>()

/**
 * What a model does with the files of one folder, the workspace. Paths are below it, or absolute and inside it; whatever is in a
 * path and whatever links there are, nothing outside is read, written or listed (`Confinement` says how, and what is out of its
 * reach). That bounds these tools alone: a model that also has a terminal may do there what the server's user may.
 *
 * The workspace need not exist: it is made by the first write. Ask for something here before a process of the job runs, or let
 * nobody else write to the folders above it: what they lead to then is taken for right.
 *
 * Every method rejects with a `ToolError` where the model is to be told what was wrong, with the signal's reason once that is
 * aborted (after at most one call to the system, with all that it had opened closed), and with any other error for a defect.
 */
export class WorkspaceFiles {
  readonly #root: string
  readonly #confinement: Confinement
  readonly #limits: FileLimits
  readonly #clock: Clock

  constructor(root: string, { limits, clock = systemClock, openFolder }: WorkspaceFilesOptions = {}) {
    this.#root = resolve(root)
    this.#confinement = new Confinement(this.#root, openFolder)
    this.#limits = { ...DEFAULT_LIMITS, ...limits }
    this.#clock = clock
  }

  /**
   * A file's lines with their numbers, as `cat -n` writes them: the number in six columns, a tab, the line without its end. At
   * most 2000 lines and 64 KiB; of a line 2000 UTF-16 units; a note in square brackets says what was cut and how to go on. Bytes
   * that are not UTF-8 show as U+FFFD. A file with a NUL in what is read is binary, and refused, as is everything that is no file.
   */
  read(path: string, options: ReadOptions, signal: AbortSignal): Promise<ReadResult> {
    return told(path, signal, async () => {
      await using file = await this.#open(path, signal)
      return await readNumbered(file, { ...options, path, limits: this.#limits, signal })
    })
  }

  /** A file, for reading by whoever asks; to be disposed of. What it is called outside may change, the file does not. */
  open(path: string, signal: AbortSignal): Promise<OpenedFile> {
    return told(path, signal, () => this.#open(path, signal))
  }

  /**
   * Makes an empty file, and the folders on the way, for appending by whoever asks, who closes it. Undefined where something is
   * there already, a link too, wherever it leads.
   */
  create(path: string, signal: AbortSignal): Promise<FileHandle | undefined> {
    return told(path, signal, async () => {
      // Looked up is the folder alone, by a name that nobody has: a link of the name itself would be followed.
      await using place = await this.#confinement.prepare(join(dirname(path), `.tether-${randomUUID()}`), signal)
      return await unless(['EEXIST'], open(place.folder.entry(basename(path)), CREATE_FLAGS))
    })
  }

  async #open(path: string, signal: AbortSignal): Promise<OpenedFile> {
    await using place = await this.#confinement.find(path, signal)
    assertFile(place, path)
    return { ...(await openFile(place.folder, place.name, path)), path: place.path }
  }

  /**
   * Makes `path` a file with `text`, at most 4 MiB of UTF-8, and the folders on the way. A file that is there is replaced in one
   * step: whoever looks, or whatever dies, finds the old or the new one. It keeps its permissions; its owner and its hard links
   * are those of a new file. An abort that comes before that step changes nothing, except that folders may have been made.
   */
  write(path: string, text: string, signal: AbortSignal): Promise<WriteResult> {
    return this.#inTurn(path, signal, async () => {
      if (path.endsWith('/')) throw new ToolError(`${quotedPath(path)} names a folder; expected is a file`)
      const data = this.#encoded(path, text)
      await using place = await this.#confinement.prepare(path, signal)
      assertFileOrNothing(place, path)
      await replaceFile(place, data, { signal, ...(place.kind === 'entry' ? { mode: place.info.mode } : {}) })
      return { bytes: data.length, isNew: place.kind === 'missing' }
    })
  }

  /**
   * Replaces `oldText`, which must be in the file exactly once, or any number of times with `all`. Where the file's first line
   * ends with CR LF and neither text has a CR in it, their line ends are taken for CR LF. The file must be UTF-8 of at most 4 MiB,
   * before and after, and is replaced as by `write`. An edit of a file that others change at the same time is refused, as far as
   * that can be seen; writes and edits of one workspace go one after the other in this process.
   */
  edit(path: string, edit: Edit, signal: AbortSignal): Promise<EditResult> {
    return this.#inTurn(path, signal, async () => {
      await using place = await this.#confinement.find(path, signal)
      assertFile(place, path)
      await using file = await openFile(place.folder, place.name, path)
      const text = await this.#textOf(file, path, signal)
      const edited = editedText(text, edit, { path, maxLength: this.#limits.maxFileBytes })
      const data = this.#encoded(path, edited.text)
      await replaceFile(place, data, { mode: file.info.mode, check: () => assertUnchanged(place, file, path), signal })
      return { replacements: edited.replacements, bytes: data.length }
    })
  }

  /**
   * What is in a folder (default: the workspace) and below it: at most 1000 entries, 64 KiB, and 50,000 entries looked at. Folders
   * such as `.git` and `node_modules` are named, and looked into where `path` or `pattern` names them. Links are not followed,
   * except on the way to `path`. A workspace that does not exist is empty.
   */
  list(options: ListOptions & { readonly path?: string }, signal: AbortSignal): Promise<ListResult> {
    const { path = '.', pattern } = options
    return told(path, signal, async () => {
      await using place = await this.#confinement.find(path, signal)
      if (place?.kind === 'entry') throw new ToolError(`${quotedPath(path)} is not a folder; expected is a folder`)
      if (place?.kind !== 'folder' && !this.#confinement.isRoot(path)) throw noSuchFolder(path)
      const start = place?.path ?? ''
      const request = { start, limits: this.#limits, signal, ...(pattern === undefined ? {} : { pattern }) }
      return await listing(this.#confinement, request)
    })
  }

  /**
   * The lines that match in a file, or in the files of a folder (default: the workspace) and below it, those nearer to it first.
   * At most 200 lines of 300 UTF-16 units, 64 KiB, 50,000 entries looked at, and 10 s. It passes over what `list` passes over,
   * and binary files (a NUL in the first 64 KiB). A pattern is of one line; lines end with LF or CR LF.
   *
   * It runs on the event loop, 4 ms at a time for all searches of the process together, in time that is linear in the text
   * whatever the pattern is (`LineMatcher`). A thread for each search would take 40 ms and 9 to 27 MB to come up (Node 26), and
   * JavaScript's own engine, or `grep`'s with references, would keep a processor busy until somebody's patience ends.
   */
  search(pattern: string, options: SearchOptions, signal: AbortSignal): Promise<SearchResult> {
    const { path = '.', ...how } = options
    return told(path, signal, async () => {
      const search = new Search({ ...how, pattern, limits: this.#limits, clock: this.#clock, signal })
      await using place = await this.#confinement.find(path, signal)
      if (place?.kind === 'entry') {
        assertFile(place, path)
        await search.searchFile(place.folder, place.name, place.path)
      } else if (place?.kind === 'folder') await search.searchTree(this.#confinement, place.path)
      else if (!this.#confinement.isRoot(path)) throw noSuchFile(path)
      return search.result
    })
  }

  /** One after the other: of two edits of a file at the same time, the later would undo the earlier. */
  #inTurn<T>(path: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const turn = (lastWrites.get(this.#root) ?? Promise.resolve()).then(() => told(path, signal, work))
    const settled = turn
      .catch(() => undefined)
      .finally(() => {
        if (lastWrites.get(this.#root) === settled) lastWrites.delete(this.#root)
      })
    lastWrites.set(this.#root, settled)
    return turn
  }

  async #textOf(file: ReadableFile, path: string, signal: AbortSignal): Promise<string> {
    const { maxFileBytes } = this.#limits
    const chunks: Buffer[] = []
    let bytes = 0
    for await (const chunk of chunksOf(file, signal)) {
      bytes += chunk.length
      if (bytes > maxFileBytes) throw new ToolError(`${quotedPath(path)} has more than ${maxFileBytes} bytes`)
      chunks.push(Buffer.from(chunk))
    }
    const data = Buffer.concat(chunks)
    if (data.includes(0) || !isUtf8(data))
      throw new ToolError(`${quotedPath(path)} is not UTF-8 text, which is expected`)
    return data.toString('utf8')
  }

  #encoded(path: string, text: string): Buffer {
    const { maxFileBytes } = this.#limits
    if (!text.isWellFormed()) throw new ToolError('the text has half of a surrogate pair in it, which no file can hold')
    const data = Buffer.from(text)
    if (data.length > maxFileBytes) {
      throw new ToolError(`${quotedPath(path)} would have ${data.length} bytes; at most ${maxFileBytes} are written`)
    }
    return data
  }
}

/** @throws {ToolError} also for what the system refused for a reason that a model can act on */
async function told<T>(path: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  try {
    signal.throwIfAborted()
    return await work()
  } catch (error) {
    const toolError = toolErrorFor(error, path)
    if (toolError !== undefined) throw toolError
    throw error
  }
}

async function assertUnchanged({ folder, name }: EntryPlace, file: ReadableFile, path: string): Promise<void> {
  const now = await lstat(folder.entry(name))
  const { info } = file
  if (now.ino === info.ino && now.mtimeMs === info.mtimeMs && now.size === info.size) return
  throw new ToolError(`${quotedPath(path)} was changed by somebody else meanwhile: read it again`)
}

function noSuchFolder(path: string): ToolError {
  return new ToolError(`there is no folder ${quotedPath(path)} in the workspace: look at what is there with a list`)
}
