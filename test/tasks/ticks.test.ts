import { describe, expect, test } from 'vitest'
import type { Tether } from '../../src/tether.ts'
import { end, eventsOf, eventually, openWorld, startOf, untilRunning } from '../world.ts'

async function textOf(tether: Tether, input: object): Promise<string> {
  const { ref } = await tether.jobs.start(startOf('ticks', { ...input }))
  expect((await tether.jobs.outcome(ref)).status).toBe('succeeded')
  const events = await eventsOf(tether, ref)
  return events.map((event) => (event.type === 'output' && event.channel === 'text' ? event.text : '')).join('')
}

describe('ticks', () => {
  test.each([
    [{ count: 0, intervalMs: 0 }, ''],
    [{ count: 3, intervalMs: 1 }, 'tick 1\ntick 2\ntick 3\n'],
    [{ count: 2, intervalMs: 0, bytes: 9 }, 'tick 1...\ntick 2...\n'],
    [{ count: 1, intervalMs: 0, bytes: 2 }, 'tick 1\n'],
  ])('of %j are %j', async (input, text) => {
    expect(await textOf(await openWorld(), input)).toBe(text)
  })

  test('come all and in order where there are many', async () => {
    const text = await textOf(await openWorld(), { count: 5000, intervalMs: 0 })
    expect(text === Array.from({ length: 5000 }, (_, n) => `tick ${n + 1}\n`).join('')).toBe(true)
  })

  test.each([
    ['stop', 'stopped'],
    ['cancel', 'cancelled'],
  ] as const)('without pause can be ended by a %s, and others live meanwhile', async (kind, status) => {
    const tether = await openWorld()
    const { ref } = await tether.jobs.start(startOf('ticks', { count: 2_000_000_000, intervalMs: 0 }))
    await untilRunning(tether, ref)
    await eventually('it ticks', async () => (await tether.jobs.job(ref)).lastSeq > 3)
    await end(tether, ref, kind)
    expect((await tether.jobs.outcome(ref)).status).toBe(status)
  })

  test.each([
    [{ count: -1, intervalMs: 0 }, 'input.count'],
    [{ count: 1.5, intervalMs: 0 }, 'input.count'],
    [{ count: 1 }, 'input.intervalMs'],
    [{ count: 1, intervalMs: 0, speed: 2 }, 'input.speed'],
    [{ count: '1', intervalMs: 0 }, 'input.count'],
  ])('of %j are refused, naming %s', async (input, field) => {
    const tether = await openWorld()
    await expect(tether.jobs.start(startOf('ticks', { ...input }))).rejects.toMatchObject({
      code: 'TETHER_INVALID_REQUEST',
      message: expect.stringContaining(field),
    })
  })
})
