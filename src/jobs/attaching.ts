import type { FrameSink, JobReader } from '../eventlog/JobReader.ts'
import type { JobView } from '../job/view.ts'
import type { Holder } from './Holder.ts'

export interface AttachOptions {
  /** The reader has the events up to here. Past the end of the log it is told so, and goes on from the end. */
  readonly after: number
  readonly sink: FrameSink
  readonly named: boolean
  /** Whether a reader that has all of a job that has ended gets its terminal event again, rather than nothing. */
  readonly givesEnd?: boolean
  /** Joins as a holder, unless the job is being cancelled or has ended. */
  readonly holder?: Holder
}

export interface Attachment {
  /** Not started yet. */
  readonly reader: JobReader
  readonly view: JobView
  readonly lastSeq: number
  readonly holds: boolean
}
