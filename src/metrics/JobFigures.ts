import type { Phase } from '../job/cancellation.ts'
import type { StatusEvent } from '../job/event.ts'
import type { JobRecord } from '../job/record.ts'
import { type JobState, requestIn } from '../job/state.ts'
import { isTerminal } from '../job/status.ts'
import type { FoundBy, JobObserver, Stopped } from '../jobs/JobObserver.ts'
import type { Family } from './Family.ts'
import { Spread } from './Spread.ts'
import { Tally } from './Tally.ts'

/** Seconds. A stop takes milliseconds where a signal is heard, and up to `settleMs` or a model's call where it is not. */
const STOP_BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
const WAIT_BOUNDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800]
const RUN_BOUNDS = [0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600]
const FOUND_BY = { poll: { by: 'poll' }, answer: { by: 'answer' } } satisfies { [By in FoundBy]: { readonly by: By } }

/**
 * What becomes of jobs, counted once each change is in the log by the process that wrote it: the sum over all replicas counts each
 * once. A task that is not registered (a restart without it) goes by `unknown`, so that there are no more series than tasks.
 */
export class JobFigures implements JobObserver {
  readonly #isTask: (name: string) => boolean
  readonly #created = new Tally(['task'])
  readonly #ended = new Tally(['task', 'outcome'])
  readonly #requeued = new Tally(['task'])
  readonly #cancellations = new Tally(['cause', 'phase', 'confirmed'])
  readonly #found = new Tally(['by'], Object.values(FOUND_BY))
  readonly #stops = new Spread(STOP_BOUNDS, ['phase', 'kind'])
  readonly #waits = new Spread(WAIT_BOUNDS, ['left'])
  readonly #runs = new Spread(RUN_BOUNDS, ['task'])

  constructor(isTask: (name: string) => boolean) {
    this.#isTask = isTask
  }

  onStatus(record: JobRecord, event: StatusEvent): void {
    const { state } = record
    const task = this.#isTask(record.task) ? record.task : 'unknown'
    if (event.type === 'job.queued') this.#created.add({ task })
    if (event.type === 'job.requeued') this.#requeued.add({ task })
    if (event.type === 'job.started' && state.attempt === 1) this.#countWait(record, state, 'started')
    if (!isTerminal(state.status)) return
    this.#ended.add({ task, outcome: state.status })
    this.#countRequest(record, state)
    if ('startedAt' in state && state.startedAt !== undefined) this.#countRun(task, state)
    // One that waits again had its first slot before.
    else if (state.attempt === 0) this.#countWait(record, state, 'ended')
  }

  onStopped({ kind, phase, tookMs }: Stopped): void {
    this.#stops.observe(tookMs / 1000, { phase: nameOf(phase), kind })
  }

  onRequestFound(by: FoundBy): void {
    this.#found.add({ by })
  }

  /** `isShared`: there are other processes that may ask something of this one. */
  families(isShared: boolean): readonly Family[] {
    return [
      counted('tether_jobs_created_total', 'Jobs that were recorded, child jobs too.', this.#created),
      counted('tether_jobs_ended_total', 'Jobs that have ended, by outcome.', this.#ended),
      counted(
        'tether_jobs_requeued_total',
        'Jobs that wait again, because the process that ran them was gone.',
        this.#requeued,
      ),
      counted(
        'tether_cancellations_total',
        'Jobs that have ended after a cancel or a stop, by the request that decided; confirmed is "none" where there is no receipt.',
        this.#cancellations,
      ),
      {
        kind: 'histogram',
        name: 'tether_stop_seconds',
        help: 'From the request to end a job until its function had settled and what it held was looked for.',
        ...readOf(this.#stops),
      },
      {
        kind: 'histogram',
        name: 'tether_queue_wait_seconds',
        help: 'How long jobs waited for their first slot, by how they left the queue; without child jobs.',
        ...readOf(this.#waits),
      },
      {
        kind: 'histogram',
        name: 'tether_job_run_seconds',
        help: 'From the claim of a job to its end.',
        ...readOf(this.#runs),
      },
      ...(isShared
        ? [
            counted(
              'tether_requests_found_total',
              'Requests of other replicas that came without their hint: found by the poll, or in the answer to a write.',
              this.#found,
            ),
          ]
        : []),
    ]
  }

  #countRequest({ createdAt }: JobRecord, state: JobState): void {
    const found = requestIn(state)
    if (found === undefined) return
    const { kind, request } = found
    const { cause } = request
    const receipt = 'receipt' in state ? state.receipt : undefined
    const phase = nameOf(request.phase)
    this.#cancellations.add({ cause, phase, confirmed: receipt === undefined ? 'none' : String(receipt.confirmed) })
    // One that ran is told of when it has settled, by a clock that nobody sets.
    if (phase === 'queued' && 'endedAt' in state) {
      // Asked for before it came, and remembered: there was nothing to stop until then.
      const askedMs = Math.max(Date.parse(request.requestedAt), createdAt)
      this.#stops.observe(secondsFrom(askedMs, state.endedAt), { phase, kind })
    }
  }

  #countWait({ createdAt, parentId }: JobRecord, state: JobState, left: 'started' | 'ended'): void {
    const until = left === 'started' && 'startedAt' in state ? state.startedAt : 'endedAt' in state ? state.endedAt : 0
    if (parentId !== undefined || until === undefined) return
    this.#waits.observe(secondsFrom(createdAt, until), { left })
  }

  #countRun(task: string, state: JobState): void {
    if ('endedAt' in state && 'startedAt' in state && state.startedAt !== undefined) {
      this.#runs.observe(secondsFrom(state.startedAt, state.endedAt), { task })
    }
  }
}

/** Without the name of a tool: anybody may give one any name. */
function nameOf(phase: Phase): string {
  return phase.startsWith('tool:') ? 'tool' : phase
}

/** Wall time may be set back. */
function secondsFrom(startMs: number, endMs: number): number {
  return Math.max(0, endMs - startMs) / 1000
}

function counted<L extends string>(name: string, help: string, tally: Tally<L>): Family {
  return { kind: 'counter', name, help, labelNames: tally.labelNames, read: () => tally }
}

function readOf<L extends string>(
  spread: Spread<L>,
): Pick<Family & { kind: 'histogram' }, 'bounds' | 'labelNames' | 'read'> {
  return { bounds: spread.bounds, labelNames: spread.labelNames, read: () => spread.read() }
}
