import { expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { EventLog } from '../../src/eventlog/EventLog.ts'
import { type ChangeResult, type JobStore, type StoreChange, StoreError } from '../../src/store/JobStore.ts'
import { recordNamed, refTo } from '../store/records.ts'

/** Takes nothing but what gives it room, and what is one transaction with that. */
function openFullLog(): { readonly log: EventLog; readonly committed: string[][] } {
  const committed: string[][] = []
  const commit = async (changes: readonly StoreChange[]): Promise<readonly ChangeResult[]> => {
    if (!changes.some(({ kind }) => kind === 'delete')) throw new StoreError('it is full')
    committed.push(changes.map(({ kind }) => kind))
    return changes.map(() => ({ ok: true }))
  }
  const store = { commit, check: async () => undefined } as unknown as JobStore
  const log = new EventLog({ store, clock: systemClock, patienceMs: 200, onRefused: () => undefined })
  onTestFinished(() => log.close())
  return { log, committed }
}

test('a deletion comes through to a store that is full, though more output waits than one transaction has', async () => {
  const { log, committed } = openFullLog()
  const push = (change: StoreChange): Promise<boolean> =>
    new Promise((resolve) => log.push({ change, settle: (isWritten) => resolve(isWritten) }))
  const written = Array.from({ length: 6 }, (_, n) => {
    const events = { firstSeq: n + 1, lastSeq: n + 1, lines: 'x'.repeat(1_000_000) }
    return push({ kind: 'append', ref: refTo(recordNamed('a')), events })
  })
  let isGivenUp = false
  log.onHealth((health) => {
    isGivenUp ||= health.kind === 'failing' && health.isGivenUp
  })
  await expect.poll(() => isGivenUp).toBe(true)
  expect(await push({ kind: 'delete', ref: refTo(recordNamed('b')), spentUntil: 1 })).toBe(true)
  expect(await written[0]).toBe(true)
  expect(committed[0]?.[0]).toBe('delete')
})
