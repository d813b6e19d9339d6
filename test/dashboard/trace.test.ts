import { expect, test } from 'vitest'
import { Trace } from '../../src/dashboard/trace/Trace.ts'
import type { JobEvent, LoggedEvent } from '../../src/job/event.ts'

function feed(trace: Trace, events: readonly LoggedEvent[]): void {
  for (const event of events) {
    trace.take({ ...event, jobId: 'job_12345678', seq: trace.lastSeq + 1, at: '2026-01-01T00:00:00.000Z' })
  }
}

const failure = { code: 'TETHER_REPLICA_LOST', message: 'gone', retryable: true }

test('a job that is run again begins anew: what came before is void', () => {
  const trace = new Trace()
  feed(trace, [
    { type: 'output', channel: 'text', text: 'first' },
    { type: 'progress', current: 5 },
    { type: 'model.started', model: 'm' },
    { type: 'model.finished', model: 'm', usage: { totalTokens: 7 } },
    { type: 'tool.started', tool: 't', callId: 'c', input: null },
    { type: 'job.requeued', attempt: 1, failure },
    { type: 'output', channel: 'text', text: 'second' },
    // Of the attempt that was lost.
    { type: 'tool.finished', tool: 't', callId: 'c', ok: true, summary: '' },
  ])
  expect(trace.rows.map(({ kind }) => kind)).toEqual(['note', 'text'])
  expect(trace.rows[1]).toMatchObject({ text: 'second' })
  expect([trace.progress, trace.usage]).toEqual([undefined, {}])
})

test('calls of the same model at the same time are each finished once, in the order in which they began', () => {
  const trace = new Trace()
  feed(trace, [
    { type: 'model.started', model: 'm' },
    { type: 'model.started', model: 'm' },
    { type: 'model.finished', model: 'm', usage: { inputTokens: 1 } },
    { type: 'model.finished', model: 'm', usage: { inputTokens: 2, outputTokens: 3 } },
  ])
  expect(trace.rows.map((row) => row.kind === 'model' && row.end)).toMatchObject([
    { usage: { inputTokens: 1 } },
    { usage: { inputTokens: 2 } },
  ])
  expect(trace.usage).toEqual({ inputTokens: 3, outputTokens: 3 })
})

test('what is open when the job ends is cut off, and what was finished is not', () => {
  const trace = new Trace()
  feed(trace, [
    { type: 'tool.started', tool: 't', callId: 'a', input: null },
    { type: 'tool.finished', tool: 't', callId: 'a', ok: true, summary: 'fine' },
    { type: 'tool.started', tool: 't', callId: 'b', input: null },
    { type: 'model.started', model: 'm' },
    { type: 'job.failed', failure },
  ])
  expect(trace.rows.map((row) => ('end' in row ? row.end : row.kind))).toMatchObject([
    { ok: true },
    'cut',
    'cut',
    'note',
  ])
})

test('a type of event that is not known is passed over', () => {
  const trace = new Trace()
  const strange: object = { type: 'job.renamed', jobId: 'job_12345678', seq: 1, at: '2026-01-01T00:00:00.000Z' }
  trace.take(strange as JobEvent)
  expect([trace.rows, trace.lastSeq]).toEqual([[], 1])
})

test('a stream without end does not fill the page: the oldest rows go, and are counted', () => {
  const trace = new Trace()
  for (let n = 1; n <= 250_000; n += 1) feed(trace, [{ type: 'data', name: 'point', value: n }])
  expect(trace.rows.length).toBeLessThanOrEqual(200_000)
  expect(trace.rows.length + trace.dropped).toBe(250_000)
  expect(trace.rows.at(-1)).toMatchObject({ value: 250_000 })
  const text = new Trace()
  for (let n = 1; n <= 60; n += 1) feed(text, [{ type: 'output', channel: 'stdout', text: '\n'.repeat(10_000) }])
  expect(text.rows.length * 40).toBeLessThanOrEqual(500_000)
  expect(text.dropped).toBeGreaterThan(0)
})
