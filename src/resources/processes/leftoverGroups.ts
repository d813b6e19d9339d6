import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { CgroupTree } from './CgroupTree.ts'
import { findCgroupBases } from './cgroupMount.ts'
import { GROUP_PREFIX, isDeadInstance } from './instance.ts'
import type { ProcessStat } from './procfs.ts'

/** The control groups of one dead server. */
export interface LeftoverGroups {
  readonly instance: string
  readonly path: string
}

const MEMBERS_BUDGET_MS = 100
const PACE_MS = 2

/**
 * The control groups of dead servers, wherever below the mount: a server that was started from another session or unit had its
 * groups elsewhere than ours are.
 */
export async function findLeftoverGroups(): Promise<readonly LeftoverGroups[]> {
  const root = mountPath()
  return root === undefined ? [] : findBelow(root)
}

async function findBelow(path: string): Promise<readonly LeftoverGroups[]> {
  // Groups come and go while we look.
  const entries = await readdir(path, { withFileTypes: true }).catch(() => [])
  const found: LeftoverGroups[] = []
  for (const entry of entries) {
    if (!entry.isDirectory()) continue
    const below = join(path, entry.name)
    const instance = entry.name.startsWith(GROUP_PREFIX) ? entry.name.slice(GROUP_PREFIX.length) : undefined
    if (instance !== undefined && isDeadInstance(instance)) found.push({ instance, path: below })
    else found.push(...(await findBelow(below)))
  }
  return found
}

/** Kills what is in them and removes them. Returns who was in there; rejects where they could not be removed by `endsMs`. */
export async function removeLeftoverGroups({ path }: LeftoverGroups, endsMs: number): Promise<readonly ProcessStat[]> {
  const tree = new CgroupTree(path, () => false)
  const members = await tree.members(MEMBERS_BUDGET_MS)
  while (!(await tree.strike()) && performance.now() < endsMs) await sleep(PACE_MS)
  await tree.release()
  return members
}

function mountPath(): string | undefined {
  try {
    return findCgroupBases().at(-1)
  } catch {
    // No control groups here, or none that could be changed.
    return undefined
  }
}
