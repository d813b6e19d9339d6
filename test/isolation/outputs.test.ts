import { describe, expect, test } from 'vitest'
import type { JobEvent } from '../../src/job/event.ts'
import { end, eventually, Gate, HeldStore, openWorld, startOf, untilRunning } from '../world.ts'
import { levels, openIsolated, outcomeOf, runJob, tasks, textOf, untilWarm } from './world.ts'

function linesOf(count: number, channel: 'text' | 'reasoning'): string {
  const isReasoning = channel === 'reasoning'
  return Array.from({ length: count }, (_, n) => n)
    .filter((n) => (n % 7 === 0) === isReasoning)
    .map((n) => `line ${n} ${'ä😀'.repeat(n % 40)}\n`)
    .join('')
}

describe.each(levels)('what an isolated task sends at the level %s', (level) => {
  test('is in the log exactly and in order, many times more than may wait', async () => {
    const tether = await openIsolated(level)
    const { view, events } = await runJob(tether, 'writes', 20_000)
    expect(view.result).toBe(20_000)
    expect(textOf(events, 'text')).toBe(linesOf(20_000, 'text'))
    expect(textOf(events, 'reasoning')).toBe(linesOf(20_000, 'reasoning'))
  })

  test('is in the log exactly where it prints it', async () => {
    const tether = await openIsolated(level)
    const { events } = await runJob(tether, 'prints', 5000)
    expect(textOf(events, 'stdout') === Array.from({ length: 5000 }, (_, n) => `out ${n}\n`).join('')).toBe(true)
    expect(textOf(events, 'stderr')).toBe('err\n')
  })
})

describe('what an isolated task sends', () => {
  test('keeps its order between events of all kinds', async () => {
    const tether = await openIsolated('group')
    const { events } = await runJob(tether, 'sends')
    expect(events.slice(2, -1).map(withoutHead)).toEqual([
      { type: 'data', name: 'point', value: { x: 1 } },
      { type: 'progress', current: 1, total: 2, message: 'half' },
      { type: 'output', channel: 'text', text: 'between' },
      { type: 'progress', current: 2 },
      {
        type: 'artifact',
        name: 'a.txt',
        path: 'a.txt',
        mediaType: 'text/plain',
        bytes: 5,
        sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      },
    ])
  })

  test('may be one text that is longer than any message', async () => {
    const tether = await openIsolated('group')
    const { events } = await runJob(tether, 'writes-once', 1_000_000)
    expect(textOf(events, 'text') === '😀'.repeat(1_000_000)).toBe(true)
  })

  test('waits while the log has no room, and goes on when it has', async () => {
    const hold = new Gate()
    const held: HeldStore[] = []
    const tether = await openWorld({
      tasks,
      wrapStore: (store) => {
        const wrapped = new HeldStore(store)
        held.push(wrapped)
        return wrapped
      },
    })
    const [store] = held
    await untilWarm(tether)
    store?.holdCommits((changes) =>
      changes.some((change) => change.kind === 'append') ? hold.opened : Promise.resolve(),
    )
    const { ref } = await tether.jobs.start(startOf('events', 50_000))
    await eventually('events are being written', () =>
      store?.asked.some((changes) => changes.some(({ kind }) => kind === 'append')),
    )
    hold.open()
    const { view, events } = await outcomeOf(tether, ref)
    expect(view.status).toBe('succeeded')
    const values = events.filter((event) => event.type === 'data').map(({ value }) => value)
    expect(values).toEqual(Array.from({ length: 50_000 }, (_, n) => ({ n })))
  })

  test('fails with an overrun where it is never awaited', async () => {
    const tether = await openIsolated('group')
    expect((await runJob(tether, 'floods')).view.failure).toMatchObject({ code: 'TETHER_OUTPUT_OVERRUN' })
  })

  test('is refused in its own process where an event is too large', async () => {
    const tether = await openIsolated('group')
    expect((await runJob(tether, 'big-data')).view.failure).toMatchObject({ code: 'TETHER_EVENT_TOO_LARGE' })
  })

  test('is refused once the job is being cancelled', async () => {
    const tether = await openIsolated('group')
    const { ref } = await tether.jobs.start(startOf('outputs-for-ever', null, { policy: { settleMs: 500 } }))
    await untilRunning(tether, ref)
    await eventually('it says something', async () => (await tether.jobs.job(ref)).lastSeq > 2)
    await end(tether, ref, 'cancel', { waitMs: 5000 })
    const { view, events } = await outcomeOf(tether, ref)
    expect(view).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
    expect(events.slice(-2).map(({ type }) => type)).toEqual(['job.cancelling', 'job.cancelled'])
  })
})

function withoutHead(event: JobEvent): object {
  return Object.fromEntries(Object.entries(event).filter(([key]) => !['jobId', 'seq', 'at'].includes(key)))
}
