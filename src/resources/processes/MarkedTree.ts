import { lookAtAll } from './lookAtAll.ts'
import { bears } from './marker.ts'
import type { ProcessTree } from './ProcessTree.ts'
import { environOf, type ProcessStat, readStat, stillRuns } from './procfs.ts'
import { signalProcess } from './signalProcess.ts'

const SWEEP_BUDGET_MS = 1000
/** One look at all may have missed a process for which the numbers began anew just then. */
const CLEAN_PASSES = 2

/** The processes of a group and all others that bear its marker in their environment. */
export class MarkedTree implements ProcessTree {
  readonly #leader: ProcessStat
  readonly #marker: string
  #cleanPasses = 0

  constructor(leader: ProcessStat, marker: string) {
    this.#leader = leader
    this.#marker = marker
  }

  async members(budgetMs: number): Promise<readonly ProcessStat[]> {
    return (await this.#sweep(budgetMs)).members
  }

  async isEmpty(): Promise<boolean> {
    const { members, isWhole } = await this.#sweep(SWEEP_BUDGET_MS)
    const isClean = isWhole && members.length === 0
    this.#cleanPasses = isClean ? this.#cleanPasses + 1 : 0
    return isClean
  }

  async strike(onFound: (pid: number) => void = () => {}): Promise<boolean> {
    while (this.#cleanPasses < CLEAN_PASSES) {
      // The group at once: while its leader runs its number is nobody else's, and the sweep takes its time.
      if (stillRuns(this.#leader)) signalProcess(-this.#leader.pid, 'SIGKILL')
      // On sight: one that lives for a millisecond is another one when the sweep is over.
      const { members, isWhole } = await this.#sweep(SWEEP_BUDGET_MS, ({ pid }) => {
        signalProcess(pid, 'SIGKILL')
        onFound(pid)
      })
      if (!isWhole || members.length > 0) {
        this.#cleanPasses = 0
        return false
      }
      this.#cleanPasses += 1
    }
    return true
  }

  giveUp(): void {}

  async release(): Promise<void> {}

  async #sweep(
    budgetMs: number,
    onFound: (member: ProcessStat) => void = () => {},
  ): Promise<{ members: readonly ProcessStat[]; isWhole: boolean }> {
    const members: ProcessStat[] = []
    const groupIsOurs = this.#groupIsOurs()
    const isWhole = await lookAtAll((stat) => {
      // Whoever is older than the leader is none of its descendants: that spares most environments.
      if (stat.startTicks < this.#leader.startTicks) return true
      const isInGroup = groupIsOurs && stat.groupId === this.#leader.pid
      const environ = isInGroup ? '' : environOf(stat.pid)
      if (isInGroup || bears(environ, this.#marker)) {
        members.push(stat)
        onFound(stat)
        return true
      }
      return environ !== ''
    }, budgetMs)
    return { members, isWhole }
  }

  /** A number is given to a new process only when no group bears it any more: one of another start has it from then on. */
  #groupIsOurs(): boolean {
    const bearer = readStat(this.#leader.pid)
    return bearer === undefined || bearer.startTicks === this.#leader.startTicks
  }
}
