import { setTimeout as sleep } from 'node:timers/promises'
import { type Ended, sharedNowMs } from '../clock.ts'
import { answerCalls } from '../Program.ts'
import { type StreamOrder, StreamSocket } from '../StreamSocket.ts'

export interface Counted {
  readonly atMs: number
  readonly bytes: number
  /** Sums over all streams of the last number that each was sent: of its events' frames, and of the ticks in them. */
  readonly frames: number
  readonly ticks: number
}

let sockets: readonly StreamSocket[] = []

const calls = {
  /** Settles when all of them have begun. They are opened a few at a time: see the listen backlog. */
  async open({ order, streams }: { readonly order: StreamOrder; readonly streams: number }): Promise<void> {
    const opened: StreamSocket[] = []
    const opener = async (): Promise<void> => {
      while (opened.length < streams) {
        const socket = new StreamSocket(order)
        opened.push(socket)
        await socket.begun
      }
    }
    await Promise.all(Array.from({ length: OPENED_AT_ONCE }, opener))
    sockets = opened
  },
  count(): Counted {
    const counted = { atMs: sharedNowMs(), bytes: 0, frames: 0, ticks: 0 }
    for (const socket of sockets) {
      counted.bytes += socket.bytes
      counted.frames += socket.lastNumberAfter('\nid: ')
      counted.ticks += socket.lastNumberAfter('"tick ')
    }
    return counted
  },
  /** Drops all of them, one right after the other, and tells when each was dropped. */
  drop(how: 'fin' | 'rst'): readonly Ended[] {
    const dropped = sockets
    sockets = []
    return dropped.map((socket) => {
      const atMs = sharedNowMs()
      socket.drop(how)
      return { id: socket.jobId, atMs }
    })
  },
  /** One stream after the other, each dropped once it has begun and all has gone quiet. */
  async dropEach({
    order,
    streams,
    how,
  }: {
    readonly order: StreamOrder
    readonly streams: number
    readonly how: 'fin' | 'rst'
  }): Promise<readonly Ended[]> {
    const dropped: Ended[] = []
    for (let n = 0; n < streams; n += 1) {
      const socket = new StreamSocket(order)
      await socket.begun
      await sleep(QUIET_MS)
      const atMs = sharedNowMs()
      socket.drop(how)
      dropped.push({ id: socket.jobId, atMs })
      await sleep(QUIET_MS)
    }
    return dropped
  },
}

/** A server has a few hundred places for connections that it has not accepted, and accepts one a turn of its loop. */
const OPENED_AT_ONCE = 64
/** Long enough for a server to have nothing left to do, and for its timers of a few milliseconds to have run out. */
const QUIET_MS = 15

export type ClientCalls = typeof calls

answerCalls(calls, async () => {
  for (const socket of sockets) socket.drop('rst')
})
