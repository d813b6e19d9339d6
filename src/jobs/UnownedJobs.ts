import type { Clock } from '../clock.ts'
import type { EventLog } from '../eventlog/EventLog.ts'
import { encodeLine } from '../eventlog/frames.ts'
import type { TaskRegistry } from '../execution/TaskRegistry.ts'
import type { StatusEvent } from '../job/event.ts'
import type { JobRef } from '../job/key.ts'
import type { Containment } from '../job/receipt.ts'
import type { JobRecord } from '../job/record.ts'
import { isTerminal } from '../job/status.ts'
import { decide, type JobCommand } from '../job/transition.ts'
import type { ChangeResult, JobStore, StoreChange } from '../store/JobStore.ts'
import type { AskedRequest } from './Replicas.ts'

export interface UnownedJobsOptions {
  readonly clock: Clock
  readonly store: JobStore
  readonly eventLog: EventLog
  readonly tasks: TaskRegistry
  readonly containment: Containment
  /** A change of a job's status is in the log now. */
  readonly onMoved: (record: JobRecord, event: StatusEvent) => void
}

/** Changes jobs that no process runs: those that wait, and those whose process is gone. */
export class UnownedJobs {
  readonly #options: UnownedJobsOptions

  constructor(options: UnownedJobsOptions) {
    this.#options = options
  }

  /** Has a job do what was asked of it: one that waits ends. As `move`. */
  end(ref: JobRef, asked: AskedRequest, owner?: string): Promise<JobRecord | undefined> {
    const { clock, containment } = this.#options
    const request = { ...asked, requestedAtMs: clock.monotonicMs() }
    const phase = owner === undefined ? 'queued' : 'running'
    return this.move(ref, { do: 'request', at: clock.now(), request, phase, containment }, owner)
  }

  /**
   * Does what `command` says of the job as it stands, and looks again where somebody was faster. `owner`: the process that is
   * gone. Settles with the job as it then is; undefined where there is none. Where it has come to belong to a process, was asked to
   * end in another way meanwhile, or
   * `command` has nothing to do, it is left as it is. Rejects with a `StoreError`.
   */
  async move(ref: JobRef, command: JobCommand, owner?: string): Promise<JobRecord | undefined> {
    for (;;) {
      const found = await this.#options.store.lookup(ref)
      if (found.kind !== 'found') return undefined
      const { record } = found
      const { state } = record
      if (isTerminal(state.status) || (owner === undefined && state.status !== 'queued')) return record
      const decision = decide(state, command)
      if (decision.kind !== 'moved') return record
      const moved = { ...record, state: decision.state, lastSeq: record.lastSeq + 1 }
      const result = await this.#commit(record, decision.state, decision.event, owner)
      if (result === undefined) return record
      if (result.ok) {
        this.#options.onMoved(moved, decision.event)
        return moved
      }
      if (result.why === 'fenced' || result.why === 'asked') return record
    }
  }

  #commit(
    record: JobRecord,
    state: JobRecord['state'],
    event: StatusEvent,
    owner: string | undefined,
  ): Promise<ChangeResult | undefined> {
    const { clock, tasks, eventLog } = this.#options
    const { type, ...data } = event
    const seq = record.lastSeq + 1
    const from = record.state.status
    if (isTerminal(from)) throw new Error(`job ${record.id} is ${from}`)
    const change: StoreChange = {
      kind: 'move',
      ref: { tenant: record.tenant, id: record.id },
      from,
      state,
      events: { firstSeq: seq, lastSeq: seq, lines: encodeLine(type, new Date(clock.now()).toISOString(), data) },
      ...(from === 'queued' ? { input: tasks.find(record.task)?.redact(record.input) ?? null } : {}),
      ...(owner === undefined ? {} : { owner }),
    }
    return new Promise((resolve) => eventLog.push({ change, settle: (_, result) => resolve(result) }))
  }
}
