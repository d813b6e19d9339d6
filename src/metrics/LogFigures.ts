import type { CommitReport } from '../eventlog/EventLog.ts'
import type { Family } from './Family.ts'
import { one } from './Family.ts'
import { Spread } from './Spread.ts'

/** Seconds. A commit takes less than a millisecond while the disk keeps up. */
const COMMIT_BOUNDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5]

/** What is written of all jobs' logs and records. */
export class LogFigures {
  readonly #commits = new Spread(COMMIT_BOUNDS)
  #changes = 0
  #failures = 0

  readonly onCommit = ({ changes, tookMs, isTaken }: CommitReport): void => {
    if (!isTaken) {
      this.#failures += 1
      return
    }
    this.#commits.observe(tookMs / 1000, {})
    this.#changes += changes
  }

  families(isFailing: () => boolean): readonly Family[] {
    return [
      {
        kind: 'histogram',
        name: 'tether_log_commit_seconds',
        help: 'How long the store took for each commit of the log.',
        bounds: this.#commits.bounds,
        read: () => this.#commits.read(),
      },
      {
        kind: 'counter',
        name: 'tether_log_changes_total',
        help: 'Changes in these commits: starts, changes of status, batches of output.',
        read: () => one(this.#changes),
      },
      {
        kind: 'counter',
        name: 'tether_log_commit_failures_total',
        help: 'Commits that failed; each is tried again.',
        read: () => one(this.#failures),
      },
      {
        kind: 'gauge',
        name: 'tether_log_failing',
        help: '1 while the last commit failed and has not gone through since.',
        read: () => one(isFailing() ? 1 : 0),
      },
    ]
  }
}
