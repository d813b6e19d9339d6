import type { ContainedProcess, Containment, SpawnRequest } from './Containment.ts'
import { GroupTree } from './GroupTree.ts'
import { discard, launch } from './launch.ts'
import { MarkedTree } from './MarkedTree.ts'
import { mark } from './marker.ts'
import type { ProcessTree } from './ProcessTree.ts'
import { type ProcessStat, readStat } from './procfs.ts'
import { resolveProgram } from './resolveProgram.ts'
import { failureOfSystem } from './spawnFailure.ts'
import { TreeProcess } from './TreeProcess.ts'

/**
 * A process group a spawn, and where there is a `/proc` a sweep over all processes for the marker in their environment. A process
 * that leaves the group and clears its environment is not found, so this level claims nothing complete. Elsewhere (macOS) it is
 * the group alone.
 */
export class GroupContainment implements Containment {
  readonly level = 'group'
  readonly complete = false
  readonly #dieWithParent: readonly string[]
  readonly #instance: string
  readonly #within: string | undefined

  /**
   * `dieWithParent` stands before every program; empty where the machine has nothing for it. `within` is the marker of the tree
   * that this process is in itself, so that what it starts is found by whoever ends that one.
   */
  constructor(instance: string, dieWithParent: readonly string[], within?: string) {
    this.#dieWithParent = dieWithParent
    this.#instance = instance
    this.#within = within
  }

  async spawn(request: SpawnRequest): Promise<ContainedProcess> {
    const program = await resolveProgram(request)
    const { marker, env } = mark(request, this.#instance, this.#within)
    const [first, ...rest] = [...this.#dieWithParent, ...request.argv]
    const child = await launch({ argv: [first ?? program, ...rest], env }, request)
    try {
      return TreeProcess.follow(request.argv, child, child, treeOf(child.pid, marker))
    } catch (error) {
      discard(child)
      throw failureOfSystem(error, request.argv[0])
    }
  }
}

/** The tree whose leader was started as `pid`, and may be gone by now: what it left is its tree all the same. */
export function treeOf(pid: number, marker: string): ProcessTree {
  const leader = readStat(pid)
  if (leader !== undefined) return new MarkedTree(leader, marker)
  const hasProc = readStat(process.pid) !== undefined
  return hasProc ? new MarkedTree(goneLeader(pid), marker) : new GroupTree(pid)
}

/** As old as can be, so that nobody is taken for older. */
function goneLeader(pid: number): ProcessStat {
  return { pid, state: 'X', groupId: pid, startTicks: 0 }
}
