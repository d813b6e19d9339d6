import { describe, expect, onTestFinished, test } from 'vitest'
import { type Clock, systemClock } from '../../src/clock.ts'
import type { Finding } from '../../src/health/Check.ts'
import { diskFinding } from '../../src/health/diskSpace.ts'
import { HealthReport } from '../../src/health/HealthReport.ts'
import { SharedAnswer } from '../../src/health/SharedAnswer.ts'
import { SharedProbes } from '../../src/health/SharedProbes.ts'
import { LoopDelay } from '../../src/metrics/LoopDelay.ts'
import { ManualClock } from '../cancellation/ManualClock.ts'
import { eventually } from '../world.ts'

/** A loop whose timers are as late as the test says. */
class LateClock implements Clock {
  #nowMs = 0
  #next: { readonly delayMs: number; readonly run: () => void } | undefined

  now(): number {
    return this.#nowMs
  }

  monotonicMs(): number {
    return this.#nowMs
  }

  schedule(delayMs: number, run: () => void): () => void {
    this.#next = { delayMs, run }
    return () => {
      this.#next = undefined
    }
  }

  fire(lateMs: number): void {
    const next = this.#next
    if (next === undefined) throw new Error('nothing is due')
    this.#nowMs += next.delayMs + lateMs
    next.run()
  }
}

function probeOf(run: () => Promise<Finding>) {
  return { name: 'probe', run }
}

describe('the delay of the loop', () => {
  test('counts a stall for as long as it was, as all find it who come meanwhile', () => {
    const clock = new LateClock()
    const loop = new LoopDelay(clock)
    expect(loop.recent()).toBeUndefined()
    loop.start()
    for (let n = 0; n < 60; n += 1) clock.fire(0)
    clock.fire(2000)
    // Forty who came during these two seconds, and one who came when they began.
    expect(loop.recent()).toEqual({ p50Ms: 0, p99Ms: 1950, maxMs: 2000 })
    const [histogram] = loop.families()
    if (histogram?.kind !== 'histogram') throw new Error('it must be a histogram')
    expect([...histogram.read()]).toMatchObject([{ count: 101, sum: 41 }])
    for (let n = 0; n < 200; n += 1) clock.fire(1)
    expect(loop.recent()).toEqual({ p50Ms: 1, p99Ms: 1, maxMs: 1 })
  })

  test('of a process that slept for a day is not counted for a day', () => {
    const clock = new LateClock()
    const loop = new LoopDelay(clock)
    loop.start()
    clock.fire(86_400_000)
    const [histogram] = loop.families()
    if (histogram?.kind !== 'histogram') throw new Error('it must be a histogram')
    expect([...histogram.read()]).toMatchObject([{ count: 200 }])
  })

  test('is seen where the loop is really blocked', async () => {
    const loop = new LoopDelay(systemClock)
    loop.start()
    onTestFinished(() => loop.stop())
    await eventually('it has looked', () => loop.recent() !== undefined)
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 400)
    await eventually('the block shows', () => (loop.recent()?.maxMs ?? 0) >= 300)
  })

  test('that keeps most waiting makes the server not ready', async () => {
    const clock = new LateClock()
    const loop = new LoopDelay(clock)
    loop.start()
    const report = new HealthReport({
      standing: () => ({ isDraining: false, stuck: [], running: 0, queued: 0 }),
      shared: new SharedAnswer(new ManualClock(), () => Promise.resolve(undefined)),
      probes: new SharedProbes(new ManualClock(), []),
      loop,
      containment: { level: 'group', complete: false },
      guardianPid: () => 1,
      maxAbandoned: 0,
      isLogFailing: () => false,
    })
    clock.fire(450)
    expect((await report.ready()).isReady).toBe(true)
    clock.fire(5000)
    const { isReady, checks } = await report.ready()
    expect(isReady).toBe(false)
    expect(checks.find(({ ok }) => !ok)).toMatchObject({ name: 'event_loop', figures: { maxMs: 5000 } })
  })
})

describe('probes', () => {
  test('are shared by all who ask within a second', async () => {
    const clock = new ManualClock()
    let runs = 0
    const probes = new SharedProbes(clock, [
      probeOf(async () => {
        runs += 1
        return { ok: true, figures: { runs } }
      }),
    ])
    expect(await probes.run()).toEqual([{ name: 'probe', ok: true, figures: { tookMs: 0, runs: 1 } }])
    clock.advance(999)
    expect(await probes.run()).toMatchObject([{ figures: { runs: 1 } }])
    clock.advance(1)
    expect(await Promise.all([probes.run(), probes.run()])).toMatchObject([
      [{ figures: { runs: 2 } }],
      [{ figures: { runs: 2 } }],
    ])
    expect(clock.timers).toBe(0)
  })

  test('that do not answer are down, and are not begun again before they have', async () => {
    const clock = new ManualClock()
    let runs = 0
    let answer = Promise.withResolvers<Finding>()
    const probes = new SharedProbes(clock, [
      probeOf(() => {
        runs += 1
        return answer.promise
      }),
    ])
    for (let n = 0; n < 3; n += 1) {
      const asked = probes.run()
      clock.advance(2000)
      expect(await asked).toEqual([{ name: 'probe', ok: false, detail: 'no answer for 2000 ms' }])
    }
    expect(runs).toBe(1)
    answer.resolve({ ok: true })
    clock.advance(1000)
    await eventually('it has answered', async () => {
      clock.advance(1000)
      return (await probes.run())[0]?.ok
    })
    answer = Promise.withResolvers()
    answer.reject(new Error('it is gone'))
    clock.advance(1000)
    expect(await probes.run()).toEqual([{ name: 'probe', ok: false, detail: 'it is gone' }])
  })
})

test.each([
  [64 * 2 ** 20, 2 ** 40, true],
  [64 * 2 ** 20 - 1, 2 ** 40, false],
  // A small disk.
  [2 ** 20, 2 ** 24, true],
  [2 ** 19, 2 ** 24, false],
  [0, 0, true],
])('%i bytes free of %i are enough: %s', (freeBytes, totalBytes, ok) => {
  expect(diskFinding({ freeBytes, totalBytes }).ok).toBe(ok)
})
