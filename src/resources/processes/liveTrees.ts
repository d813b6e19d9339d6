import { readStat } from './procfs.ts'

/** What leads one process tree: the child of ours that began it, with a session and a process group of its own. */
export interface TreeRoot {
  readonly groupId: number
  /** As in `ProcessStat`; 0 where it ended before anybody could look. */
  readonly startTicks: number
}

export interface TreeWatcher {
  added(root: TreeRoot): void
  removed(root: TreeRoot): void
}

/** The trees that have been started and not yet ended, for whoever has to end them when this process cannot. */
class LiveTrees {
  readonly #roots = new Set<TreeRoot>()
  readonly #watchers = new Set<TreeWatcher>()

  get size(): number {
    return this.#roots.size
  }

  /** Returns its own undo. */
  add(groupId: number): () => void {
    const root = { groupId, startTicks: startTicksOf(groupId) }
    this.#roots.add(root)
    for (const watcher of this.#watchers) watcher.added(root)
    return () => {
      if (this.#roots.delete(root)) for (const watcher of this.#watchers) watcher.removed(root)
    }
  }

  [Symbol.iterator](): Iterator<TreeRoot> {
    return this.#roots.values()
  }

  /** Returns its own undo. */
  subscribe(watcher: TreeWatcher): () => void {
    this.#watchers.add(watcher)
    return () => this.#watchers.delete(watcher)
  }
}

function startTicksOf(pid: number): number {
  try {
    return readStat(pid)?.startTicks ?? 0
  } catch {
    // It could not be looked at (no file descriptor left). It runs all the same, and has to be followed.
    return 0
  }
}

/** One for the process, as its death ends them all, whichever containment they are in. */
export const liveTrees = new LiveTrees()
