/** What happens too often, or matters too little each time, to be a line in the log. Counted from the start of the process. */
export interface ServerCounters {
  /** Frames that came for a stream that was over already. */
  framesAfterEnd: number
  /** Streams destroyed because the kernel took nothing of them for `stallMs`. */
  stalledStreams: number
  /** Streams and pending answers destroyed because nothing answered what was sent to their client (UnansweredWrites.ts). */
  vanishedClients: number
  /** Streams of `/jobs/events` destroyed because they fell behind by more than their budget. */
  droppedFeeds: number
  /** Streams destroyed because their job's log could not be read. */
  failedStreams: number
  /** Requests refused because their client has as many streams as it may. */
  refusedStreams: number
}

export function zeroCounters(): ServerCounters {
  return {
    framesAfterEnd: 0,
    stalledStreams: 0,
    vanishedClients: 0,
    droppedFeeds: 0,
    failedStreams: 0,
    refusedStreams: 0,
  }
}
