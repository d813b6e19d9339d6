import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { RemoteLog } from '../../src/cluster/RemoteLog.ts'
import type { EventBatch } from '../../src/store/JobStore.ts'
import { batch, recordNamed, refTo, statusBatch } from '../store/records.ts'

const JOB = refTo(recordNamed('a'))

/** A log whose pages come when `turn` says so, and what it published. */
function openLog(
  stored: readonly EventBatch[],
  turn: () => Promise<unknown> = () => Promise.resolve(),
  pageBatches = 3,
) {
  const counts = { reads: 0, overs: 0 }
  const log = new RemoteLog({
    ref: JOB,
    lastSeq: 0,
    read: async (after) => {
      counts.reads += 1
      await turn()
      const page = stored.filter(({ lastSeq }) => lastSeq > after).slice(0, pageBatches)
      await turn()
      return page
    },
    onOver: () => (counts.overs += 1),
  })
  const published: EventBatch[] = []
  log.subscribe({
    onBatch: ({ firstSeq, lastSeq }) => published.push({ firstSeq, lastSeq, lines: '' }),
    onLost: () => undefined,
  })
  return { log, published, counts }
}

function placesOf(batches: readonly EventBatch[]): readonly (readonly number[])[] {
  return batches.map(({ firstSeq, lastSeq }) => [firstSeq, lastSeq])
}

test('whatever is lost or repeated, and however late it comes, all is published once and in order', async () => {
  const entries = fc.array(
    fc.record({ count: fc.integer({ min: 1, max: 5 }), copies: fc.constantFrom(0, 1, 1, 1, 2) }),
    { minLength: 1, maxLength: 30 },
  )
  await fc.assert(
    fc.asyncProperty(entries, fc.scheduler(), async (written, scheduler) => {
      const turn = (what: string) => scheduler.schedule(Promise.resolve(), what)
      const stored: EventBatch[] = []
      const messages: EventBatch[] = []
      const { log, published, counts } = openLog(stored, () => turn('read'))
      const write = async (): Promise<void> => {
        for (const { count, copies } of written) {
          const next = batch((stored.at(-1)?.lastSeq ?? 0) + 1, count)
          stored.push(next)
          for (let n = 0; n < copies; n += 1) messages.push(next)
          await turn('write')
        }
        stored.push(statusBatch((stored.at(-1)?.lastSeq ?? 0) + 1, 'failed'))
      }
      const hear = async (): Promise<void> => {
        while (!log.hasEnded) {
          await turn('hear')
          const message = messages.shift()
          if (message !== undefined) log.receive(message)
        }
      }
      const look = async (): Promise<void> => {
        while (!log.hasEnded) {
          const seenSeq = log.publishedSeq
          await turn('ask')
          const lastSeq = stored.at(-1)?.lastSeq ?? 0
          const isTerminal = stored.length > written.length
          await turn('answer')
          log.compare({ lastSeq, isTerminal }, seenSeq)
        }
      }
      await scheduler.waitFor(Promise.all([write(), hear(), look(), log.untilEnded()]))
      expect(placesOf(published)).toEqual(placesOf(stored))
      expect(counts.overs).toBe(1)
    }),
  )
})

describe('what is heard while the log is read', () => {
  test('is published after it, and not read again', async () => {
    const stored = [batch(1), batch(2), batch(3)]
    const gate = Promise.withResolvers<void>()
    const { log, published, counts } = openLog(stored, () => gate.promise)
    for (const heard of stored.slice(1)) log.receive(heard)
    const end = statusBatch(4, 'failed')
    log.receive(end)
    expect(published).toEqual([])
    gate.resolve()
    await log.untilEnded()
    expect(placesOf(published)).toEqual(placesOf([...stored, end]))
    expect(counts.reads).toBe(1)
  })

  test('is read where it is too much to be kept', async () => {
    const stored = [batch(1), ...Array.from({ length: 40 }, (_, n) => batch(2 + n, 1, 'y'.repeat(16 * 1024)))]
    stored.push(statusBatch(42, 'failed'))
    const gate = Promise.withResolvers<void>()
    const { log, published, counts } = openLog(stored, () => gate.promise)
    for (const heard of stored.slice(1)) log.receive(heard)
    gate.resolve()
    await log.untilEnded()
    expect(placesOf(published)).toEqual(placesOf(stored))
    expect(counts.reads).toBeGreaterThan(5)
  })
})

describe('a look at where the job stands', () => {
  test('that is older than what was heard since says nothing of a loss', () => {
    const { log } = openLog([])
    log.receive(batch(1, 3))
    log.compare({ lastSeq: 2, isTerminal: false }, 2)
    expect(log.lost).toBeUndefined()
    log.compare({ lastSeq: 2, isTerminal: false }, 3)
    expect(log.lost?.message).toContain('after 2, where 3 was the last')
  })

  test('that finds no job says so once, and nothing is published any more', async () => {
    const { log, published, counts } = openLog([])
    log.compare(undefined, 0)
    log.compare(undefined, 0)
    log.receive(batch(1))
    expect(log.lost?.message).toContain('is no longer in Redis')
    expect(published).toEqual([])
    expect(counts).toEqual({ reads: 0, overs: 1 })
    await expect(log.untilEnded()).rejects.toBe(log.lost)
  })
})

test('a log that has less than it must is lost', async () => {
  const { log } = openLog([batch(1)])
  log.compare({ lastSeq: 2, isTerminal: false }, 0)
  await expect(log.untilEnded()).rejects.toThrow('has nothing after 1')
})
