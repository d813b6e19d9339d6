import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { SpawnRequest } from './Containment.ts'
import { spawnFailure } from './spawnFailure.ts'

/** Where a program is looked for whose environment has no PATH: what `execvp` takes, and the shells. */
export const DEFAULT_PATH = '/usr/local/bin:/usr/bin:/bin'

const OWNER = /^[A-Za-z0-9_:-]+$/

/**
 * Refuses what cannot be started, in words, before anything is: behind the programs that set the containment up, a missing
 * program would be one of their own exit codes. Returns where the program is.
 *
 * @throws {TaskFailure} `TETHER_SPAWN_FAILED`
 */
export async function resolveProgram(request: SpawnRequest): Promise<string> {
  assertWellFormed(request)
  const [program] = await Promise.all([findProgram(request), assertFolder(request.cwd)])
  return program
}

function assertWellFormed({ argv, cwd, env, owner }: SpawnRequest): void {
  if (argv[0] === '') throw spawnFailure('argv[0] must name a program, got an empty text')
  if (!OWNER.test(owner)) throw spawnFailure(`owner must be made of A-Z a-z 0-9 _ : -, got ${JSON.stringify(owner)}`)
  refuseNul('argv', argv)
  refuseNul('cwd', [cwd])
  for (const [name, value] of Object.entries(env)) {
    if (name === '' || name.includes('=')) {
      throw spawnFailure(`a variable's name must not be empty or hold "=", got ${JSON.stringify(name)}`)
    }
    // The value may be a secret: only the name is said.
    if (`${name}${value}`.includes('\0')) throw spawnFailure(`env must not hold NUL bytes, got one in ${clip(name)}`)
  }
}

function refuseNul(noun: string, texts: readonly string[]): void {
  const text = texts.find((text) => text.includes('\0'))
  if (text !== undefined) throw spawnFailure(`${noun} must not hold NUL bytes, got ${clip(text)}`)
}

async function assertFolder(cwd: string): Promise<void> {
  const found = await stat(cwd).catch(() => undefined)
  if (found === undefined) throw spawnFailure(`cwd must be a folder, got ${clip(cwd)}, which is not there`)
  if (!found.isDirectory()) throw spawnFailure(`cwd must be a folder, got ${clip(cwd)}, which is none`)
}

async function findProgram({ argv, cwd, env }: SpawnRequest): Promise<string> {
  const name = argv[0]
  if (name.includes('/')) {
    const found = await inspect(resolve(cwd, name))
    if (found.kind === 'program') return found.path
    throw spawnFailure(`argv[0] must be a program, got ${clip(name)}, which ${found.kind}`)
  }
  const path = env.PATH ?? DEFAULT_PATH
  let refusal = 'is not in'
  for (const folder of path.split(':')) {
    const found = await inspect(resolve(cwd, folder, name))
    if (found.kind === 'program') return found.path
    if (found.kind !== 'is not there') refusal = `${found.kind} where it was found in`
  }
  throw spawnFailure(`argv[0] must be a program, got ${clip(name)}, which ${refusal} PATH (${clip(path)})`)
}

type Found =
  | { readonly kind: 'program'; readonly path: string }
  | { readonly kind: 'is not there' | 'is not a file' | 'is not executable' }

async function inspect(path: string): Promise<Found> {
  const found = await stat(path).catch(() => undefined)
  if (found === undefined) return { kind: 'is not there' }
  if (!found.isFile()) return { kind: 'is not a file' }
  const executable = await access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
  return executable ? { kind: 'program', path } : { kind: 'is not executable' }
}

const MAX_SHOWN_LENGTH = 200

function clip(text: string): string {
  return JSON.stringify(text.length > MAX_SHOWN_LENGTH ? `${text.slice(0, MAX_SHOWN_LENGTH)}…` : text)
}
