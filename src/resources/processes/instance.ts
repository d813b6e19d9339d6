import { readlinkSync } from 'node:fs'
import { isAlive, readStat } from './procfs.ts'

/** The folder of a server's control groups is called this and the server's name. */
export const GROUP_PREFIX = 'tether-'

/** Names this start of this server among all that share the machine. */
export function instanceName(): string {
  if (process.platform === 'linux') return instanceNameOf(process.pid)
  return `${process.pid}-${Math.round(performance.timeOrigin)}-0`
}

/**
 * The name of the server whose process `pid` is: `PID-START-NAMESPACE`. A pid comes again, its start time does not; and both mean
 * something only inside of one pid namespace, while a machine's control groups and processes show those of containers too.
 *
 * @throws {Error} where there is no such process.
 */
export function instanceNameOf(pid: number): string {
  const stat = readStat(pid)
  if (stat === undefined) throw new Error(`pid must be one of a process, got ${pid}`)
  return `${pid}-${stat.startTicks}-${ownPidNamespace()}`
}

/** Whether the server with that name is known to be dead. One of another pid namespace is not: it cannot be looked at from here. */
export function isDeadInstance(name: string): boolean {
  const [, pid, startTicks, namespace] = /^(\d+)-(\d+)-(\d+)$/.exec(name) ?? []
  if (pid === undefined || startTicks === undefined || namespace !== ownPidNamespace()) return false
  const stat = readStat(Number(pid))
  return !isAlive(stat) || stat.startTicks !== Number(startTicks)
}

function ownPidNamespace(): string {
  // `pid:[4026531836]`
  return /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] ?? '0'
}
