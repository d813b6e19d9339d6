import { setTimeout as sleep } from 'node:timers/promises'
import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { type Ended, sharedNowMs } from '../clock.ts'
import { answerCalls } from '../Program.ts'

const CHANNEL = 'bench'
const LOG = 'bench-log'
const QUEUE = 'bench'
const QUIET_MS = 10
const MAX_LOG_LENGTH = 1000

const open: Redis[] = []
let redis: Redis | undefined
let heard: Ended[] = []
let heardMessages = 0
let ran = 0
let worker: Worker | undefined
let queue: Queue | undefined
let publishing: Promise<void> | undefined
const over = new AbortController()

function connect(url: string): Redis {
  const connection = new Redis(url, { maxRetriesPerRequest: null })
  open.push(connection)
  return connection
}

function connected(): Redis {
  if (redis === undefined) throw new Error('Redis was not connected to')
  return redis
}

const calls = {
  async connect(url: string): Promise<void> {
    redis = connect(url)
    await redis.ping()
  },
  /** One round trip after the other, ms. */
  async ping(times: number): Promise<readonly number[]> {
    const tookMs: number[] = []
    for (let n = 0; n < times; n += 1) {
      await sleep(QUIET_MS)
      const beganMs = performance.now()
      await connected().ping()
      tookMs.push(performance.now() - beganMs)
    }
    return tookMs
  },
  /** Notes when each message comes. */
  async subscribe(url: string): Promise<void> {
    const subscriber = connect(url)
    subscriber.on('message', (_channel, id: string) => {
      heardMessages += 1
      if (id.length < 20) heard.push({ id, atMs: sharedNowMs() })
    })
    await subscriber.subscribe(CHANNEL)
  },
  /** Publishes one message after the other, and tells when each was. */
  async publishEach(times: number): Promise<readonly Ended[]> {
    const published: Ended[] = []
    for (let n = 0; n < times; n += 1) {
      await sleep(QUIET_MS)
      const atMs = sharedNowMs()
      await connected().publish(CHANNEL, String(n))
      published.push({ id: String(n), atMs })
    }
    return published
  },
  takeHeard(): readonly Ended[] {
    const taken = heard
    heard = []
    return taken
  },
  countHeard(): { readonly atMs: number; readonly messages: number } {
    return { atMs: sharedNowMs(), messages: heardMessages }
  },
  /** Writes the same to a stream and to the channel, each time once both are answered, until `stopPublishing`. */
  publishOn(text: string): void {
    const go = async (): Promise<void> => {
      while (!over.signal.aborted) {
        await Promise.all([
          connected().xadd(LOG, 'MAXLEN', '~', MAX_LOG_LENGTH, '*', 'b', text),
          connected().publish(CHANNEL, text),
        ])
        await sleep(0)
      }
    }
    publishing = go()
  },
  async stopPublishing(): Promise<void> {
    over.abort()
    await publishing
  },
  async openQueue({ url, concurrency }: { readonly url: string; readonly concurrency: number }): Promise<void> {
    const connection = connect(url)
    queue = new Queue(QUEUE, { connection })
    worker = new Worker(QUEUE, async () => void (ran += 1), {
      connection,
      concurrency,
      removeOnComplete: { count: 0 },
    })
    await worker.waitUntilReady()
  },
  async addMany({ jobs, atOnce, name }: { readonly jobs: number; readonly atOnce: number; readonly name: string }) {
    let left = jobs
    const lane = async (): Promise<void> => {
      while (left > 0) {
        left -= 1
        await queue?.add('job', null, { jobId: `${name}-${left}`, priority: 1 })
      }
    }
    await Promise.all(Array.from({ length: atOnce }, lane))
  },
  countRan(): number {
    return ran
  },
}

export type BareRedisCalls = typeof calls

answerCalls(calls, async () => {
  // Nothing runs any more, and otherwise it waits until its blocking read is over.
  await worker?.close(true)
  await queue?.close()
  for (const connection of open) connection.disconnect()
})
