import { expect, test } from 'vitest'
import { outcomeLine } from '../../src/client/cli/outcome.ts'
import type { Receipt } from '../../src/job/receipt.ts'
import { RECEIPT } from './FakeServer.ts'

function cancelled(receipt: Partial<Receipt>): string {
  return outcomeLine({ status: 'cancelled', receipt: { ...RECEIPT, ...receipt }, failure: undefined })
}

test('a receipt is one line: what is gone, how sure that is, how long it took, by which means', () => {
  expect(cancelled({})).toBe('cancelled: 13 processes gone, confirmed in 2.4 ms (pidns)')
})

test('a function that settles after its processes are gone makes the time', () => {
  expect(cancelled({ abortedToSettledMs: 150 })).toContain('confirmed in 150 ms')
})

test('everything that was released is named', () => {
  const released = { processes: 1, requests: 2, files: 1, children: 1, other: 1 }
  expect(cancelled({ released })).toContain('1 process, 2 requests, 1 file, 1 child job, 1 other thing gone')
})

test('a job that never ran held nothing and took no time', () => {
  const released = { processes: 0, requests: 0, files: 0, children: 0, other: 0 }
  const steps = {
    requestedToAbortedMs: null,
    abortedToKilledMs: null,
    killedToVerifiedMs: null,
    abortedToSettledMs: null,
  }
  expect(cancelled({ released, ...steps })).toBe('cancelled: nothing was held, confirmed (pidns)')
})

test('survivors are named, and a level that can be left is not shown as proof', () => {
  const survivors = [{ pid: 4711, command: 'sleep\x1b[2J 100' }]
  const containment = { level: 'group', complete: false } as const
  expect(cancelled({ confirmed: false, survivors, containment })).toBe(
    'cancelled: 13 processes gone, NOT confirmed, still there: 4711 sleep [2J 100 (group, which a process can leave)',
  )
})

test('a receipt that is not in the log yet says so', () => {
  expect(cancelled({ recorded: false })).toMatch(/, not recorded yet$/)
})

test('what was used stands beside the receipt that knows it', () => {
  expect(cancelled({ usage: { inputTokens: 12_345, outputTokens: 678 } })).toMatch(
    /\(pidns\); 12,345 tokens in, 678 out$/,
  )
  expect(cancelled({ usage: {} })).toMatch(/\(pidns\)$/)
})

test('a failure is said with its code', () => {
  const failure = { code: 'TETHER_COMMAND_FAILED', message: 'exit code 3', retryable: false }
  expect(outcomeLine({ status: 'timed_out', receipt: undefined, failure })).toBe(
    'timed out: exit code 3 (TETHER_COMMAND_FAILED)',
  )
})
