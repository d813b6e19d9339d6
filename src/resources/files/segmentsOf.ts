import { isAbsolute, relative, resolve, sep } from 'node:path'
import { quotedPath } from './shownPath.ts'
import { ToolError } from './ToolError.ts'

/** As long as Linux takes a path in one call (PATH_MAX); nobody means a longer one. */
const MAX_PATH_LENGTH = 4096

/**
 * What a model wrote as a path, as the names of the folders on the way from the workspace and of the entry itself, without `.`
 * and `..`; none is the workspace. `..` takes back the name before it, as it does for `node:path`, without a look at the disk.
 * `roots` are the names under which the workspace is known: an absolute path must be below one of them.
 * @throws {ToolError} where the path leads out of the workspace, or is no path
 */
export function segmentsOf(roots: readonly [string, ...string[]], path: string): string[] {
  assertIsPath(path)
  const candidates = isAbsolute(path) ? roots : [roots[0]]
  for (const root of candidates) {
    const below = relative(root, resolve(root, path))
    if (below === '') return []
    const segments = below.split(sep)
    // On Windows, a path on another drive stays absolute.
    if (segments[0] !== '..' && !isAbsolute(below)) return segments
  }
  throw new ToolError(
    `the path ${quotedPath(path)} leads out of the workspace: use a path inside it, such as "src/main.ts"`,
  )
}

function assertIsPath(path: string): void {
  const refuse = (why: string): never => {
    throw new ToolError(`the path ${quotedPath(path)} ${why}: use a path inside the workspace, such as "src/main.ts"`)
  }
  if (path.includes('\0')) refuse('has a NUL character in it')
  if (path.length > MAX_PATH_LENGTH) refuse(`is longer than ${MAX_PATH_LENGTH} characters`)
  // Taken literally, these would make folders with such names, and a later `rm -r ~` in a shell would mean another folder.
  if (/^~(?:\/|$)/.test(path)) refuse('begins with ~, which is not expanded (./~ is a file or folder of that name)')
  if (/^[a-z][a-z\d+.-]*:\/\//i.test(path)) refuse('is a URL')
}
