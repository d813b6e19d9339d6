import type { JobEvent, OutputChannel } from '../../job/event.ts'
import type { Usage } from '../../job/receipt.ts'
import { type ChildRow, CUT, type ModelRow, type Row, type ToolRow } from './row.ts'
import { sumUsage } from './sumUsage.ts'
import { TextRows } from './TextRows.ts'

/** Beyond this the oldest rows are let go of: the server keeps the log, and a page must not grow without end. */
const MAX_ROWS = 200_000
const MAX_CHARS = 32 * 1024 * 1024
/** Browsers draw nothing that is higher than some 17 million pixels. */
const MAX_LINES = 500_000
const DROPPED_AT_ONCE = 0.1

export interface Progress {
  readonly current: number
  readonly total: number | undefined
  readonly message: string | undefined
}

/** What a job's stream said, as rows to be shown. */
export class Trace {
  rows: Row[] = []
  progress: Progress | undefined
  usage: Usage = {}
  /** Rows that were let go of. */
  dropped = 0
  lastSeq = 0
  #chars = 0
  #lines = 0
  #nextKey = 1
  #texts = new Map<OutputChannel, TextRows>()
  readonly #openTools = new Map<string, Row & ToolRow>()
  readonly #openModels = new Map<string, (Row & ModelRow)[]>()
  readonly #children = new Map<string, Row & ChildRow>()

  take(event: JobEvent): void {
    this.lastSeq = event.seq
    this.#chars += sizeOf(event)
    this.#show(event)
    if (this.rows.length > MAX_ROWS || this.#chars > MAX_CHARS || this.#lines > MAX_LINES) this.#drop()
  }

  #show(event: JobEvent): void {
    switch (event.type) {
      case 'output':
        return this.#text(event.channel, event.text)
      case 'progress':
        this.progress = { current: event.current, total: event.total, message: event.message }
        return undefined
      case 'data':
        this.#add({ kind: 'data', name: event.name, value: event.value })
        return undefined
      case 'artifact': {
        const { name, path, mediaType, bytes } = event
        this.#add({ kind: 'artifact', name, path, mediaType, bytes })
        return undefined
      }
      case 'model.started': {
        const row = this.#add({ kind: 'model', model: event.model, startedAt: event.at, end: undefined } as const)
        this.#openModels.set(event.model, [...(this.#openModels.get(event.model) ?? []), row])
        return undefined
      }
      case 'model.finished': {
        const row = this.#openModels.get(event.model)?.shift()
        if (row !== undefined) this.#change(row, { end: { usage: event.usage, at: event.at } })
        if (event.usage !== undefined) this.usage = sumUsage(this.usage, event.usage)
        return undefined
      }
      case 'tool.started': {
        const { tool, callId, input, at } = event
        this.#openTools.set(callId, this.#add({ kind: 'tool', tool, input, startedAt: at, end: undefined } as const))
        return undefined
      }
      case 'tool.finished': {
        const row = this.#openTools.get(event.callId)
        this.#openTools.delete(event.callId)
        if (row !== undefined) this.#change(row, { end: { ok: event.ok, summary: event.summary, at: event.at } })
        return undefined
      }
      case 'child.started': {
        const { childId, task } = event
        this.#children.set(childId, this.#add({ kind: 'child', childId, task, status: undefined } as const))
        return undefined
      }
      case 'child.finished': {
        const row = this.#children.get(event.childId)
        if (row !== undefined) this.#change(row, { status: event.status })
        return undefined
      }
      case 'gap':
        this.#note(event, 'warning', `Events ${event.from} to ${event.to} are not kept (${GAPS[event.reason]}).`)
        return undefined
      case 'job.requeued':
        return this.#restart(event)
      case 'job.queued':
        this.#note(event, 'plain', event.position === 0 ? 'Queued' : `Queued at place ${event.position}`)
        return undefined
      case 'job.started':
        this.#note(event, 'plain', event.attempt > 1 ? `Started, attempt ${event.attempt}` : 'Started')
        return undefined
      case 'job.stopping':
        this.#note(event, 'warning', 'Stop asked: what is in flight finishes, nothing follows')
        return undefined
      case 'job.cancelling':
        this.#note(event, 'warning', 'Cancel asked: all work is ended now')
        return undefined
      case 'job.failed':
      case 'job.interrupted':
        this.#cutOff()
        this.#note(event, 'end', `${ENDS[event.type]}: ${event.failure.message}`)
        return undefined
      case 'job.succeeded':
      case 'job.cancelled':
      case 'job.stopped':
      case 'job.timed_out':
      case 'job.abandoned':
        this.#cutOff()
        this.#note(event, 'end', ENDS[event.type])
        return undefined
      default:
        // A type that this page does not know is no reason to show less of the others.
        event satisfies never
        return undefined
    }
  }

