import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { CgroupTree } from './CgroupTree.ts'
import type { ContainedProcess, Containment, SpawnRequest } from './Containment.ts'
import { GROUP_PREFIX } from './instance.ts'
import { type Command, fdsOfProgram, launchWrapped } from './launch.ts'
import { type Marked, mark } from './marker.ts'
import { resolveProgram } from './resolveProgram.ts'
import { argvFor, wrapEnvironment } from './shellWrapper.ts'
import { failureOfSystem } from './spawnFailure.ts'
import { TreeProcess } from './TreeProcess.ts'

export interface CgroupTools {
  readonly sh: string
  readonly env: string
  /** Sets the signal that the leader gets when the server dies; empty where the machine has no such program. */
  readonly dieWithParent: readonly string[]
}

/** How many groups each parent has. Of the whole process, whose servers have one parent together. */
const aliveIn = new Map<string, number>()

function aliveHere(parentPath: string): number {
  return aliveIn.get(parentPath) ?? 0
}

/**
 * One control group (cgroup v2) a spawn: forks are born into it and `cgroup.kill` takes all of them at once. Its code running as
 * root could write itself into another group: this contains work, it is no security boundary. A server that is killed takes its
 * leaders with it and leaves the others of their trees in `parentPath`, where its guardian finds them.
 */
export class CgroupContainment implements Containment {
  readonly level = 'cgroup'
  readonly complete = true
  /** The folder that has the groups of this server; it exists while there are any. */
  readonly parentPath: string
  readonly #tools: CgroupTools
  readonly #instance: string

  constructor(basePath: string, instance: string, tools: CgroupTools) {
    this.parentPath = join(basePath, `${GROUP_PREFIX}${instance}`)
    this.#tools = tools
    this.#instance = instance
  }

  async spawn(request: SpawnRequest): Promise<ContainedProcess> {
    const program = await resolveProgram(request)
    const marked = mark(request, this.#instance)
    aliveIn.set(this.parentPath, aliveHere(this.parentPath) + 1)
    const tree = new CgroupTree(join(this.parentPath, String(marked.spawnNumber)), () => this.#released())
    try {
      await mkdir(tree.path, { recursive: true })
      const child = await launchWrapped(
        this.#command(argvFor(request.argv, program), marked, tree.path, fdsOfProgram(request)),
        request,
      )
      child.status.close()
      return TreeProcess.follow(request.argv, child, child, tree)
    } catch (error) {
      await tree.release().catch(() => {})
      throw failureOfSystem(error, request.argv[0])
    }
  }

  /** Whether the parent has nothing to hold any more. Counted before the first folder is made, so no spawn can lose its parent. */
  #released(): boolean {
    const alive = aliveHere(this.parentPath) - 1
    if (alive === 0) aliveIn.delete(this.parentPath)
    else aliveIn.set(this.parentPath, alive)
    return alive === 0
  }

  #command(argv: readonly string[], marked: Marked, path: string, fds: string): Command {
    const { sh, env: envProgram, dieWithParent } = this.#tools
    const { env, restore } = wrapEnvironment(marked.env, envProgram)
    // Each step only after the one before: a program that is not in its group does not run.
    const script = `echo 0 >"$1/cgroup.procs" && shift && { ${restore}; } && printf . >&2 && ${fds} && exec "$@"`
    const [first, ...rest] = [...dieWithParent, sh]
    if (first === undefined) throw new Error('a command has no program')
    return { argv: [first, ...rest, '-c', script, 'sh', path, ...argv], env }
  }
}
