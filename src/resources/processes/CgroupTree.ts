import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { rmdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { ProcessTree } from './ProcessTree.ts'
import { isAlive, numbersIn, type ProcessStat, readStat } from './procfs.ts'
import { Slices } from './Slices.ts'

/** The processes of one control group and of those that they made below it. */
export class CgroupTree implements ProcessTree {
  readonly path: string
  readonly #isLast: () => boolean

  /** `isLast` is told that the group is gone and says whether it was the last of its parent. */
  constructor(path: string, isLast: () => boolean) {
    this.path = path
    this.#isLast = isLast
  }

  async members(budgetMs: number): Promise<readonly ProcessStat[]> {
    const slices = new Slices(budgetMs)
    const members: ProcessStat[] = []
    for (const path of groupsBelow(this.path)) {
      for (const pid of numbersIn(readFileSync(join(path, 'cgroup.procs'), 'utf8'))) {
        if (!(await slices.next())) return members
        const stat = readStat(pid)
        if (isAlive(stat)) members.push(stat)
      }
    }
    return members
  }

  async isEmpty(): Promise<boolean> {
    // The kernel counts the groups below this one as well, and no dead ones.
    return readFileSync(join(this.path, 'cgroup.events'), 'utf8').includes('populated 0')
  }

  async strike(): Promise<boolean> {
    writeFileSync(join(this.path, 'cgroup.kill'), '1')
    return this.isEmpty()
  }

  giveUp(): void {}

  async release(): Promise<void> {
    const isLast = this.#isLast()
    for (const path of groupsBelow(this.path).toReversed()) await rmdir(path)
    if (isLast) await rmdir(dirname(this.path))
  }
}

/** The group and those below it, parents first. */
function groupsBelow(path: string): string[] {
  const below = readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  return [path, ...below.flatMap((entry) => groupsBelow(join(path, entry.name)))]
}
