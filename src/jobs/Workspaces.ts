import type { Stats } from 'node:fs'
import { lstat, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { pipeline, type Readable, Transform } from 'node:stream'
import { TetherError } from '../job/error.ts'
import { type JobKey, type JobRef, parseKey } from '../job/key.ts'
import { Confinement } from '../resources/files/Confinement.ts'
import { unless } from '../resources/files/systemError.ts'
import { ToolError } from '../resources/files/ToolError.ts'
import { type OpenedFile, WorkspaceFiles } from '../resources/files/WorkspaceFiles.ts'
import { walk } from '../resources/files/walk.ts'

/** One file that a job left. `path` is below its workspace, with `/`; `modifiedAt` is ISO 8601. */
export interface WorkspaceFile {
  readonly path: string
  readonly bytes: number
  readonly modifiedAt: string
}

/** No answer lists more files than this; a job that leaves a dependency tree would otherwise answer with megabytes. */
const MAX_LISTED = 10_000
/** Entries looked at for it. */
const MAX_VISITED = 50_000

/** A file that was seen and is gone now, or that the server may not look at. */
const ABSENT = ['ENOENT', 'ENOTDIR', 'EACCES', 'EPERM']

/** ECMA-262, 21.4.1.1. */
const MAX_DATE_MS = 8.64e15

const NEVER = new AbortController().signal

/**
 * The folders in which jobs leave files, one a job, below one root. What is in them is a job's, and may be anything, and change at
 * any time, the folder itself included: nothing outside of it is ever listed or handed out.
 */
export class Workspaces {
  readonly #root: string

  constructor(root: string) {
    this.#root = root
  }

  /** The jobs that have a folder here. What was put here by another hand is none of them. */
  async owners(): Promise<readonly JobRef[]> {
    return (await readdir(this.#root)).map(parseKey).filter((ref) => ref !== undefined)
  }

  /** When something was last put into the folder itself, or taken out of it (wall time, ms); undefined where there is none. */
  async changedAt(key: JobKey): Promise<number | undefined> {
    return (await unless(ABSENT, lstat(join(this.#root, key))))?.mtimeMs
  }

  /** Nearer ones first. A file that cannot be opened by a name that is UTF-8 is left out, and so is one that vanishes meanwhile. */
  async list(key: JobKey): Promise<readonly WorkspaceFile[]> {
    const files: WorkspaceFile[] = []
    const everything = { start: '', maxVisited: MAX_VISITED, asksFor: () => true, signal: NEVER }
    for await (const visit of walk(new Confinement(join(this.#root, key)), everything)) {
      if (visit.kind === 'unreadable') continue
      for (const { kind, name, path } of visit.entries) {
        if (kind !== 'file') continue
        if (files.length >= MAX_LISTED) return files
        const info = await unless(ABSENT, lstat(visit.folder.entry(name)))
        if (info?.isFile() !== true) continue
        files.push({ path, bytes: info.size, modifiedAt: timeOf(info) })
      }
    }
    return files
  }

  /** @throws {TetherError} `TETHER_JOB_NOT_FOUND` where `path`, links followed, is no file inside the workspace */
  async open(key: JobKey, path: string): Promise<{ readonly stream: Readable; readonly bytes: number }> {
    try {
      // A name that begins with ~ is one like others here.
      const file = await new WorkspaceFiles(join(this.#root, key)).open(`./${path}`, NEVER)
      return { stream: await contentOf(file), bytes: file.info.size }
    } catch (error) {
      if (!(error instanceof ToolError)) throw error
      throw new TetherError('TETHER_JOB_NOT_FOUND', `the job left no file ${JSON.stringify(path.slice(0, 200))}`, {
        cause: error,
      })
    }
  }

  async remove(key: JobKey): Promise<void> {
    await rm(join(this.#root, key), { recursive: true, force: true })
  }
}

/** A file system may keep times that a Date cannot have. */
function timeOf({ mtimeMs }: Stats): string {
  return new Date(Math.min(Math.max(mtimeMs, -MAX_DATE_MS), MAX_DATE_MS)).toISOString()
}

/** As many bytes as the file had when it was opened; it fails where they are not there any more. Closes it at its end. */
async function contentOf({ handle, info }: OpenedFile): Promise<Readable> {
  if (!Number.isSafeInteger(info.size)) {
    await handle.close()
    throw new ToolError(`a file of ${info.size} bytes cannot be handed out`)
  }
  let missing = info.size
  const counted = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      missing -= chunk.length
      done(null, chunk)
    },
    flush: (done) => done(missing === 0 ? null : new Error(`the file ended ${missing} bytes early`)),
  })
  const content = handle.createReadStream(info.size === 0 ? { start: 0 } : { start: 0, end: info.size - 1 })
  return pipeline(content, counted, () => undefined)
}
