import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { BullJobQueue } from '../../src/cluster/BullJobQueue.ts'

// A replica to be killed: `node queueReplica.ts URL PREFIX`, with one slot. It prints `open` when it takes jobs, and `slot ID`
// for each that gets the slot and keeps it. Its first line of input closes the queue, and `closed` is the last that it prints.
const [, , url = '', prefix = ''] = process.argv
const queue = await BullJobQueue.open({
  url,
  prefix,
  concurrency: 1,
  leaseMs: 1000,
  stalledIntervalMs: 200,
  onSlot: async ({ id }) => {
    process.stdout.write(`slot ${id}\n`)
    await new Promise(() => undefined)
  },
  onStalled: async ({ id }) => {
    process.stdout.write(`stalled ${id}\n`)
  },
  onError: (error) => process.stderr.write(`${error.message}\n`),
})
process.stdout.write('open\n')
const input = createInterface({ input: process.stdin })
await once(input, 'line')
input.close()
process.stdin.destroy()
await queue.close()
process.stdout.write('closed\n')
