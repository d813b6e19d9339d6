import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { realpath, stat } from 'node:fs/promises'
import { basename, extname, join, relative, resolve, sep } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { TaskFailure } from '../job/failure.ts'

export interface Artifact {
  readonly name: string
  /** Below the workspace, with `/`. */
  readonly path: string
  readonly mediaType: string
  readonly bytes: number
  readonly sha256: string
}

const MEDIA_TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css',
  '.csv': 'text/csv',
  '.gif': 'image/gif',
  '.html': 'text/html',
  '.jpeg': 'image/jpeg',
  '.jpg': 'image/jpeg',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.md': 'text/markdown',
  '.pdf': 'application/pdf',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain',
  '.webp': 'image/webp',
}

/** @throws {TaskFailure} `TETHER_INVALID_ARTIFACT` where `path` is not a file inside `workspace`, links followed. */
export async function describeArtifact(
  workspace: string,
  path: string,
  options: { readonly name?: string; readonly mediaType?: string },
): Promise<Artifact> {
  const file = await insideOf(workspace, path)
  const { size } = await stat(file)
  const hash = createHash('sha256')
  await pipeline(createReadStream(file), hash)
  return {
    name: options.name ?? basename(path),
    path: relative(await realpath(workspace), file)
      .split(sep)
      .join('/'),
    mediaType: options.mediaType ?? MEDIA_TYPES[extname(path).toLowerCase()] ?? 'application/octet-stream',
    bytes: size,
    sha256: hash.digest('hex'),
  }
}

async function insideOf(workspace: string, path: string): Promise<string> {
  try {
    const root = await realpath(workspace)
    const file = await realpath(resolve(root, path))
    if (file.startsWith(join(root, sep)) && (await stat(file)).isFile()) return file
  } catch (error) {
    throw new TaskFailure('TETHER_INVALID_ARTIFACT', `there is no file ${JSON.stringify(path)} in the workspace`, {
      cause: error,
    })
  }
  throw new TaskFailure('TETHER_INVALID_ARTIFACT', `${JSON.stringify(path)} is not a file inside the workspace`)
}
