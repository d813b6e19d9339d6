import type { EventHead, GapEvent } from '../job/event.ts'
import type { EventBatch } from '../store/JobStore.ts'

/** Every line of the log begins so, which lets a frame be made from it without parsing. */
const TYPE_PREFIX = '{"type":"'

/** One event as a line of the log: compact JSON that begins with its type. `data` must have no `type` and no `at`. */
export function encodeLine(type: string, at: string, data: object): string {
  const rest = JSON.stringify(data)
  const tail = rest === '{}' ? '}' : `,${rest.slice(1)}`
  return `${TYPE_PREFIX}${type}","at":"${at}"${tail}`
}

/**
 * The frames of a batch's events with `seq` greater than `after`, ready for the socket (WHATWG HTML section 9.2: `id`, `event`,
 * one line of `data`, a blank line). The data is the log's JSON with `jobId` and `seq` put in front; JSON has no raw CR or LF,
 * so it is one line whatever the task sent. With `named` false, `event:` is left out, for an EventSource's `onmessage`.
 */
export function framesOf(jobId: string, batch: EventBatch, after: number, named: boolean): string {
  let frames = ''
  let start = 0
  for (let seq = batch.firstSeq; seq <= batch.lastSeq; seq += 1) {
    const newline = batch.lines.indexOf('\n', start)
    const end = newline === -1 ? batch.lines.length : newline
    if (seq > after) {
      const typeStart = start + TYPE_PREFIX.length
      const event = named ? `event: ${batch.lines.slice(typeStart, batch.lines.indexOf('"', typeStart))}\n` : ''
      frames += `id: ${seq}\n${event}data: {"jobId":"${jobId}","seq":${seq},${batch.lines.slice(start + 1, end)}\n\n`
    }
    start = end + 1
  }
  return frames
}

/** The type of a batch's last event. */
export function lastTypeOf({ lines }: EventBatch): string {
  const typeStart = lines.lastIndexOf('\n') + 1 + TYPE_PREFIX.length
  return lines.slice(typeStart, lines.indexOf('"', typeStart))
}

/**
 * What a reader is told that is not given the events `from` to `to`. It is made for this reader and not in the log; its id is
 * `to`, which is where an EventSource then goes on.
 */
export function gapFrame(jobId: string, { from, to, reason }: Omit<GapEvent, 'type'>, named: boolean): string {
  const at = new Date().toISOString()
  const gap: GapEvent & EventHead = { type: 'gap', jobId, seq: to, at, from, to, reason }
  return `id: ${to}\n${named ? 'event: gap\n' : ''}data: ${JSON.stringify(gap)}\n\n`
}
