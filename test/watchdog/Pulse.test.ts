import { expect, test } from 'vitest'
import { Pulse } from '../../src/execution/watchdog/Pulse.ts'

test('what one side writes the other side reads', () => {
  const loop = new Pulse()
  const watcher = new Pulse(loop.memory)
  const end = loop.add('job_12345678')
  loop.beat()
  loop.isWatched = true
  loop.isInspected = true
  const { beats, running, jobIds, isWatched, isInspected } = watcher
  expect({ beats, running, jobIds, isWatched, isInspected }).toEqual({
    beats: 1,
    running: 1,
    jobIds: ['job_12345678'],
    isWatched: true,
    isInspected: true,
  })
  end()
  expect([watcher.running, watcher.jobIds]).toEqual([0, []])
})

test('ids of the greatest length are whole, and a place that was free again shows nothing of the id before', () => {
  const pulse = new Pulse()
  pulse.add('x'.repeat(64))()
  pulse.add('short_id')
  pulse.add('y'.repeat(64))
  expect(pulse.jobIds).toEqual(['short_id', 'y'.repeat(64)])
})

test('a hundred jobs are named, more are counted, and a place that gets free is used again', () => {
  const pulse = new Pulse()
  const ends = Array.from({ length: 103 }, (_, index) => pulse.add(`job_${index}`))
  expect(pulse.jobIds).toHaveLength(100)
  expect(pulse.running).toBe(103)
  ends[102]?.()
  ends[0]?.()
  pulse.add('job_new')
  expect(pulse.jobIds).toContain('job_new')
  expect(pulse.jobIds).toHaveLength(100)
  expect(pulse.running).toBe(102)
})
