import { TaskFailure } from '../../job/failure.ts'
import { messageOf } from '../../job/messageOf.ts'

/** A process that could not be started. `retryable` where the machine was short of something, not the request wrong. */
export function spawnFailure(message: string, options: { retryable?: boolean; cause?: unknown } = {}): TaskFailure {
  return new TaskFailure('TETHER_SPAWN_FAILED', message, options)
}

const SHORTAGES: ReadonlySet<unknown> = new Set(['EAGAIN', 'ENOMEM', 'EMFILE', 'ENFILE'])

/** What the system answered to starting `program`, as the failure that says so. */
export function failureOfSystem(error: unknown, program: string): TaskFailure {
  if (error instanceof TaskFailure) return error
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'E2BIG') {
    return spawnFailure(
      `argv and env must fit what the system allows (about 128 KiB each text, 2 MiB together): too long to start ${program}`,
      { cause: error },
    )
  }
  const reason = messageOf(error)
  return spawnFailure(`could not start ${program}: ${reason}`, { retryable: SHORTAGES.has(code), cause: error })
}