  #text(channel: OutputChannel, text: string): void {
    const rows = this.#texts.get(channel) ?? new TextRows(channel)
    this.#texts.set(channel, rows)
    const last = this.rows.at(-1)
    const open = last?.kind === 'text' && last.channel === channel ? last : undefined
    const linesBefore = open?.lines ?? 0
    const { begun, isChanged } = rows.append(open, text)
    this.#lines += (open?.lines ?? 0) - linesBefore + begun.reduce((sum, { lines }) => sum + lines, 0)
    if (isChanged && open !== undefined) open.version += 1
    // The same objects: text is added to them as it comes.
    for (const row of begun) this.#push(row)
  }

  /** What came before is void: the job runs anew. */
  #restart(event: Extract<JobEvent, { type: 'job.requeued' }>): void {
    this.rows = []
    this.progress = undefined
    this.usage = {}
    this.#chars = 0
    this.#lines = 0
    this.#texts = new Map()
    this.#openTools.clear()
    this.#openModels.clear()
    this.#children.clear()
    this.#note(event, 'warning', `Attempt ${event.attempt} was lost (${event.failure.message}); the job starts anew`)
  }

  /** What was open stays open in the log. */
  #cutOff(): void {
    for (const row of this.#openTools.values()) this.#change(row, { end: CUT })
    for (const row of [...this.#openModels.values()].flat()) this.#change(row, { end: CUT })
  }

  #note(event: JobEvent, tone: 'plain' | 'warning' | 'end', text: string): void {
    this.#add({ kind: 'note', tone, text, at: event.at })
  }

  #add<R extends object>(row: R): Row & R {
    return this.#push(row)
  }

  #push<R extends object>(row: R): Row & R {
    const shown = Object.assign(row, { key: this.#nextKey, version: 0, isOpen: false }) as unknown as Row & R
    this.#nextKey += 1
    this.rows.push(shown)
    return shown
  }

  #change<R extends Row>(row: R, change: Partial<R>): void {
    Object.assign(row, change)
    row.version += 1
  }

  #drop(): void {
    const count = Math.ceil(this.rows.length * DROPPED_AT_ONCE)
    const left = this.rows.slice(count)
    this.dropped += count
    this.#chars *= left.length / this.rows.length
    this.#lines = left.reduce((sum, row) => sum + (row.kind === 'text' ? row.lines : 0), 0)
    this.rows = left
  }
}

const GAPS = { retention: 'too old', log_limit: 'the log was full', log_lost: 'the log lost them' } as const

const ENDS = {
  'job.succeeded': 'Succeeded',
  'job.failed': 'Failed',
  'job.interrupted': 'Interrupted',
  'job.cancelled': 'Cancelled',
  'job.stopped': 'Stopped',
  'job.timed_out': 'Timed out',
  'job.abandoned': 'Abandoned: the function has not settled',
} as const

function sizeOf(event: JobEvent): number {
  if (event.type === 'output') return event.text.length
  // The others are bounded by the server, and few of them are long.
  return event.type === 'data' || event.type === 'tool.started' ? JSON.stringify(event).length : 200
}
