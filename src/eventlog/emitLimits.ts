import { MAX_EVENT_BYTES } from '../job/event.ts'
import { TaskFailure } from '../job/failure.ts'

// What a task may emit: the same wherever its function runs.

/** Above this many units that are not logged yet, an emitter is asked to wait. */
export const BACKPRESSURE_UNITS = 256 * 1024

/** An author who never waits fails here (16 MiB; protocol, section 4). */
export const OVERRUN_UNITS = 16 * 1024 * 1024

export function overrun(): TaskFailure {
  return new TaskFailure(
    'TETHER_OUTPUT_OVERRUN',
    'more than 16 MiB of output wait to be logged: await the promise that output() returns',
  )
}

/** For an event that is not text, which would be split. @throws {TaskFailure} `TETHER_EVENT_TOO_LARGE` past 64 KiB of JSON */
export function assertSize(type: string, json: string): void {
  // No UTF-16 unit takes more than three bytes of UTF-8: most events need not be measured.
  if (json.length * 3 <= MAX_EVENT_BYTES - 256) return
  const bytes = Buffer.byteLength(json)
  if (bytes <= MAX_EVENT_BYTES - 256) return
  throw new TaskFailure(
    'TETHER_EVENT_TOO_LARGE',
    `an event of type ${type} may have ${MAX_EVENT_BYTES} bytes, this one has ${bytes}`,
  )
}
