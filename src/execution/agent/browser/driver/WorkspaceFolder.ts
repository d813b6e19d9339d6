import type { FileHandle } from 'node:fs/promises'
import { WorkspaceFiles } from '../../../../resources/files/WorkspaceFiles.ts'

const NEVER = new AbortController().signal

/** A folder right below the workspace into which files are put that the browser makes. */
export class WorkspaceFolder {
  readonly #files: WorkspaceFiles
  readonly #name: string

  constructor(workspace: string, name: string) {
    this.#files = new WorkspaceFiles(workspace)
    this.#name = name
  }

  /**
   * Makes an empty file there, to be closed by the caller: the first of `nameOf(1)`, `nameOf(2)` and so on that is free. `path` is
   * below the workspace, with `/`. @throws {ToolError} where that leads out of the workspace
   */
  async create(nameOf: (number: number) => string): Promise<{ readonly path: string; readonly file: FileHandle }> {
    for (let number = 1; ; number += 1) {
      const path = `${this.#name}/${nameOf(number)}`
      const file = await this.#files.create(path, NEVER)
      if (file !== undefined) return { path, file }
    }
  }
}
