import type { OutputChannel } from '../../job/event.ts'
import type { Json } from '../../job/json.ts'
import type { Usage } from '../../job/receipt.ts'

/** One entry of a job's stream as it is shown. `key` never changes; `version` does when the row does. Whoever unfolds it says so. */
export type Row = { readonly key: number; version: number; isOpen: boolean } & (
  | TextRow
  | ToolRow
  | ModelRow
  | ChildRow
  | DataRow
  | ArtifactRow
  | NoteRow
)

/** The job ended while it was under way: nothing says how it ended, the job's receipt accounts for it. */
export const CUT = 'cut'

export interface TextRow {
  readonly kind: 'text'
  readonly channel: OutputChannel
  text: string
  lines: number
}

export interface ToolRow {
  readonly kind: 'tool'
  readonly tool: string
  readonly input: Json
  readonly startedAt: string
  end: { readonly ok: boolean; readonly summary: string; readonly at: string } | typeof CUT | undefined
}

export interface ModelRow {
  readonly kind: 'model'
  readonly model: string
  readonly startedAt: string
  end: { readonly usage: Usage | undefined; readonly at: string } | typeof CUT | undefined
}

export interface ChildRow {
  readonly kind: 'child'
  readonly childId: string
  readonly task: string
  status: string | undefined
}

interface DataRow {
  readonly kind: 'data'
  readonly name: string
  readonly value: Json
}

interface ArtifactRow {
  readonly kind: 'artifact'
  readonly name: string
  readonly path: string
  readonly mediaType: string
  readonly bytes: number
}

/** What happened to the job, or to its log. */
interface NoteRow {
  readonly kind: 'note'
  readonly tone: 'plain' | 'warning' | 'end'
  readonly text: string
  readonly at: string
}
