import type { TerminalStatus } from '../job/status.ts'

/** The compiler refuses this table where it lacks a terminal status; the client imports the server's types only. */
const TERMINAL = {
  succeeded: true,
  failed: true,
  cancelled: true,
  stopped: true,
  timed_out: true,
  interrupted: true,
  abandoned: true,
} as const satisfies Record<TerminalStatus, true>

/** Whether a job of this status has ended. A status that this client does not know is not terminal (protocol, section 2). */
export function isTerminalStatus(status: string): status is TerminalStatus {
  return Object.hasOwn(TERMINAL, status)
}

/** The outcome that an event of this type says, undefined for all events but a job's last. */
export function outcomeOfEvent(type: string): TerminalStatus | undefined {
  const status = type.startsWith('job.') ? type.slice('job.'.length) : ''
  return isTerminalStatus(status) ? status : undefined
}
