import { allPids, isAlive, type ProcessStat, readStat } from './procfs.ts'
import { Slices } from './Slices.ts'

/** On a machine that starts processes all the time there would always be one more to look at. */
const MAX_LISTINGS = 25
/** While a process takes over another program its environment is empty for a moment; of some it is so for ever. */
const MAX_LOOKS = 3

/**
 * Looks at every living process, and then at those that were born meanwhile, until a listing has no new one: a process that
 * becomes another one all the time is a new one in each listing, and cannot slip between two looks. `look` is told of each and
 * returns whether it could tell whose it is; if not, it is asked again. False where `budgetMs` did not suffice for all.
 */
export async function lookAtAll(look: (stat: ProcessStat) => boolean, budgetMs: number): Promise<boolean> {
  const slices = new Slices(budgetMs)
  const looks = new Map<number, number>()
  for (let listing = 0; listing < MAX_LISTINGS; listing += 1) {
    const fresh = allPids().filter((pid) => (looks.get(pid) ?? 0) < MAX_LOOKS)
    if (fresh.length === 0) return true
    for (const pid of fresh) {
      if (!(await slices.next())) return false
      const stat = readStat(pid)
      const isClear = !isAlive(stat) || look(stat)
      looks.set(pid, isClear ? MAX_LOOKS : (looks.get(pid) ?? 0) + 1)
    }
  }
  return true
}
