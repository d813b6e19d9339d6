import { createReadStream } from 'node:fs'
import { readdir, realpath, rm, stat } from 'node:fs/promises'
import { join, relative, resolve, sep } from 'node:path'
import type { Readable } from 'node:stream'
import { TetherError } from '../job/error.ts'
import { type JobKey, type JobRef, parseKey } from '../job/key.ts'

/** One file that a job left. `path` is below its workspace, with `/`; `modifiedAt` is ISO 8601. */
export interface WorkspaceFile {
  readonly path: string
  readonly bytes: number
  readonly modifiedAt: string
}

/** No answer lists more files than this; a job that leaves a dependency tree would otherwise answer with megabytes. */
const MAX_LISTED = 10_000

/** The folders in which jobs leave files, one a job, below one root. */
export class Workspaces {
  readonly #root: string

  constructor(root: string) {
    this.#root = root
  }

  /** The jobs that have a folder here. What was put here by another hand is none of them. */
  async owners(): Promise<readonly JobRef[]> {
    return (await readdir(this.#root)).map(parseKey).filter((ref) => ref !== undefined)
  }

  async list(key: JobKey): Promise<readonly WorkspaceFile[]> {
    const folder = join(this.#root, key)
    const files: WorkspaceFile[] = []
    for (const entry of await entriesOf(folder)) {
      if (files.length >= MAX_LISTED) break
      if (!entry.isFile()) continue
      const path = join(entry.parentPath, entry.name)
      const { size, mtime } = await stat(path)
      files.push({ path: relative(folder, path).split(sep).join('/'), bytes: size, modifiedAt: mtime.toISOString() })
    }
    return files
  }

  /** @throws {TetherError} `TETHER_JOB_NOT_FOUND` where `path`, links followed, is no file inside the workspace */
  async open(key: JobKey, path: string): Promise<{ readonly stream: Readable; readonly bytes: number }> {
    const missing = new TetherError(
      'TETHER_JOB_NOT_FOUND',
      `the job left no file ${JSON.stringify(path.slice(0, 200))}`,
    )
    if (path.includes('\0')) throw missing
    try {
      const root = await realpath(join(this.#root, key))
      const file = await realpath(resolve(root, path))
      if (!file.startsWith(`${root}${sep}`)) throw missing
      const info = await stat(file)
      if (!info.isFile()) throw missing
      return { stream: createReadStream(file), bytes: info.size }
    } catch (error) {
      if (isAbsent(error)) throw missing
      throw error
    }
  }

  async remove(key: JobKey): Promise<void> {
    await rm(join(this.#root, key), { recursive: true, force: true })
  }
}

async function entriesOf(folder: string): Promise<Awaited<ReturnType<typeof readEntries>>> {
  try {
    return await readEntries(folder)
  } catch (error) {
    if (isAbsent(error)) return []
    throw error
  }
}

function readEntries(folder: string) {
  return readdir(folder, { recursive: true, withFileTypes: true })
}

function isAbsent(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')
}
