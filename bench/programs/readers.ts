import { sharedNowMs } from '../clock.ts'
import { answerCalls } from '../Program.ts'
import { type StreamOrder, StreamSocket } from '../StreamSocket.ts'

/** What was read of one stream from its first byte to the event after which nothing more is of interest. */
export interface Reading {
  readonly firstByteMs: number
  readonly wholeMs: number
  readonly bytes: number
}

let followers: readonly StreamSocket[] = []
let slow: readonly StreamSocket[] = []
let lagsMs: number[] = []
let paceTimer: NodeJS.Timeout | undefined

const calls = {
  /** Opens streams that follow, and keeps how far behind each piece was that came. */
  async follow({ order, streams }: { readonly order: StreamOrder; readonly streams: number }): Promise<void> {
    followers = Array.from({ length: streams }, () => new StreamSocket(order))
    for (const socket of followers) socket.onBytes(noteLag)
    await Promise.all(followers.map(({ begun }) => begun))
  },
  /** Bytes that all followers were sent, and how long the newest event of each piece had been on its way, since this was last asked. */
  takeFollowed(): { readonly atMs: number; readonly bytes: number; readonly lagsMs: readonly number[] } {
    const taken = lagsMs
    lagsMs = []
    return { atMs: sharedNowMs(), bytes: followers.reduce((sum, socket) => sum + socket.bytes, 0), lagsMs: taken }
  },
  /** Reads one stream until `last` has come. */
  async read({ order, last }: { readonly order: StreamOrder; readonly last: string }): Promise<Reading> {
    const beganMs = performance.now()
    let firstByteMs: number | undefined
    const socket = new StreamSocket(order)
    const mark = Buffer.from(last)
    let before: Buffer = Buffer.alloc(0)
    await new Promise<void>((resolve) => {
      socket.onBytes((bytes) => {
        firstByteMs ??= performance.now() - beganMs
        const joined = Buffer.concat([before.subarray(-mark.length), bytes])
        before = bytes
        if (joined.includes(mark)) resolve()
      })
    })
    socket.begun.catch(() => undefined)
    const reading = { firstByteMs: firstByteMs ?? 0, wholeMs: performance.now() - beganMs, bytes: socket.bytes }
    socket.drop('rst')
    return reading
  },
  /** Opens streams that read nothing, or each `bytesPerTick` or so every 50 ms. */
  async openSlow({
    order,
    streams,
    bytesPerTick,
  }: {
    readonly order: StreamOrder
    readonly streams: number
    readonly bytesPerTick: number
  }): Promise<void> {
    slow = Array.from({ length: streams }, () => new StreamSocket(order))
    await Promise.all(slow.map(({ begun }) => begun))
    for (const socket of slow) socket.pause()
    if (bytesPerTick === 0) return
    for (const socket of slow) {
      let left = 0
      socket.onBytes((bytes) => {
        left -= bytes.length
        if (left <= 0) socket.pause()
      })
      Reflect.set(socket, 'refill', () => {
        left = bytesPerTick
        socket.resume()
      })
    }
    paceTimer = setInterval(() => {
      for (const socket of slow) Reflect.get(socket, 'refill')()
    }, 50)
  },
  slowBytes(): number {
    return slow.reduce((sum, socket) => sum + socket.bytes, 0)
  },
  drop(): void {
    clearInterval(paceTimer)
    for (const socket of [...followers, ...slow]) socket.drop('rst')
    followers = []
    slow = []
  },
}

const MARK = Buffer.from('"sentAtMs":')

function noteLag(bytes: Buffer): void {
  const at = bytes.lastIndexOf(MARK)
  if (at === -1) return
  // A number that is cut at the end of the piece says nothing.
  const [, sentAtMs] = /^([\d.]+)\D/.exec(bytes.toString('latin1', at + MARK.length, at + MARK.length + 32)) ?? []
  if (sentAtMs !== undefined) lagsMs.push(sharedNowMs() - Number(sentAtMs))
}

export type ReaderCalls = typeof calls

answerCalls(calls, async () => {
  calls.drop()
})
