import { readFileSync } from 'node:fs'
import { join, posix } from 'node:path'

/**
 * The folders under which control groups may be made, best first: our own group, then the root of the mount. Throws an `Error` with the
 * reason where there is no cgroup v2. A machine may have v1 beside it (then this one is mounted at `unified`).
 */
export function findCgroupBases(
  mountInfo = readFileSync('/proc/self/mountinfo', 'utf8'),
  ownGroups = readFileSync('/proc/self/cgroup', 'utf8'),
): readonly string[] {
  const mount = mountInfo
    .split('\n')
    .map(parseMount)
    .find((mount) => mount?.type === 'cgroup2')
  if (mount === undefined) throw new Error('no cgroup v2 is mounted')
  if (mount.options.includes('ro')) throw new Error(`the cgroup v2 at ${mount.path} is mounted read-only`)
  const own = ownGroups
    .split('\n')
    .find((line) => line.startsWith('0::'))
    ?.slice('0::'.length)
  // A path with `..` is outside of what this mount shows.
  const below = own === undefined || own.startsWith('/..') ? undefined : posix.relative(mount.root, own)
  if (below === undefined || below === '' || below.startsWith('..')) return [mount.path]
  return [join(mount.path, below), mount.path]
}

interface Mount {
  readonly root: string
  readonly path: string
  readonly options: readonly string[]
  readonly type: string
}

/** One line of mountinfo: `id parent dev root path options optional… - type source super-options` (proc(5)). */
function parseMount(line: string): Mount | undefined {
  const [before = '', after = ''] = line.split(' - ')
  const [, , , root, path, options] = before.split(' ')
  const [type] = after.split(' ')
  if (root === undefined || path === undefined || options === undefined || type === undefined) return undefined
  return { root: unescape(root), path: unescape(path), options: options.split(','), type }
}

/** Spaces, tabs, newlines and backslashes in a path are written as octal numbers. */
function unescape(path: string): string {
  return path.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
}
