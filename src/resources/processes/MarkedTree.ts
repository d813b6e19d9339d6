import type { ProcessTree } from './ProcessTree.ts'
import { allPids, environOf, isAlive, type ProcessStat, readStat, stillRuns } from './procfs.ts'
import { Slices } from './Slices.ts'
import { signalProcess } from './signalProcess.ts'

const SWEEP_BUDGET_MS = 1000
/** One pass may come while a process is between two others, or is just taking its environment over. */
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

  async strike(): Promise<boolean> {
    while (this.#cleanPasses < CLEAN_PASSES) {
      // The group at once: while its leader runs its number is nobody else's, and the sweep takes its time.
      if (stillRuns(this.#leader)) signalProcess(-this.#leader.pid, 'SIGKILL')
      const { members, isWhole } = await this.#sweep(SWEEP_BUDGET_MS)
      if (!isWhole || members.length > 0) {
        this.#cleanPasses = 0
        for (const member of members) if (stillRuns(member)) signalProcess(member.pid, 'SIGKILL')
        return false
      }
      this.#cleanPasses += 1
    }
    return true
  }

  giveUp(): void {}

  async release(): Promise<void> {}

  async #sweep(budgetMs: number): Promise<{ members: readonly ProcessStat[]; isWhole: boolean }> {
    const slices = new Slices(budgetMs)
    const members: ProcessStat[] = []
    const groupIsOurs = this.#groupIsOurs()
    for (const pid of allPids()) {
      if (!(await slices.next())) return { members, isWhole: false }
      const stat = readStat(pid)
      // Whoever is older than the leader is none of its descendants: that spares most environments.
      if (!isAlive(stat) || stat.startTicks < this.#leader.startTicks) continue
      const isInGroup = groupIsOurs && stat.groupId === this.#leader.pid
      if (isInGroup || environOf(pid).includes(this.#marker)) members.push(stat)
    }
    return { members, isWhole: true }
  }

  /** A number is given to a new process only when no group bears it any more: one of another start has it from then on. */
  #groupIsOurs(): boolean {
    const bearer = readStat(this.#leader.pid)
    return bearer === undefined || bearer.startTicks === this.#leader.startTicks
  }
}
