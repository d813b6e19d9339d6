import { writeSync } from 'node:fs'
import { culpritOf, describeFrame } from './culprit.ts'
import type { Glimpse } from './MainThreadPause.ts'

/** What is said of a block, while it lasts and when it is over. */
export interface BlockFields {
  /** How long the loop has not turned, to about a quarter of a second; time in which the process was suspended left out. */
  readonly ms: number
  /** The jobs that were running, the one that blocks among them if it is a job's doing. The first hundred. */
  readonly jobIds: readonly string[]
  /** How many were running, where not all of them are named. */
  readonly running?: number
  /** Whose code it was, where that could be seen. */
  readonly jobId?: string
  readonly task?: string
  readonly file?: string
  readonly line?: number
  readonly function?: string
  /** The innermost calls. */
  readonly stack?: readonly string[]
  /** The loop was in native code; the place is where that returned to, its caller or near it. */
  readonly isApproximate?: true
  /** Why there is no place. */
  readonly noPlace?: string
}

/** A few calls beyond the one that is named, to see who called it. */
const MAX_STACK = 10

/** What a glimpse adds to a report. */
export function placeFields({ frames, execution }: Glimpse): Partial<BlockFields> {
  return { ...execution, ...culpritOf(frames), stack: frames.slice(0, MAX_STACK).map(describeFrame) }
}

/** How lines of the log look beside the fields of one: what a pino logger is asked for, as it cannot be used by another thread. */
export interface LineForm {
  readonly level: number
  readonly bindings: Readonly<Record<string, unknown>>
}

/** One line as pino writes it. */
export function logLine(form: LineForm, at: number, fields: BlockFields, message: string): string {
  return `${JSON.stringify({ level: form.level, time: at, ...form.bindings, ...fields, msg: message })}\n`
}

/** For how long a reader that takes nothing is waited for. */
const WRITE_PATIENCE_MS = 1000
const WRITE_RETRY_MS = 10

/** Writes all of `text`, in one piece where the kernel takes it so. Gives up on a reader that takes nothing for a second. */
export function writeAll(fd: number, text: string, sleep: (ms: number) => void): void {
  let rest = Buffer.from(text)
  let waitedMs = 0
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(fd, rest))
    } catch (error) {
      // A full pipe. The main thread has it open for writing without blocking.
      if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) throw error
      if (waitedMs >= WRITE_PATIENCE_MS) throw error
      sleep(WRITE_RETRY_MS)
      waitedMs += WRITE_RETRY_MS
    }
  }
}
