import type { EventBatch } from '../store/JobStore.ts'
import { StoreError } from '../store/JobStore.ts'
import type { RedisConnection } from './RedisConnection.ts'

/** How many entries are read before it is known how long those of this log are. One may be 64 KiB. */
const FIRST_ENTRIES = 8
/** 16 MiB, where after as many short ones all are as long as they may be. */
const MAX_ENTRIES = 256

/**
 * What the log at `key` has after `after`, batches until `maxBytes` are reached. Entries are asked for by number and paid for by
 * length: how many to ask for next is reckoned from those that came, and is at most twice as many as before, since those that come
 * may be a thousand times as long.
 */
export async function readLog(
  connection: RedisConnection,
  key: string,
  after: number,
  maxBytes: number,
): Promise<readonly EventBatch[]> {
  const batches: EventBatch[] = []
  let bytes = 0
  let place = after
  for (let count = FIRST_ENTRIES; ; ) {
    // An entry is named by its last event, so that the first one after a place is the one that has the next event.
    const entries = entriesOf(await connection.call('XRANGE', [key, `(${place}`, '+', 'COUNT', count]))
    for (const entry of entries) {
      const batch = batchOf(key, entry)
      batches.push(batch)
      bytes += Buffer.byteLength(batch.lines)
      place = batch.lastSeq
      if (bytes >= maxBytes) return batches
    }
    if (entries.length < count) return batches
    const expected = Math.ceil(((maxBytes - bytes) * batches.length) / bytes)
    count = Math.min(expected, count * 2, MAX_ENTRIES)
  }
}

type Entry = readonly [id: string, fields: readonly string[]]

/** As ioredis gives what XRANGE answers. */
function entriesOf(answer: unknown): readonly Entry[] {
  return answer as readonly Entry[]
}

function batchOf(key: string, [id, [, firstSeq, , lines]]: Entry): EventBatch {
  if (firstSeq === undefined || lines === undefined)
    throw new StoreError(`the data in Redis is damaged: entry ${id} of ${key} must have a first event and lines`)
  return { firstSeq: Number(firstSeq), lastSeq: Number(id.slice(0, id.indexOf('-'))), lines }
}
