import type { SpawnRequest } from './Containment.ts'

/** The variable that every contained process bears: by it a sweep knows whose a process is. */
export const MARKER = 'TETHER_JOB'

export interface Marked {
  /** Which spawn of this process it is, counted from 1. */
  readonly spawnNumber: number
  /** `OWNER/INSTANCE-N`: the end of one tree must not take another of the same job. */
  readonly marker: string
  readonly env: Readonly<Record<string, string>>
}

/** One sequence for all containments of this process: two spawns that shared a number would end each other. */
let spawned = 0

export function mark({ owner, env }: SpawnRequest, instance: string): Marked {
  spawned += 1
  const marker = `${owner}/${instance}-${spawned}`
  return { spawnNumber: spawned, marker, env: { ...env, [MARKER]: marker } }
}
