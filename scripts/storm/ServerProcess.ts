import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import type { JobView } from '../../src/job/view.ts'
import { findCgroupBases } from '../../src/resources/processes/cgroupMount.ts'
import { instanceNameOf } from '../../src/resources/processes/instance.ts'
import { MARKER } from '../../src/resources/processes/marker.ts'
import { allPids, childrenOf, isAlive, readStat } from '../../src/resources/processes/procfs.ts'

/** How many descriptors a process has of each kind. */
export type Descriptors = Readonly<Record<string, number>>

/** The server as the operating system sees it: what it has open, and the processes that bear its name. */
export class ServerProcess {
  readonly pid: number
  /** What the marker of its processes and the folder of its control groups bear (see instance.ts). */
  readonly #instance: string
  /** Children that are the server's own and not a job's. */
  #ownChildren: ReadonlySet<number> = new Set()

  private constructor(pid: number, instance: string) {
    this.pid = pid
    this.#instance = instance
  }

  /** `replica` has the pid in it. */
  static ofJob(job: JobView): ServerProcess | undefined {
    return ServerProcess.ofPid(Number(/-(\d+)-[0-9a-f]{8}$/.exec(job.replica ?? '')?.[1]))
  }

  /** Undefined where that is no process that we see. */
  static ofPid(pid: number): ServerProcess | undefined {
    const isThere = Number.isInteger(pid) && readStat(pid) !== undefined
    return isThere ? new ServerProcess(pid, instanceNameOf(pid)) : undefined
  }

  descriptors(): Descriptors {
    const counts: Record<string, number> = {}
    for (const name of readdirSync(`/proc/${this.pid}/fd`)) {
      const kind = kindOf(`/proc/${this.pid}/fd/${name}`)
      if (kind !== undefined) counts[kind] = (counts[kind] ?? 0) + 1
    }
    return counts
  }

  /** What it has for children now, with no job running, it keeps for itself. */
  noteOwnChildren(): void {
    this.#ownChildren = new Set(childrenOf(this.pid))
  }

  /** Once it has ended, nothing may be left of it, its own children included. */
  forgetOwnChildren(): void {
    this.#ownChildren = new Set()
  }

  /** Children that are not its own, dead ones that it has not collected included. */
  children(): readonly string[] {
    const others = childrenOf(this.pid).filter((pid) => !this.#ownChildren.has(pid))
    return others.map((pid) => `${pid} (${readStat(pid)?.state}) ${commandLineOf(pid)}`)
  }

  /** Everything that bears its name, in the environment, the control group or the command line, or `word` in the last. */
  processesOf(word: string): readonly string[] {
    const marker = new RegExp(`(^|\\0)${MARKER}=[^\\0]*/${this.#instance}-\\d+\\0`)
    return processesWhere(
      (pid) =>
        !this.#ownChildren.has(pid) &&
        (commandLineOf(pid).includes(word) ||
          commandLineOf(pid).includes(this.#instance) ||
          marker.test(readText(`/proc/${pid}/environ`)) ||
          readText(`/proc/${pid}/cgroup`).includes(`/tether-${this.#instance}/`)),
    )
  }

  /** Control groups of its jobs. */
  controlGroups(): readonly string[] {
    return cgroupBases()
      .map((base) => join(base, `tether-${this.#instance}`))
      .filter((path) => existsSync(path))
  }
}

/** Living processes with `word` in their command line. */
export function processesNaming(word: string): readonly string[] {
  return processesWhere((pid) => commandLineOf(pid).includes(word))
}

/** Ends what the server left, once it has been told of. */
export function killNaming(word: string): void {
  for (const pid of pidsWhere((pid) => commandLineOf(pid).includes(word))) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch (error) {
      if (!isGone(error)) throw error
    }
  }
}

function processesWhere(isWanted: (pid: number) => boolean): readonly string[] {
  return pidsWhere(isWanted).map((pid) => `${pid} ${commandLineOf(pid).slice(0, MAX_COMMAND_LENGTH)}`)
}

function pidsWhere(isWanted: (pid: number) => boolean): readonly number[] {
  return allPids().filter((pid) => pid !== process.pid && isWanted(pid) && isAlive(readStat(pid)))
}

const MAX_COMMAND_LENGTH = 120

/** Whole: the word may stand far into a shell's line. */
function commandLineOf(pid: number): string {
  return readText(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim()
}

/** A descriptor may be closed while it is looked at. */
function kindOf(path: string): string | undefined {
  try {
    const [kind = 'file'] = readlinkSync(path).split(':')
    return kind.startsWith('/') ? 'file' : kind
  } catch (error) {
    if (isGone(error)) return undefined
    throw error
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch (error) {
    if (isGone(error)) return ''
    throw error
  }
}

function isGone(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  return code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES' || code === 'EPERM'
}

/** None where the machine has no control groups of version 2. */
function cgroupBases(): readonly string[] {
  try {
    return findCgroupBases()
  } catch {
    return []
  }
}
