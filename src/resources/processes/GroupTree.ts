import type { ProcessTree } from './ProcessTree.ts'
import type { ProcessStat } from './procfs.ts'
import { signalProcess } from './signalProcess.ts'

/** A process group on a machine without `/proc`: it can be signalled as a whole, but not looked into. */
export class GroupTree implements ProcessTree {
  readonly #groupId: number

  constructor(groupId: number) {
    this.#groupId = groupId
  }

  async members(): Promise<readonly ProcessStat[]> {
    return this.#exists() ? [{ pid: this.#groupId, state: '?', groupId: this.#groupId, startTicks: 0 }] : []
  }

  async isEmpty(): Promise<boolean> {
    return !this.#exists()
  }

  async strike(): Promise<boolean> {
    signalProcess(-this.#groupId, 'SIGKILL')
    return this.isEmpty()
  }

  giveUp(): void {}

  async release(): Promise<void> {}

  #exists(): boolean {
    try {
      process.kill(-this.#groupId, 0)
      return true
    } catch {
      // ESRCH: nobody is left. EPERM is what macOS says of a group that has only dead ones.
      return false
    }
  }
}
