import type { TerminalStatus } from '../../job/status.ts'
import { ServerUnreachable, TetherApiError } from '../error.ts'
import { UsageError } from './UsageError.ts'

/** Protocol, section 7. */
export const EXIT = { succeeded: 0, failed: 1, usage: 2, noServer: 69, left: 130 } as const
export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

const OF_OUTCOME = {
  succeeded: EXIT.succeeded,
  failed: EXIT.failed,
  timed_out: EXIT.failed,
  abandoned: EXIT.failed,
  interrupted: EXIT.failed,
  cancelled: EXIT.left,
  stopped: EXIT.left,
} as const satisfies Record<TerminalStatus, ExitCode>

export function exitCodeOfOutcome(outcome: TerminalStatus): ExitCode {
  return OF_OUTCOME[outcome]
}

/** Refusals that say that the command line was wrong: the same line will never work at this server. */
const MISUSE: ReadonlySet<string> = new Set([
  'TETHER_INVALID_REQUEST',
  'TETHER_INVALID_JOB_ID',
  'TETHER_INVALID_CURSOR',
  'TETHER_TASK_NOT_FOUND',
])

/** A connection that broke is 1 and not 69: 69 says that nothing was started, and here a job may have been. */
export function exitCodeOfError(error: unknown): ExitCode {
  if (error instanceof UsageError) return EXIT.usage
  if (error instanceof ServerUnreachable) return EXIT.noServer
  if (error instanceof TetherApiError && MISUSE.has(error.code)) return EXIT.usage
  return EXIT.failed
}
