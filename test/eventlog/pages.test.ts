import { describe, expect, test } from 'vitest'
import { type LogPage, LogPages } from '../../src/eventlog/LogPages.ts'
import { parseJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT } from '../../src/job/key.ts'
import type { EventBatch, JobStore } from '../../src/store/JobStore.ts'
import { JumpingClock } from '../JumpingClock.ts'
import { parseFrames } from '../world.ts'

const REF = { tenant: DEFAULT_TENANT, id: parseJobId('job-12345') }

/** A store that only reads, and notes what it was asked. */
function readingStore(batches: readonly EventBatch[] = []) {
  const reads: number[] = []
  const store = {
    readEvents: async (_ref: unknown, after: number) => {
      reads.push(after)
      return batches.filter(({ lastSeq }) => lastSeq > after)
    },
  }
  return { reads, store: store as unknown as JobStore }
}

function batchOf(firstSeq: number, lastSeq: number, text = 'x'): EventBatch {
  const lines = Array.from({ length: lastSeq - firstSeq + 1 }, () =>
    JSON.stringify({ type: 'output', at: 'now', channel: 'text', text }),
  )
  return { firstSeq, lastSeq, lines: lines.join('\n') }
}

function ask(pages: LogPages, after: number, named = true): Promise<LogPage> {
  return pages.read({ ref: REF, after, named, maxBytes: 65_536 })
}

describe('pages of a log', () => {
  test('have a gap wherever numbers are missing, and begin after the place that was asked for', async () => {
    const { store } = readingStore([batchOf(1, 1), batchOf(4, 6), batchOf(9, 9)])
    const pages = new LogPages({ store, clock: new JumpingClock() })
    const shape = async (after: number) => {
      const { frames, lastSeq } = await ask(pages, after)
      const events = parseFrames(frames.toString())
      return {
        lastSeq,
        events: events.map((event) => (event.type === 'gap' ? [event.from, event.to, event.seq] : event.seq)),
      }
    }
    expect(await shape(0)).toEqual({ lastSeq: 9, events: [1, [2, 3, 3], 4, 5, 6, [7, 8, 8], 9] })
    expect(await shape(2)).toEqual({ lastSeq: 9, events: [[3, 3, 3], 4, 5, 6, [7, 8, 8], 9] })
    expect(await shape(5)).toEqual({ lastSeq: 9, events: [6, [7, 8, 8], 9] })
    expect(await shape(9)).toEqual({ lastSeq: 9, events: [] })
  })

  test('are read and encoded once for all who ask for the same at the same time', async () => {
    const { store, reads } = readingStore([batchOf(1, 3)])
    const pages = new LogPages({ store, clock: new JumpingClock() })
    const [same, unnamed, later] = await Promise.all([
      Promise.all(Array.from({ length: 50 }, () => ask(pages, 0))),
      ask(pages, 0, false),
      ask(pages, 1),
    ])
    expect(reads).toEqual([0, 0, 1])
    expect(new Set(same.map(({ frames }) => frames)).size).toBe(1)
    expect(unnamed.frames.toString()).not.toContain('event:')
    expect(parseFrames(later.frames.toString()).map(({ seq }) => seq)).toEqual([2, 3])
    await ask(pages, 0)
    expect(reads).toHaveLength(4)
  })

  test('fail for those who asked, and for nobody else', async () => {
    const { store } = readingStore([batchOf(1, 3)])
    const pages = new LogPages({ store, clock: new JumpingClock() })
    const readable = readingStore([batchOf(1, 3)]).store
    store.readEvents = (ref, after, maxBytes) =>
      after === 0 ? Promise.reject(new Error('unreadable')) : readable.readEvents(ref, after, maxBytes)
    const [first, second, other] = await Promise.allSettled([ask(pages, 0), ask(pages, 0), ask(pages, 1)])
    expect([first.status, second.status, other.status]).toEqual(['rejected', 'rejected', 'fulfilled'])
  })

  describe('take turns with the rest of the loop', () => {
    /** How many pages of a millisecond each come within so many milliseconds of a clock that only they and the look move. */
    async function servedWithin(
      ms: number,
      options: { readonly idleShare: number; readonly live?: number },
    ): Promise<number> {
      const clock = new JumpingClock()
      const { store } = readingStore([batchOf(1, 1)])
      const pages = new LogPages({
        clock,
        load: { begin: () => undefined, idleShare: () => options.idleShare },
        store: {
          ...store,
          readEvents: async (ref, after, maxBytes) => {
            clock.jump(1)
            return store.readEvents(ref, after, maxBytes)
          },
        },
      })
      const undos = Array.from({ length: options.live ?? 0 }, () => pages.joinLive())
      const beganMs = clock.monotonicMs()
      let served = 0
      while (clock.monotonicMs() - beganMs < ms) {
        await ask(pages, -served)
        served += 1
      }
      for (const undo of undos) undo()
      return served
    }

    test('all that they may while it has time to spare', async () => {
      expect(await servedWithin(200, { idleShare: 1, live: 100 })).toBeGreaterThan(120)
    })

    test('a tenth while it is busy with many that follow live, and more the fewer those are', async () => {
      const [many, one, none] = await Promise.all([100, 1, 0].map((live) => servedWithin(400, { idleShare: 0, live })))
      expect(many).toBeGreaterThan(10)
      expect(many).toBeLessThan(80)
      expect(one).toBeGreaterThan(many ?? 0)
      expect(none).toBeGreaterThan(one ?? 0)
      expect(none).toBeGreaterThan(200)
    })
  })
})
