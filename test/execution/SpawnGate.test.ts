import { setImmediate as nextTurn } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { SpawnGate } from '../../src/execution/SpawnGate.ts'
import { end, eventsOf, openWorld, startOf, typesOf } from '../world.ts'

test('the first passes at once; those behind it pass in their order, with turns of the loop between them', async () => {
  const gate = new SpawnGate()
  const passed: number[] = []
  let turns = 0
  const waits = [1, 2, 3].map(async (n) => {
    await gate.pass().passed
    passed.push(n, turns)
  })
  while (passed.length < 6) {
    await nextTurn()
    turns += 1
  }
  await Promise.all(waits)
  const [first, firstTurn, second, secondTurn, third, thirdTurn] = passed
  expect([first, second, third]).toEqual([1, 2, 3])
  expect(firstTurn).toBe(0)
  expect((secondTurn ?? 0) - (firstTurn ?? 0)).toBeGreaterThanOrEqual(7)
  expect((thirdTurn ?? 0) - (secondTurn ?? 0)).toBeGreaterThanOrEqual(7)
})

test('whoever leaves is let go at once, and takes nobody’s turn', async () => {
  const gate = new SpawnGate()
  await gate.pass().passed
  const second = gate.pass()
  const third = gate.pass()
  second.leave()
  await second.passed
  await third.passed
})

test('commands that are cancelled while others are being started start nothing, and none is abandoned', async () => {
  const tether = await openWorld()
  const started = await Promise.all(
    Array.from({ length: 30 }, (_, n) => tether.jobs.start(startOf('command', { command: `sleep 60.${n}` }))),
  )
  await Promise.all(started.map(({ ref }) => end(tether, ref, 'cancel')))
  const views = await Promise.all(started.map(({ ref }) => tether.jobs.outcome(ref)))
  for (const view of views) expect(view).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
  for (const { ref } of started) expect(typesOf(await eventsOf(tether, ref)).at(-1)).toBe('job.cancelled')
})
