import type { ProcessTree } from './ProcessTree.ts'
import { childrenOf, isAlive, type ProcessStat, readStat, stillRuns } from './procfs.ts'
import { Slices } from './Slices.ts'
import type { StatusChannel } from './StatusChannel.ts'
import { signalProcess } from './signalProcess.ts'

const ALONE_BUDGET_MS = 20

/** The processes of one pid namespace: all of them descend from its init, since orphans become children of it. */
export class PidNamespaceTree implements ProcessTree {
  readonly #init: Pick<ProcessStat, 'pid' | 'startTicks'>
  readonly #wrapperPid: number
  readonly #status: StatusChannel
  #leaderHasExited = false

  /** `wrapperPid` is the child of ours that made the namespace and waits for init. */
  constructor(init: Pick<ProcessStat, 'pid' | 'startTicks'>, wrapperPid: number, status: StatusChannel) {
    this.#init = init
    this.#wrapperPid = wrapperPid
    this.#status = status
  }

  /** Lets init go where nobody else is left, so that the pipes, which it holds too, come to their end. */
  async leaderExited(): Promise<void> {
    this.#leaderHasExited = true
    if (await this.isEmpty().catch(() => false)) this.#status.close()
  }

  async members(budgetMs: number): Promise<readonly ProcessStat[]> {
    return (await this.#look(budgetMs)).members
  }

  async isEmpty(): Promise<boolean> {
    if (!stillRuns(this.#init)) return true
    if (!this.#leaderHasExited) return false
    const { members, isWhole } = await this.#look(ALONE_BUDGET_MS)
    return isWhole && members.length === 0
  }

  /** The kernel turns init into a dead process only after all others of the namespace are gone: that is the proof. */
  async strike(): Promise<boolean> {
    if (!stillRuns(this.#init)) return true
    signalProcess(this.#init.pid, 'SIGKILL')
    return !stillRuns(this.#init)
  }

  giveUp(): void {
    signalProcess(this.#wrapperPid, 'SIGKILL')
  }

  async release(): Promise<void> {
    this.#status.close()
  }

  async #look(budgetMs: number): Promise<{ members: readonly ProcessStat[]; isWhole: boolean }> {
    const slices = new Slices(budgetMs)
    const members: ProcessStat[] = []
    const queue = stillRuns(this.#init) ? [...childrenOf(this.#init.pid)] : []
    for (let pid = queue.pop(); pid !== undefined; pid = queue.pop()) {
      if (!(await slices.next())) return { members, isWhole: false }
      const stat = readStat(pid)
      if (!isAlive(stat)) continue
      members.push(stat)
      queue.push(...childrenOf(pid))
    }
    return { members, isWhole: true }
  }
}
