import { lstat, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import type { Folder, OpenedFile } from './Folder.ts'
import { isWithin } from './isWithin.ts'

/**
 * A folder known by its name, where there is no `/proc/self/fd`: looked at before it is used and after. Who swaps it for a link
 * exactly between a look and the call, and back before the next, is not seen. Nothing in Node closes that gap there.
 */
class NamedFolder implements Folder {
  readonly path: string
  readonly #root: string

  constructor(path: string, root: string) {
    this.path = path
    this.#root = root
  }

  entry(name: string): string {
    return join(this.path, name)
  }

  async enter(name: string): Promise<Folder> {
    const path = this.entry(name)
    await assertIsFolder(path)
    return new NamedFolder(path, this.#root)
  }

  async isInside(file?: OpenedFile): Promise<boolean> {
    return isWithin(this.#root, await realpath(file === undefined ? this.path : this.entry(file.name)))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Nothing is held.
  }
}

export async function openNamedFolder(root: string): Promise<Folder> {
  await assertIsFolder(root)
  return new NamedFolder(root, root)
}

async function assertIsFolder(path: string): Promise<void> {
  if ((await lstat(path)).isDirectory()) return
  throw Object.assign(new Error(`${path} is not a folder`), { code: 'ENOTDIR' })
}
