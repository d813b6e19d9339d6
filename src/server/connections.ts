import type { Socket } from 'node:net'

/**
 * What every connection is set to. Probes find a client that vanished without a word, on a stream that is idle: after 5 s of
 * silence, three of them a second apart. Heartbeats are rarer than that, since data that waits for an answer suppresses probes;
 * who vanishes while there is such data is found by `UnansweredWrites`.
 */
const IDLE_BEFORE_PROBE_MS = 5000
const PROBE_INTERVAL_MS = 1000
const PROBES = 3

export function setUpConnection(socket: Socket): void {
  socket.setNoDelay(true)
  // Node 24 takes the first two alone and ignores the rest: ten probes, 15 s instead of 8.
  socket.setKeepAlive(true, IDLE_BEFORE_PROBE_MS, PROBE_INTERVAL_MS, PROBES)
}
