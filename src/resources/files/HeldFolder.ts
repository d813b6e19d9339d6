import { constants, readlinkSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import type { Folder, OpenedFile } from './Folder.ts'
import { isWithin } from './isWithin.ts'

const DESCRIPTORS = '/proc/self/fd'
const FOLDER_FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW

/**
 * A folder held by a descriptor, on Linux. Entries are reached through `/proc/self/fd`, where the kernel starts from the folder
 * itself: whatever another process puts in the place of its name, or of the names above it, nothing is looked up there again.
 * This is what `openat` does, which Node does not have (proc(5), path_resolution(7)).
 */
class HeldFolder implements Folder {
  readonly path: string
  readonly #handle: FileHandle
  readonly #root: string

  constructor(handle: FileHandle, root: string) {
    this.#handle = handle
    this.#root = root
    this.path = `${DESCRIPTORS}/${handle.fd}`
  }

  entry(name: string): string {
    return `${this.path}/${name}`
  }

  async enter(name: string): Promise<Folder> {
    return new HeldFolder(await open(this.entry(name), FOLDER_FLAGS), this.#root)
  }

  async isInside(file?: OpenedFile): Promise<boolean> {
    // Not through the thread pool: the kernel has the answer in memory, a few microseconds away.
    return isWithin(this.#root, readlinkSync(`${DESCRIPTORS}/${(file?.handle ?? this.#handle).fd}`))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close()
  }
}

export async function openHeldFolder(root: string): Promise<Folder> {
  return new HeldFolder(await open(root, FOLDER_FLAGS), root)
}
