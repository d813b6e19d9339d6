import { mkdir, open, realpath } from 'node:fs/promises'
import { basename, dirname, join, sep } from 'node:path'

/** A folder right below the workspace into which files are put that the browser makes. */
export class WorkspaceFolder {
  readonly #workspace: string
  readonly #name: string

  constructor(workspace: string, name: string) {
    this.#workspace = workspace
    this.#name = name
  }

  /**
   * Makes an empty file there: the first of `nameOf(1)`, `nameOf(2)` and so on that is free. `path` is below the workspace, with
   * `/`. @throws {Error} where the folder is a link that leads out of the workspace
   */
  async create(nameOf: (number: number) => string): Promise<{ readonly path: string; readonly file: string }> {
    const folder = join(this.#workspace, this.#name)
    await mkdir(folder, { recursive: true })
    // The workspace itself must not be a link: only what is above it is resolved.
    const root = join(await realpath(dirname(this.#workspace)), basename(this.#workspace))
    const real = await realpath(folder)
    if (!real.startsWith(join(root, sep))) throw new Error(`the folder ${this.#name} of the workspace leads out of it`)
    for (let number = 1; ; number += 1) {
      const name = nameOf(number)
      if (await isMade(join(folder, name))) return { path: `${this.#name}/${name}`, file: join(folder, name) }
    }
  }
}

/** False where something of that name is there, also a link that leads nowhere. */
async function isMade(file: string): Promise<boolean> {
  try {
    await (await open(file, 'wx')).close()
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw error
  }
}
