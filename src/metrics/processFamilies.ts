import type { Family } from './Family.ts'
import { one } from './Family.ts'

/** The process, under the names that every Prometheus client library gives them. */
export function processFamilies(): readonly Family[] {
  return [
    {
      kind: 'counter',
      name: 'process_cpu_seconds_total',
      help: 'Processor time of this process, without that of the processes of jobs.',
      read: () => {
        const { user, system } = process.cpuUsage()
        return one((user + system) / 1e6)
      },
    },
    {
      kind: 'gauge',
      name: 'process_resident_memory_bytes',
      help: 'Memory of this process.',
      read: () => one(process.memoryUsage.rss()),
    },
    {
      kind: 'gauge',
      name: 'process_start_time_seconds',
      help: 'When this process started, in seconds since the epoch.',
      read: () => one(performance.timeOrigin / 1000),
    },
    {
      kind: 'gauge',
      name: 'nodejs_heap_size_used_bytes',
      help: 'What of the heap is used.',
      read: () => one(process.memoryUsage().heapUsed),
    },
  ]
}
