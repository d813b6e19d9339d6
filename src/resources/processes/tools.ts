import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { join } from 'node:path'

/** Where the system's own programs are; never a job's PATH. */
const FOLDERS = ['/usr/bin', '/bin', '/usr/sbin', '/sbin', '/usr/local/bin', '/run/current-system/sw/bin']

/** Where the program `name` of the system is, or undefined where it is not installed. */
export async function findTool(name: string): Promise<string | undefined> {
  for (const folder of FOLDERS) {
    const path = join(folder, name)
    if (await isExecutable(path)) return path
  }
  return undefined
}

export function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}

/** @throws {Error} naming the program that is not installed. */
export async function requireTool(name: string): Promise<string> {
  const path = await findTool(name)
  if (path === undefined) throw new Error(`the program ${name} is not installed`)
  return path
}

/**
 * What stands first: the kernel kills the program when our main thread, its parent, dies, even of a SIGKILL. It takes the leader
 * only; whoever is to take the rest of a tree with a dead server stands beside it.
 */
export function dieWithParent(setpriv: string): readonly [string, ...string[]] {
  return [setpriv, '--pdeathsig', 'KILL', '--']
}
