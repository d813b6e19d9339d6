import { describe, expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { JobReader } from '../../src/eventlog/JobReader.ts'
import { LogPages } from '../../src/eventlog/LogPages.ts'
import { PublishedLog } from '../../src/eventlog/PublishedLog.ts'
import { parseJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT } from '../../src/job/key.ts'
import type { EventBatch, JobStore } from '../../src/store/JobStore.ts'
import { batch } from '../store/records.ts'
import { eventually } from '../world.ts'
import { CollectingSink } from './CollectingSink.ts'

const REF = { tenant: DEFAULT_TENANT, id: parseJobId('job-12345') }

/** A log that somebody else writes: it learns later, or never, of what is in the store. */
class ToldLog extends PublishedLog {
  tell(told: EventBatch, isFinal = false): void {
    this.publish(told, isFinal)
  }
}

function follow(stored: readonly EventBatch[], publishedSeq: number, after: number) {
  const log = new ToldLog(REF.id, publishedSeq)
  const store = {
    readEvents: async (_ref: unknown, place: number) => stored.filter(({ lastSeq }) => lastSeq > place),
  } as unknown as JobStore
  const pages = new LogPages({ store, clock: systemClock })
  const sink = new CollectingSink()
  const reader = new JobReader({
    ref: REF,
    pages,
    sink,
    named: true,
    log,
    lastSeq: Math.max(publishedSeq, after),
    after,
  })
  reader.start()
  const seen = () => sink.events.map((event) => (event.type === 'gap' ? [event.from, event.to] : event.seq))
  return { log, sink, reader, seen }
}

describe('a reader of a log that another process writes', () => {
  test('reads from the store what comes between two batches', async () => {
    const { log, sink, seen } = follow([batch(1, 2), batch(3, 2), batch(5, 1)], 2, 2)
    log.tell(batch(5, 1))
    await eventually('it has the hole', () => seen().length === 3)
    log.tell(batch(6, 1), true)
    await sink.over
    expect(seen()).toEqual([3, 4, 5, 6])
  })

  test('is told of what the log no longer has', async () => {
    const { log, sink, seen } = follow([batch(5, 1), batch(6, 1)], 2, 2)
    log.tell(batch(5, 1))
    log.tell(batch(6, 1), true)
    await sink.over
    expect(seen()).toEqual([[3, 4], 5, 6])
  })

  test('that has read further than was published gets nothing twice', async () => {
    const { log, sink, seen } = follow([batch(1, 2), batch(3, 2), batch(5, 1)], 4, 2)
    await eventually('it has what is stored', () => seen().length === 3)
    log.tell(batch(5, 1))
    log.tell(batch(6, 1), true)
    await sink.over
    expect(seen()).toEqual([3, 4, 5, 6])
  })

  test('that has the end already ends with it', async () => {
    const { log, sink, seen } = follow([batch(1, 2)], 1, 2)
    log.tell(batch(2, 1), true)
    await sink.over
    expect(seen()).toEqual([])
  })
})
