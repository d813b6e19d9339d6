import { constants, type Stats } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import type { Folder } from './Folder.ts'
import type { EntryPlace, Place } from './PathWalk.ts'
import { quotedPath } from './shownPath.ts'
import { ToolError } from './ToolError.ts'

/**
 * Without waiting: opening a FIFO waits for a writer (fifo(7)), and some files of /proc wait for something to happen. Systems
 * that lack one of these have no need of it.
 */
const FLAGS = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0) | (constants.O_NOCTTY ?? 0)

export interface ReadableFile extends AsyncDisposable {
  readonly handle: FileHandle
  /** As it was when it was opened. */
  readonly info: Stats
}

/**
 * Opens an entry that was a file a moment ago: opening a device may do something. The descriptor is open until the file is
 * disposed of, whatever becomes of `folder`. `path` is for messages.
 * @throws {ToolError} where it is anything but a regular file, or outside by now
 */
export async function openFile(folder: Folder, name: string, path: string): Promise<ReadableFile> {
  const handle = await open(folder.entry(name), FLAGS)
  try {
    const info = await handle.stat()
    if (!info.isFile()) throw notAFile(path, info)
    const isInside = await folder.isInside({ name, handle })
    if (!isInside) throw new ToolError(`${quotedPath(path)} was moved out of the workspace meanwhile`)
    return { handle, info, [Symbol.asyncDispose]: () => handle.close() }
  } catch (error) {
    await handle.close()
    throw error
  }
}

/** @throws {ToolError} where there is nothing, or anything but a regular file */
export function assertFile(place: Place | undefined, path: string): asserts place is EntryPlace {
  if (place === undefined || place.kind === 'missing') throw noSuchFile(path)
  if (place.kind === 'folder') throw isFolder(path)
  if (!place.info.isFile()) throw notAFile(path, place.info)
}

/** @throws {ToolError} where there is something that is not a regular file */
export function assertFileOrNothing(place: Place, path: string): asserts place is Exclude<Place, { kind: 'folder' }> {
  if (place.kind !== 'missing') assertFile(place, path)
}

export function noSuchFile(path: string): ToolError {
  return new ToolError(`there is no file ${quotedPath(path)} in the workspace: look at what is there with a list`)
}

function isFolder(path: string): ToolError {
  return new ToolError(`${quotedPath(path)} is a folder; expected is a file`)
}

function notAFile(path: string, info: Stats): ToolError {
  return new ToolError(`${quotedPath(path)} is ${kindOf(info)}; expected is a file`)
}

function kindOf(info: Stats): string {
  if (info.isDirectory()) return 'a folder'
  if (info.isFIFO()) return 'a FIFO'
  if (info.isSocket()) return 'a socket'
  return 'a device'
}
