import { readStat } from './procfs.ts'

/** Names this start of this server among all that share the machine: a pid comes again, its start time does not. */
export function instanceName(): string {
  const startedAt = process.platform === 'linux' ? readStat(process.pid)?.startTicks : undefined
  return `${process.pid}-${startedAt ?? Math.round(performance.timeOrigin)}`
}
