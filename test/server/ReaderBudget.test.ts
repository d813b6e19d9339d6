import { describe, expect, test } from 'vitest'
import { ReaderBudget } from '../../src/server/sse/ReaderBudget.ts'

const MIB = 1024 * 1024

/** What all readers have together that fell behind one after the other, each filled up to its limit. */
function filledBy(readers: number, maxBufferedBytes: number): number {
  const budget = new ReaderBudget(maxBufferedBytes)
  let bytes = 0
  for (let n = 0; n < readers; n += 1) {
    bytes += budget.limitBytes
    budget.fallBehind()
  }
  return bytes
}

describe('the budget of a reader', () => {
  test('is all of MAX_BUFFERED_BYTES while few are behind, and never more', () => {
    const budget = new ReaderBudget(MIB)
    expect([budget.limitBytes, budget.pageBytes]).toEqual([MIB, 256 * 1024])
    expect([new ReaderBudget(2048).limitBytes, new ReaderBudget(2048).pageBytes]).toEqual([2048, 2048])
  })

  test('shrinks so that what all have together grows far slower than their number', () => {
    expect(filledBy(100, MIB)).toBeLessThan(48 * MIB)
    expect(filledBy(1000, MIB)).toBeLessThan(96 * MIB)
    const budget = new ReaderBudget(MIB)
    for (let n = 0; n < 100_000; n += 1) budget.fallBehind()
    expect([budget.limitBytes, budget.pageBytes]).toEqual([16 * 1024, 16 * 1024])
  })

  test('comes back when readers have caught up, each counted once', () => {
    const budget = new ReaderBudget(MIB)
    const undos = Array.from({ length: 200 }, () => budget.fallBehind())
    expect(budget.limitBytes).toBeLessThan(MIB / 8)
    for (const undo of undos) {
      undo()
      undo()
    }
    expect([budget.behind, budget.limitBytes]).toEqual([0, MIB])
  })
})
