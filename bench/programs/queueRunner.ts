import { randomUUID } from 'node:crypto'
import { Queue, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import { BullJobQueue } from '../../src/cluster/BullJobQueue.ts'
import { mintJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT } from '../../src/job/key.ts'
import { answerCalls } from '../Program.ts'

/** `jobs` jobs that do nothing are added, `OUTSTANDING` at once, and then run, `concurrency` at once; then `singles` one by one. */
export interface QueueOrder {
  readonly url: string
  readonly jobs: number
  readonly concurrency: number
  readonly singles: number
}

export interface QueueFigures {
  readonly addedPerS: number
  readonly ranPerS: number
  /** From the call that adds a job to an idle queue until it has its slot. */
  readonly startMs: readonly number[]
}

interface Side {
  readonly add: () => Promise<unknown>
  readonly resume: () => void
  readonly close: () => Promise<void>
}

const OUTSTANDING = 100
const LEASE_MS = 15_000

const calls = {
  async bare(order: QueueOrder): Promise<QueueFigures> {
    return measure(order, async (onSlot) => {
      const connection = new Redis(order.url, { maxRetriesPerRequest: null })
      const shared = { connection, prefix: randomUUID() }
      const queue = new Queue('bare', shared)
      const worker = new Worker('bare', async () => onSlot(), {
        ...shared,
        concurrency: order.concurrency,
        autorun: false,
        removeOnComplete: { count: 0 },
      })
      await worker.waitUntilReady()
      return {
        add: () => queue.add('job', null, { jobId: mintJobId(), priority: 1 }),
        resume: () => void worker.resume(),
        close: async () => {
          await worker.close()
          await queue.close()
          connection.disconnect()
        },
      }
    })
  },

  async tether({ url, concurrency, ...order }: QueueOrder): Promise<QueueFigures> {
    return measure({ url, concurrency, ...order }, async (onSlot) => {
      const queue = await BullJobQueue.open({
        url,
        prefix: `${randomUUID()}:`,
        concurrency,
        leaseMs: LEASE_MS,
        onSlot: async () => onSlot(),
        onStalled: async () => undefined,
        onError: (error) => process.stderr.write(`${error.message}\n`),
      })
      queue.pause('not_listening')
      return {
        add: () => queue.add({ tenant: DEFAULT_TENANT, id: mintJobId() }, 0),
        resume: () => queue.resume('not_listening'),
        close: () => queue.close(),
      }
    })
  },
}

async function measure(
  { jobs, singles }: QueueOrder,
  open: (onSlot: () => void) => Promise<Side>,
): Promise<QueueFigures> {
  let ran = 0
  let whenRan = { count: jobs, done: Promise.withResolvers<void>() }
  const side = await open(() => {
    ran += 1
    if (ran === whenRan.count) whenRan.done.resolve()
  })
  const addedPerS = await rateOf(jobs, async () => {
    let left = jobs
    const lane = async () => {
      while (left > 0) {
        left -= 1
        await side.add()
      }
    }
    await Promise.all(Array.from({ length: OUTSTANDING }, lane))
  })
  const ranPerS = await rateOf(jobs, async () => {
    side.resume()
    await whenRan.done.promise
  })
  const startMs: number[] = []
  for (let single = 0; single < singles; single += 1) {
    // So that the worker waits again.
    await new Promise((resolve) => setTimeout(resolve, 5))
    whenRan = { count: ran + 1, done: Promise.withResolvers<void>() }
    const beganMs = performance.now()
    const added = side.add()
    await whenRan.done.promise
    startMs.push(performance.now() - beganMs)
    await added
  }
  await side.close()
  return { addedPerS, ranPerS, startMs }
}

async function rateOf(count: number, work: () => Promise<void>): Promise<number> {
  const beganMs = performance.now()
  await work()
  return (count / (performance.now() - beganMs)) * 1000
}

export type QueueRunnerCalls = typeof calls

answerCalls(calls, async () => undefined)
