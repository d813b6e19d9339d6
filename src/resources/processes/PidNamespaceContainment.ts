import type { ContainedProcess, Containment, ExitStatus, SpawnRequest } from './Containment.ts'
import { type Command, discard, fdsOfProgram, type Launched, launchWrapped } from './launch.ts'
import { mark } from './marker.ts'
import { PidNamespaceTree } from './PidNamespaceTree.ts'
import { childrenOf, innermostPidOf, readStat } from './procfs.ts'
import { resolveProgram } from './resolveProgram.ts'
import type { StatusChannel } from './StatusChannel.ts'
import { argvFor, wrapEnvironment } from './shellWrapper.ts'
import { failureOfSystem, spawnFailure } from './spawnFailure.ts'
import { TreeProcess } from './TreeProcess.ts'

export interface PidNamespaceTools {
  readonly sh: string
  readonly env: string
  readonly setsid: string
  /** What stands before the shell that is the namespace's init: it makes the namespace and dies with the server. */
  readonly enter: readonly [string, ...string[]]
}

/**
 * One pid namespace a spawn: when its first process dies, the kernel kills all others and reports the death only when they are
 * gone. That first process is a small shell and never the program itself, for a program with the pid 1 is deaf to TERM. A
 * server that is killed takes the whole namespace with it.
 *
 * The program sees pids of its own and its own mount table, in which `/proc` shows them. Where the server is not root it is in
 * a user namespace of its own too: there programs that become another user (`sudo`) do not work.
 */
export class PidNamespaceContainment implements Containment {
  readonly level = 'pidns'
  readonly complete = true
  readonly #tools: PidNamespaceTools
  readonly #instance: string

  constructor(instance: string, tools: PidNamespaceTools) {
    this.#tools = tools
    this.#instance = instance
  }

  async spawn(request: SpawnRequest): Promise<ContainedProcess> {
    const program = await resolveProgram(request)
    const child = await launchWrapped(this.#command(request, argvFor(request.argv, program)), request)
    try {
      const init = initOf(child)
      const pid = leaderOf(init.pid) ?? child.pid
      const tree = new PidNamespaceTree(init, child.pid, child.status)
      const exited = exitOf(child, tree)
      return TreeProcess.follow(request.argv, { pid, exited }, child, tree)
    } catch (error) {
      discard(child)
      child.status.close()
      throw failureOfSystem(error, request.argv[0])
    }
  }

  /**
   * Init, which the program's shell is a child of, keeps the namespace after the program's exit until we close the channel: so
   * others of the tree get the grace that they get at every level, and can be counted. What a shell says of itself ("Terminated")
   * goes nowhere.
   */
  #command(request: SpawnRequest, argv: readonly string[]): Command {
    const { sh, env: envProgram, setsid, enter } = this.#tools
    const { env, restore } = wrapEnvironment(mark(request, this.#instance).env, envProgram)
    const script = `exec 5>&2 2>/dev/null
( ${restore}; ${fdsOfProgram(request)}; printf . >&5 && exec 5>&- && exec '${setsid}' -- "$@" )
echo "$?" >&5
read -r _ <&5
exit 0`
    return { argv: [...enter, sh, '-c', script, 'sh', ...argv], env }
  }
}

function initOf(child: Launched): { readonly pid: number; readonly startTicks: number } {
  const [pid] = childrenOf(child.pid)
  const stat = pid === undefined ? undefined : readStat(pid)
  // Init outlives the program until we let it go, so it is there, unless somebody killed it within the millisecond.
  if (stat === undefined) throw spawnFailure('the process that holds the namespace is gone', { retryable: true })
  return stat
}

/**
 * Init's first child: the second process of the namespace. One that has already exited is known by the pid of what stands around
 * it instead; a child that it left to init must not be taken for it.
 */
function leaderOf(initPid: number): number | undefined {
  return childrenOf(initPid).find((pid) => innermostPidOf(pid) === 2)
}

/**
 * A program that a signal ended has the exit code 128 + its number, as a shell says it: the namespace's init saw it, not we. An
 * init that ends without a word was killed, and the kernel killed the program with it; what the wrapper around it makes of
 * that differs between its versions.
 */
async function exitOf(
  child: Launched & { readonly status: StatusChannel },
  tree: PidNamespaceTree,
): Promise<ExitStatus> {
  const exitCode = await child.status.exitCode
  if (exitCode === undefined) {
    await child.exited
    return { exitCode: null, signal: 'SIGKILL' }
  }
  await tree.leaderExited()
  return { exitCode, signal: null }
}
