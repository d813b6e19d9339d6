import type { SpawnRequest } from './Containment.ts'

/** The variable that every contained process bears: by it a sweep knows whose a process is. */
export const MARKER = 'TETHER_JOB'

export interface Marked {
  /** Which spawn of this process it is, counted from 1. */
  readonly spawnNumber: number
  /** `OWNER/INSTANCE-N`, behind the marker of the tree that it is inside of: the end of one tree must not take another. */
  readonly marker: string
  readonly env: Readonly<Record<string, string>>
}

/** One sequence for all containments of this process: two spawns that shared a number would end each other. */
let spawned = 0

/** `within` is the marker of the tree that this process is in itself, where it is in one. */
export function mark({ owner, env }: SpawnRequest, instance: string, within?: string): Marked {
  spawned += 1
  const own = `${owner}/${instance}-${spawned}`
  const marker = within === undefined ? own : `${within}/${own}`
  return { spawnNumber: spawned, marker, env: { ...env, [MARKER]: marker } }
}

/** Whether a process with this environment (entries ended by NUL) is of the tree marked so, or of a tree inside of it. */
export function bears(environ: string, marker: string): boolean {
  const entry = `${MARKER}=${marker}`
  return environ.includes(`${entry}\0`) || environ.includes(`${entry}/`)
}

/** The instance that started a process with this environment: where one tree is inside of another, that of the outermost. */
export function instanceOf(environ: string): string | undefined {
  return INSTANCE.exec(environ)?.[1]
}

const INSTANCE = new RegExp(`(?:^|\\0)${MARKER}=[^/\\0]+/(\\d+-\\d+-\\d+)-\\d+[/\\0]`)
