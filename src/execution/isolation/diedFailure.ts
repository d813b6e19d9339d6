import { constants } from 'node:os'
import { TaskFailure } from '../../job/failure.ts'
import type { ExitStatus } from '../../resources/processes/Containment.ts'

/** The process of an isolated task ended and its function had not. Retryable where somebody killed it: mostly the kernel, for memory. */
export function diedFailure({ exitCode, signal }: ExitStatus): TaskFailure {
  const shown = signal ?? signalBehind(exitCode)
  const how = exitCode === null ? `was ended by ${signal}` : `exited with code ${exitCode}`
  const hint = shown !== undefined && signal === null ? ` (as one ended by ${shown} does)` : ''
  return new TaskFailure('TETHER_PROCESS_DIED', `the task's process ${how}${hint} before its function had settled`, {
    retryable: shown === 'SIGKILL',
    exitCode: exitCode ?? undefined,
    signal: signal ?? undefined,
  })
}

/** A pid namespace shows a signal as a shell does: as the code 128 + its number. */
function signalBehind(exitCode: number | null): string | undefined {
  return Object.entries(constants.signals).find(([, number]) => exitCode === 128 + number)?.[0]
}
