import type { Containment } from '../job/receipt.ts'
import type { JobsStanding } from '../jobs/JobManager.ts'
import type { HintCounts } from '../jobs/Replicas.ts'
import type { Family, Sample } from './Family.ts'
import { one } from './Family.ts'

interface DiskSpace {
  readonly freeBytes: number
  readonly totalBytes: number
}

export interface StandingSources {
  readonly standing: () => JobsStanding
  /** How many wait in the queue of all; undefined where it cannot be asked. */
  readonly countShared: () => Promise<number | undefined>
  readonly hints: (() => HintCounts) | undefined
  readonly replica: string
  readonly containment: Containment
  readonly concurrency: number
  readonly maxAbandoned: number
  /** Of the file system of DATA_DIR. */
  readonly diskSpace: () => Promise<DiskSpace>
}

/** How the server stands at the moment of the scrape. */
export function standingFamilies(sources: StandingSources): readonly Family[] {
  const { standing, diskSpace, hints, replica, containment, concurrency, maxAbandoned } = sources
  const gauge = (name: string, help: string, read: () => number): Family => ({
    kind: 'gauge',
    name,
    help,
    read: () => one(read()),
  })
  const disk = (name: string, help: string, of: (space: DiskSpace) => number): Family => ({
    kind: 'gauge',
    name,
    help,
    // A folder that cannot be looked at has no figure; /health/ready says why.
    read: () =>
      diskSpace().then(
        (space) => one(of(space)),
        () => [],
      ),
  })
  return [
    {
      kind: 'gauge',
      name: 'tether_info',
      help: 'Always 1: which process this is, and how its jobs are contained.',
      labelNames: ['replica', 'node', 'containment', 'complete'],
      read: () => {
        const { level, complete } = containment
        return [
          { labels: { replica, node: process.version, containment: level, complete: String(complete) }, value: 1 },
        ]
      },
    },
    {
      kind: 'gauge',
      name: 'tether_jobs_queued',
      help: 'Jobs that wait for a slot: in this process, and in the queue that all replicas share (the same at each).',
      labelNames: ['queue'],
      read: () => queued(sources),
    },
    gauge('tether_jobs_running', 'Functions of jobs that run and whose jobs have not ended.', () => standing().running),
    gauge(
      'tether_jobs_stuck',
      'Functions that are still going though their jobs ended abandoned.',
      () => standing().stuck.length,
    ),
    gauge('tether_jobs_stuck_limit', 'MAX_ABANDONED: past it the server is not ready.', () => maxAbandoned),
    gauge('tether_slots', 'CONCURRENCY: how many jobs run at once.', () => concurrency),
    gauge('tether_draining', '1 while the server shuts down.', () => (standing().isDraining ? 1 : 0)),
    disk('tether_disk_free_bytes', 'Free space of the file system of DATA_DIR.', ({ freeBytes }) => freeBytes),
    disk('tether_disk_size_bytes', 'Size of the file system of DATA_DIR.', ({ totalBytes }) => totalBytes),
    ...(hints === undefined ? [] : hintFamilies(hints)),
  ]
}

async function queued({ standing, countShared, hints }: StandingSources): Promise<readonly Sample[]> {
  const own = { labels: { queue: 'own' }, value: standing().queued }
  const shared = hints === undefined ? undefined : await countShared()
  return shared === undefined ? [own] : [own, { labels: { queue: 'shared' }, value: shared }]
}

function hintFamilies(counts: () => HintCounts): readonly Family[] {
  return [
    {
      kind: 'counter',
      name: 'tether_hints_total',
      help: 'What replicas tell each other of jobs: sent by this one, not sent because Redis did not take it, received, and lost on the way here.',
      labelNames: ['what'],
      read: () => Object.entries(counts()).map(([what, value]) => ({ labels: { what }, value })),
    },
  ]
}
