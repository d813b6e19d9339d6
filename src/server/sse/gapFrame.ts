import type { EventHead, GapEvent } from '../../job/event.ts'

/**
 * What a reader is told whose place is past the end of the log, so that the numbers after `lastSeq` will be given again. It is
 * made for this reader and not in the log; its id is `lastSeq`, which is where an EventSource then goes on.
 */
export function gapFrame(jobId: string, lastSeq: number, named: boolean): string {
  const gap: GapEvent & EventHead = {
    type: 'gap',
    jobId,
    seq: lastSeq,
    at: new Date().toISOString(),
    from: lastSeq,
    to: lastSeq,
    reason: 'log_lost',
  }
  return `id: ${lastSeq}\n${named ? 'event: gap\n' : ''}data: ${JSON.stringify(gap)}\n\n`
}
