import type { JobEvent } from '../job/event.ts'
import { type SseFrame, SseOverflow, type SseParser } from './SseParser.ts'

export interface Decoded {
  readonly events: readonly JobEvent[]
  /** What comes after the events is not of this protocol, and why. */
  readonly defect: TypeError | SyntaxError | SseOverflow | undefined
}

/** The events that these bytes complete, as far as they are events. */
export function decodeEvents(parser: SseParser, bytes: Uint8Array): Decoded {
  const events: JobEvent[] = []
  try {
    for (const frame of parser.push(bytes)) events.push(parseJobEvent(frame))
    return { events, defect: undefined }
  } catch (defect) {
    if (defect instanceof TypeError || defect instanceof SyntaxError || defect instanceof SseOverflow) {
      return { events, defect }
    }
    throw defect
  }
}

/** @throws {TypeError | SyntaxError} where the data is not the JSON of an event */
function parseJobEvent({ data }: SseFrame): JobEvent {
  const value: unknown = JSON.parse(data)
  if (typeof value !== 'object' || value === null || !('type' in value) || typeof value.type !== 'string') {
    throw new TypeError(`an event must be a JSON object with a type, got ${data.slice(0, 80)}`)
  }
  if (!('seq' in value) || !Number.isSafeInteger(value.seq)) {
    throw new TypeError(`an event must have a whole number as seq, got ${data.slice(0, 80)}`)
  }
  // The fields of each type are the server's promise (protocol, section 4) and not looked at one by one.
  return value as JobEvent
}
