import { type ProcessStat, stillRuns } from './procfs.ts'

/** Sends `signal`; a negative pid means a whole group. That there is nobody (any more) who may be signalled is no error. */
export function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code !== 'ESRCH' && code !== 'EPERM') throw error
  }
}

/**
 * TERM to all of `members`: to those of the group at once, so that none slips through by forking, and to each that left it by
 * itself; nobody gets it twice, since many programs take the second one for impatience. CONT follows: a stopped process
 * would otherwise keep the TERM for later.
 */
export function terminateAll(members: readonly ProcessStat[], groupId: number): void {
  // A group's number cannot be given away while it has members; one that has none may be somebody else's by now.
  if (members.some((member) => member.groupId === groupId)) signalBoth(-groupId)
  for (const member of members) {
    if (member.groupId !== groupId && stillRuns(member)) signalBoth(member.pid)
  }
}

function signalBoth(pid: number): void {
  signalProcess(pid, 'SIGTERM')
  signalProcess(pid, 'SIGCONT')
}
