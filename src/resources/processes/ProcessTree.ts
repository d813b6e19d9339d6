import type { ProcessStat } from './procfs.ts'

/** What each level of containment knows about one tree of processes: who is in it, how it dies, how to tell that it did. */
export interface ProcessTree {
  /**
   * The living processes, without those that only hold the tree together. One that is being forked may be missing, and so may
   * those for which `budgetMs` did not suffice. Rejects where the system would not let us look.
   */
  members(budgetMs: number): Promise<readonly ProcessStat[]>
  /** Whether nothing lives any more. Kills nothing. */
  isEmpty(): Promise<boolean>
  /**
   * Kills what is left, whoever it is; true where the level's own check finds nothing. Called until it is true. `onFound` is told
   * of those that had to be looked for one by one.
   */
  strike(onFound?: (pid: number) => void): Promise<boolean>
  /** Called once where strikes were in vain: the last thing to try before the survivors are named. */
  giveUp(): void
  /** Gives back what the level held for the tree (a folder, a channel). */
  release(): Promise<void>
}
