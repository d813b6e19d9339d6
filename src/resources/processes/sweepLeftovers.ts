import { setTimeout as sleep } from 'node:timers/promises'
import { isDeadInstance } from './instance.ts'
import { findLeftoverGroups, removeLeftoverGroups } from './leftoverGroups.ts'
import { instanceOf } from './marker.ts'
import { allPids, environOf, isAlive, type ProcessStat, readStat, stillRuns } from './procfs.ts'
import { signalProcess } from './signalProcess.ts'

/** What dead servers had left on this machine, and what became of it. */
export interface Leftovers {
  /** The dead servers of which something was found, as `instanceName` names them. */
  readonly instances: readonly string[]
  /** How many were killed and are gone. */
  readonly processes: number
  /** How many servers' control groups were removed. */
  readonly controlGroups: number
  /** What could not be ended: a pid or a folder, each as a text. */
  readonly left: readonly string[]
}

const DEADLINE_MS = 2000
const PACE_MS = 5
/** One pass may come while a process is between two others. */
const CLEAN_PASSES = 2

/**
 * Ends what dead servers of this machine left, whatever their folder was: control groups, and processes that bear their marker.
 * A dead server is known by its pid and start time, so nothing of one that runs is touched. Settles after `DEADLINE_MS` at the
 * latest. Rejects where the system would not let us look.
 */
export async function sweepLeftovers(): Promise<Leftovers> {
  if (process.platform !== 'linux') return { instances: [], processes: 0, controlGroups: 0, left: [] }
  const endsMs = performance.now() + DEADLINE_MS
  const instances = new Set<string>()
  const pids = new Set<number>()
  const left: string[] = []
  let controlGroups = 0
  for (const groups of await findLeftoverGroups()) {
    instances.add(groups.instance)
    try {
      for (const { pid } of await removeLeftoverGroups(groups, endsMs)) pids.add(pid)
      controlGroups += 1
    } catch {
      // They may be another user's; or the dead server's guardian was faster.
      left.push(groups.path)
    }
  }
  let found = findLeftovers()
  for (let cleanPasses = 0; performance.now() < endsMs; found = findLeftovers()) {
    cleanPasses = found.length === 0 ? cleanPasses + 1 : 0
    if (cleanPasses === CLEAN_PASSES) break
    for (const { stat, instance } of found) {
      instances.add(instance)
      pids.add(stat.pid)
      if (stillRuns(stat)) signalProcess(stat.pid, 'SIGKILL')
    }
    await sleep(PACE_MS)
  }
  for (const { stat } of found) {
    pids.delete(stat.pid)
    left.push(String(stat.pid))
  }
  return { instances: [...instances], processes: pids.size, controlGroups, left }
}

interface Leftover {
  readonly stat: ProcessStat
  readonly instance: string
}

function findLeftovers(): readonly Leftover[] {
  // A server that somebody started from what a dead one left would else begin with killing itself.
  const ownStarter = instanceOf(environOf(process.pid))
  return allPids().flatMap((pid) => {
    const stat = readStat(pid)
    if (!isAlive(stat)) return []
    const instance = instanceOf(environOf(pid))
    return instance !== undefined && instance !== ownStarter && isDeadInstance(instance) ? [{ stat, instance }] : []
  })
}
