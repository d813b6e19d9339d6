import fc from 'fast-check'
import { expect, test } from 'vitest'
import { mintJobId, parseGroupId } from '../../src/job/id.ts'
import type { JobRecord } from '../../src/job/record.ts'
import type { JobState } from '../../src/job/state.ts'
import { isTerminal, type JobStatus } from '../../src/job/status.ts'
import { rowOf, viewOf } from '../../src/job/view.ts'
import { POLICY } from '../store/records.ts'
import { commands, endOf } from './arbitraries.ts'

const ALWAYS = ['id', 'task', 'status', 'terminal', 'createdAt', 'policy', 'attempt', 'lastSeq', 'metadata', 'input']
const RAN = ['startedAt', 'replica']

/** What a job shows besides, in each status: always, and where its way there gave it. */
const FIELDS: Record<JobStatus, { always: readonly string[]; maybe?: readonly string[] }> = {
  queued: { always: [] },
  running: { always: RAN },
  stopping: { always: [...RAN, 'stop'] },
  cancelling: { always: [...RAN, 'cancellation'], maybe: ['stop'] },
  succeeded: { always: [...RAN, 'endedAt', 'result'], maybe: ['stop'] },
  failed: { always: [...RAN, 'endedAt', 'failure'], maybe: ['stop', 'cancellation'] },
  cancelled: { always: ['endedAt', 'cancellation', 'receipt'], maybe: [...RAN, 'stop'] },
  timed_out: { always: ['endedAt', 'cancellation', 'receipt'], maybe: [...RAN, 'stop'] },
  stopped: { always: ['endedAt', 'stop', 'receipt'], maybe: RAN },
  interrupted: { always: ['endedAt', 'failure'], maybe: [...RAN, 'stop', 'cancellation', 'receipt'] },
  abandoned: { always: [...RAN, 'endedAt', 'cancellation', 'receipt'], maybe: ['stop', 'settledAt'] },
}

function recordIn(state: JobState, more: Partial<JobRecord> = {}): JobRecord {
  return {
    id: mintJobId(),
    tenant: 'default',
    task: 'ticks',
    createdAt: 0,
    input: { secret: 'real' },
    policy: POLICY,
    metadata: {},
    fingerprint: '',
    state,
    lastSeq: 3,
    ...more,
  }
}

test('a job shows exactly the fields that its status has', () => {
  fc.assert(
    fc.property(commands, (commands) => {
      const state = endOf(commands)
      const view = viewOf(recordIn(state), {})
      const { always, maybe = [] } = FIELDS[state.status]
      const shown = Object.keys(view)
      expect(shown).toEqual(expect.arrayContaining([...ALWAYS, ...always]))
      expect([...ALWAYS, ...always, ...maybe]).toEqual(expect.arrayContaining(shown))
      expect(Object.values(view)).not.toContain(undefined)
      expect(view.terminal).toBe(isTerminal(state.status))
    }),
  )
})

test('the real input never shows, and a row of the list has neither input nor result', () => {
  const record = recordIn({ status: 'succeeded', startedAt: 1, endedAt: 2, attempt: 1, replica: 'r1', result: null })
  expect(viewOf(record, { secret: '[redacted]' })).toMatchObject({ input: { secret: '[redacted]' }, result: null })
  expect(rowOf(record)).not.toHaveProperty('input')
  expect(rowOf(record)).not.toHaveProperty('result')
})

test('times are ISO 8601, and group and parent show where the job has them', () => {
  const parentId = mintJobId()
  const record = recordIn(
    { status: 'running', startedAt: 1_700_000_000_000, attempt: 1, replica: 'r1' },
    { group: parseGroupId('group-01'), parentId },
  )
  expect(rowOf(record)).toMatchObject({
    createdAt: '1970-01-01T00:00:00.000Z',
    startedAt: '2023-11-14T22:13:20.000Z',
    group: 'group-01',
    parentId,
  })
})

test('a stop shows also where a cancellation followed it', () => {
  const stop = { cause: 'stop_requested', reason: '', requestedAt: '2023-11-14T22:13:20.000Z', phase: 'model' } as const
  const cancellation = { ...stop, cause: 'stop_deadline', stop } as const
  const record = recordIn({ status: 'cancelling', startedAt: 1, attempt: 1, replica: 'r1', cancellation })
  expect(rowOf(record)).toMatchObject({ stop, cancellation })
})
