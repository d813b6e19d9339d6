import type { SseFrame } from '../../src/client/SseParser.ts'
import { isTerminalEvent } from '../../src/job/event.ts'
import type { JobView } from '../../src/job/view.ts'
import type { Sighting } from './client.ts'
import { GRACE_MS, type Moment, type Outcome } from './plan.ts'

/** What came of one stream. */
export interface Verdict {
  readonly moment: Moment
  /** With where the job had got to when it was asked to end. */
  readonly outcome: string
  readonly isAllowed: boolean
  /** From the leaving or the request to the job's end, by the wall clock that both sides share. */
  readonly endedAfterMs: number | undefined
  readonly problems: readonly string[]
}

/** What the death of a server excuses. */
export interface Excuse {
  /** Whether it was the client's. */
  readonly isCut: boolean
  /** Whether it was the one that ran the job. */
  readonly isRunnerDead: boolean
}

/** Judges what the server says of a job against what its client did and saw. */
export function judge(
  { planned, endedByAt, lastSeq, problems }: Sighting,
  jobs: readonly JobView[],
  log: readonly SseFrame[],
  excuse: Excuse,
): Verdict {
  const [job, ...more] = jobs
  const wasLost = excuse.isRunnerDead && job?.status === 'interrupted'
  const objections = excuse.isCut || wasLost ? [] : [...problems]
  if (more.length > 0) objections.push(`one start made ${jobs.length} jobs`)
  if (job !== undefined) objections.push(...objectionsTo(job), ...objectionsToLog(job, log))
  if (job === undefined && lastSeq > 0) objections.push(`the client saw ${lastSeq} events of a job that there is not`)
  if (job !== undefined && job.lastSeq < lastSeq) {
    objections.push(`the client saw event ${lastSeq} and the log ends with ${job.lastSeq}`)
  }
  const outcome = outcomeOf(job)
  return {
    moment: planned.moment,
    outcome: job?.cancellation === undefined ? outcome : `${outcome} (${job.cancellation.phase})`,
    isAllowed:
      planned.allowed.some((allowed) => allowed === outcome) || wasLost || (excuse.isCut && CUT.includes(outcome)),
    endedAfterMs: endedAfterMs(job, endedByAt, planned.moment),
    problems: objections.map((text) => `stream ${planned.index} (${planned.moment}; ${planned.work.name}): ${text}`),
  }
}

/** What may come of a client that is cut off against its will: its request may not have been read, or it counts as gone. */
const CUT: readonly string[] = ['no job', 'cancelled by client_disconnected'] satisfies Outcome[]

function outcomeOf(job: JobView | undefined): string {
  if (job === undefined) return 'no job'
  if (job.status === 'succeeded' || job.status === 'failed') return job.status
  return `${job.status} by ${job.cancellation?.cause ?? job.stop?.cause ?? 'nothing'}`
}

function objectionsTo(job: JobView): readonly string[] {
  const objections: string[] = []
  if (!job.terminal) objections.push(`job ${job.id} is ${job.status} and has not ended`)
  if (job.receipt !== undefined && !job.receipt.confirmed) objections.push(`job ${job.id} ended unconfirmed`)
  for (const { pid, command } of job.receipt?.survivors ?? [])
    objections.push(`${pid} ${command} survived job ${job.id}`)
  return objections
}

/** Protocol, sections 2 and 4: numbers without gap, one terminal event, the last; nothing between it and `job.cancelling`. */
function objectionsToLog(job: JobView, log: readonly SseFrame[]): readonly string[] {
  const types = log.map(({ event }) => event)
  const objections: string[] = []
  if (log.length !== job.lastSeq || log.some(({ id }, index) => id !== String(index + 1))) {
    objections.push(
      `the log of ${job.id} has the events ${log
        .map(({ id }) => id)
        .join(' ')
        .slice(0, 200)}`,
    )
  }
  if (types[0] !== 'job.queued') objections.push(`the log of ${job.id} begins with ${types[0]}`)
  if (job.terminal && types.at(-1) !== `job.${job.status}`) {
    objections.push(`job ${job.id} is ${job.status} and its log ends with ${types.at(-1)}`)
  }
  const ends = types.filter(isTerminalEvent).length
  if (ends !== 1) objections.push(`the log of ${job.id} has ${ends} terminal events`)
  const cancellingAt = types.indexOf('job.cancelling')
  if (cancellingAt !== -1 && cancellingAt !== types.length - 2) {
    objections.push(`in the log of ${job.id}, ${types.slice(cancellingAt).join(', ').slice(0, 200)} follow each other`)
  }
  return objections
}

/** A job that ended of its own accord was not ended by us. */
function endedAfterMs(job: JobView | undefined, endedByAt: number | undefined, moment: Moment): number | undefined {
  if (job?.endedAt === undefined || endedByAt === undefined) return undefined
  if (job.status === 'succeeded' || job.status === 'failed') return undefined
  // What was asked for before the start ends with it: the time to the end says when the client started it.
  if (moment.endsWith('the start') && moment !== 'at the start') return undefined
  const ms = Date.parse(job.endedAt) - endedByAt
  return moment === 'dropped, with grace' ? ms - GRACE_MS : ms
}
