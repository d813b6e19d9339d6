import { createHash } from 'node:crypto'
import { basename, extname } from 'node:path'
import { TaskFailure } from '../job/failure.ts'
import { chunksOf } from '../resources/files/chunksOf.ts'
import { ToolError } from '../resources/files/ToolError.ts'
import { WorkspaceFiles } from '../resources/files/WorkspaceFiles.ts'

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
  options: { readonly name?: string; readonly mediaType?: string; readonly signal: AbortSignal },
): Promise<Artifact> {
  const { name = basename(path), mediaType, signal } = options
  try {
    await using file = await new WorkspaceFiles(workspace).open(path, signal)
    const hash = createHash('sha256')
    let bytes = 0
    for await (const chunk of chunksOf(file, signal)) {
      hash.update(chunk)
      bytes += chunk.length
    }
    return {
      name,
      path: file.path,
      mediaType: mediaType ?? MEDIA_TYPES[extname(path).toLowerCase()] ?? 'application/octet-stream',
      bytes,
      sha256: hash.digest('hex'),
    }
  } catch (error) {
    if (!(error instanceof ToolError)) throw error
    throw new TaskFailure('TETHER_INVALID_ARTIFACT', error.message, { cause: error })
  }
}
