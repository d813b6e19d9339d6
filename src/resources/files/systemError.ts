import { quotedPath } from './shownPath.ts'
import { ToolError } from './ToolError.ts'

/** What the system refused for a reason that lies in the path or the disk, which a model can understand and act on. */
const REASONS: Readonly<Record<string, string>> = {
  EACCES: 'permission is denied',
  EPERM: 'the system does not permit it',
  ENOENT: 'it vanished meanwhile; look at what is there with a list',
  ENOTDIR: 'something on the way to it is not a folder',
  EISDIR: 'it is a folder; expected is a file',
  ELOOP: 'it became a symbolic link meanwhile; try again',
  EEXIST: 'something of that name appeared meanwhile; try again',
  ENOTEMPTY: 'it is a folder that is not empty; expected is a file',
  ENAMETOOLONG: 'a name in it is too long; a name has at most 255 bytes',
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EROFS: 'it is on a file system that cannot be written to',
  EFBIG: 'it is too large for the file system',
  EBUSY: 'the system uses it',
  ETXTBSY: 'it is a program that runs',
  EAGAIN: 'there is nothing to be read in it now',
  ENXIO: 'it is not a file that can be opened',
}

export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

/** What a model is told of `error`, where it was meant for it or the system refused `path` for a reason of the path's. */
export function toolErrorFor(error: unknown, path: string): ToolError | undefined {
  if (error instanceof ToolError) return error
  const reason = REASONS[codeOf(error) ?? '']
  return reason === undefined ? undefined : new ToolError(`${quotedPath(path)}: ${reason}`, { cause: error })
}

/** The result of `work`, or undefined where the system refused with one of `codes`. */
export async function unless<T>(codes: readonly string[], work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if (codes.includes(codeOf(error) ?? '')) return undefined
    throw error
  }
}
