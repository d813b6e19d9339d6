import { readdirSync, readFileSync } from 'node:fs'

/** A process as `/proc/PID/stat` shows it. A pid alone names nobody for long: `startTicks` tells one bearer from the next. */
export interface ProcessStat {
  readonly pid: number
  /** `Z` and `X` are dead ones that nobody has collected yet: `kill(pid, 0)` succeeds for them. */
  readonly state: string
  readonly groupId: number
  /** Clock ticks since boot, as the kernel writes it. */
  readonly startTicks: number
}

/** The process now bearing `pid`, or undefined where there is none that we may look at. */
export function readStat(pid: number): ProcessStat | undefined {
  const text = readProc(`/proc/${pid}/stat`)
  if (text === undefined) return undefined
  // The second field is the program's name in brackets, which may itself hold brackets and spaces.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const [state = '', , groupId] = fields
  return { pid, state, groupId: Number(groupId), startTicks: Number(fields[19]) }
}

export function isAlive(stat: ProcessStat | undefined): stat is ProcessStat {
  return stat !== undefined && stat.state !== 'Z' && stat.state !== 'X'
}

/** Where the environment that a process was started with begins in its memory; undefined where we may not know. */
export function envStartOf(pid: number | 'self'): number | undefined {
  const text = readProc(`/proc/${pid}/stat`) ?? ''
  const start = Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[47])
  return Number.isSafeInteger(start) && start > 0 ? start : undefined
}

/** Whether the process that was seen as `seen` still runs, and its pid was not given to another since. */
export function stillRuns(seen: Pick<ProcessStat, 'pid' | 'startTicks'>): boolean {
  const now = readStat(seen.pid)
  return isAlive(now) && now.startTicks === seen.startTicks
}

/** The pids of the children of every thread of `pid`, dead ones included. */
export function childrenOf(pid: number): readonly number[] {
  return threadsOf(pid).flatMap((thread) => numbersIn(readProc(`/proc/${pid}/task/${thread}/children`) ?? ''))
}

/** The pid that a process has in the innermost of its pid namespaces. */
export function innermostPidOf(pid: number): number | undefined {
  const line = /^NSpid:\s*(.*)$/m.exec(readProc(`/proc/${pid}/status`) ?? '')?.[1]
  return numbersIn(line ?? '').at(-1)
}

export function allPids(): readonly number[] {
  return readdirSync('/proc').map(Number).filter(Number.isInteger)
}

/** The environment that the process was started with, each entry ended by NUL; empty where we may not read it. */
export function environOf(pid: number): string {
  return readProc(`/proc/${pid}/environ`) ?? ''
}

/** So much of a command line is shown (characters). */
export const MAX_COMMAND_LENGTH = 200

/** The command line for a person to read. */
export function commandOf(pid: number): string {
  const words = (readProc(`/proc/${pid}/cmdline`) ?? '').replaceAll('\0', ' ').trim()
  // A kernel thread, or a process on its way out, has no words left but still its name.
  const text = words === '' ? `[${(readProc(`/proc/${pid}/comm`) ?? '?').trim()}]` : words
  return text.slice(0, MAX_COMMAND_LENGTH)
}

export function numbersIn(text: string): readonly number[] {
  return text
    .split(/\s+/)
    .filter((word) => word !== '')
    .map(Number)
}

function threadsOf(pid: number): readonly string[] {
  try {
    return readdirSync(`/proc/${pid}/task`)
  } catch (error) {
    if (isGone(error)) return []
    throw error
  }
}

function readProc(path: string): string | undefined {
  try {
    // Named as text here, Node reads it in one call: half the time of reading bytes, and a sweep reads hundreds.
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (isGone(error)) return undefined
    throw error
  }
}

/**
 * The process ended, or belongs to somebody else. Anything else (too many open files) is thrown: who looks for what is left
 * must not take a failure to look for having found nothing.
 */
function isGone(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES' || code === 'EPERM'
}
