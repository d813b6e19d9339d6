import { expect, test } from 'vitest'
import { stopTimesOf } from '../../src/dashboard/jobs/stopTimes.ts'
import type { Cause, Phase } from '../../src/job/cancellation.ts'
import type { Receipt } from '../../src/job/receipt.ts'
import type { JobView } from '../../src/job/view.ts'

const AT = '2026-01-01T00:00:00.000Z'

interface Times {
  readonly requestedToAbortedMs?: number
  readonly abortedToKilledMs?: number
  readonly killedToVerifiedMs?: number
  readonly abortedToSettledMs?: number
}

function jobOf(kind: 'stop' | 'cancel', phase: Phase, times: Times, endedAfterMs = 0): JobView {
  const asked = { cause: `${kind}_requested` satisfies Cause, reason: '', requestedAt: AT, phase } as const
  const receipt: Receipt = {
    confirmed: true,
    containment: { level: 'group', complete: false },
    requestedToAbortedMs: null,
    abortedToKilledMs: null,
    killedToVerifiedMs: null,
    abortedToSettledMs: null,
    released: { processes: 0, requests: 0, files: 0, children: 0, other: 0 },
    survivors: [],
    ...times,
  }
  const job = {
    id: 'job_12345678',
    task: 'ticks',
    createdAt: AT,
    endedAt: new Date(Date.parse(AT) + endedAfterMs).toISOString(),
    terminal: true,
    policy: {} as JobView['policy'],
    attempt: 1,
    lastSeq: 1,
    metadata: {},
    receipt,
  }
  return kind === 'stop'
    ? { ...job, status: 'stopped', stop: asked }
    : { ...job, status: 'cancelled', cancellation: asked }
}

test('a cancel took until what it held is gone and the function has settled, whichever is later', () => {
  const processes = jobOf('cancel', 'running', {
    requestedToAbortedMs: 1,
    abortedToKilledMs: 500,
    killedToVerifiedMs: 20,
    abortedToSettledMs: 510,
  })
  expect(stopTimesOf([processes])).toEqual([{ kind: 'cancel', phase: 'running', count: 1, p50Ms: 521, p99Ms: 521 }])
  const slow = jobOf('cancel', 'model', { requestedToAbortedMs: 2, abortedToSettledMs: 40 })
  expect(stopTimesOf([slow])).toEqual([{ kind: 'cancel', phase: 'model', count: 1, p50Ms: 42, p99Ms: 42 }])
})

test('a stop, which aborts nothing, took until the terminal event, and one of a job that waited took nothing', () => {
  expect(stopTimesOf([jobOf('stop', 'model', {}, 3000), jobOf('cancel', 'queued', {}, 7)])).toEqual([
    { kind: 'cancel', phase: 'queued', count: 1, p50Ms: 0, p99Ms: 0 },
    { kind: 'stop', phase: 'model', count: 1, p50Ms: 3000, p99Ms: 3000 },
  ])
})

test('half of them took no longer than p50, and all but one of a hundred no longer than p99; tools are one phase', () => {
  const jobs = Array.from({ length: 100 }, (_, index) =>
    jobOf('cancel', `tool:t${index}`, { requestedToAbortedMs: 0, abortedToSettledMs: index + 1 }),
  )
  expect(stopTimesOf(jobs.toReversed())).toEqual([{ kind: 'cancel', phase: 'tool', count: 100, p50Ms: 50, p99Ms: 99 }])
})

test('a job without a receipt says nothing of it', () => {
  const { receipt, ...job } = jobOf('cancel', 'running', {})
  expect(receipt).toBeDefined()
  expect(stopTimesOf([job])).toEqual([])
})
