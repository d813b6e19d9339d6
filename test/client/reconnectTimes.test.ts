import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { StreamCut } from '../../src/client/error.ts'
import { Reconnect } from '../../src/client/Reconnect.ts'

// The times of a way back, which would take too long with a real clock.

const never = new AbortController().signal
const cut = new StreamCut('job_chosen', 3)

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  // Every wait is as long as it may be, but for a millisecond.
  vi.spyOn(Math, 'random').mockReturnValue(0.99)
})

afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
})

/** How long a way back takes whose first try succeeds. */
async function returnMs(reconnect: Reconnect): Promise<number> {
  const beganAtMs = performance.now()
  const resumed = reconnect.resume(cut, { graceMs: 0, signal: never }, () => Promise.resolve('back'))
  await vi.runAllTimersAsync()
  expect(await resumed).toBe('back')
  return Math.round(performance.now() - beganAtMs)
}

test('connections that break as soon as they stand are made more and more rarely', async () => {
  const reconnect = new Reconnect({}, never)
  const waits = []
  for (let index = 0; index < 7; index += 1) waits.push(await returnMs(reconnect))
  expect(waits).toEqual([99, 198, 396, 792, 1584, 1980, 1980])
})

test('one that brought an event, or lasted, is made anew at once', async () => {
  const reconnect = new Reconnect({}, never)
  for (let index = 0; index < 5; index += 1) await returnMs(reconnect)
  reconnect.noteProgress()
  expect([await returnMs(reconnect), await returnMs(reconnect)]).toEqual([99, 198])
  await vi.advanceTimersByTimeAsync(2001)
  expect(await returnMs(reconnect)).toBe(99)
})

test('the time is up though each way back succeeds, where every connection breaks before anything has come', async () => {
  const reconnect = new Reconnect({}, never)
  const beganAtMs = performance.now()
  let ways = 0
  const lost = (async () => {
    for (;;) {
      await reconnect.resume(cut, { graceMs: 0, signal: never }, () => Promise.resolve('back'))
      ways += 1
    }
  })().catch((error: unknown) => error)
  await vi.runAllTimersAsync()
  expect(await lost).toMatchObject({ name: 'StreamCut', lastSeq: 3 })
  expect(ways).toBeGreaterThan(5)
  expect(performance.now() - beganAtMs).toBeLessThan(12_000)
})

test('a try that hangs is given up after 10 s, where there is time for another', async () => {
  const reconnect = new Reconnect({}, never)
  const signals: AbortSignal[] = []
  const resumed = reconnect.resume(cut, { graceMs: 60_000, signal: never }, async (signal) => {
    signals.push(signal)
    if (signals.length === 2) return 'back'
    return await new Promise<string>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason))
    })
  })
  await vi.advanceTimersByTimeAsync(10_098)
  expect(signals.map(({ aborted }) => aborted)).toEqual([false])
  await vi.advanceTimersByTimeAsync(1000)
  expect(await resumed).toBe('back')
  await vi.advanceTimersByTimeAsync(60_000)
  expect(signals.map(({ aborted }) => aborted)).toEqual([true, false])
})

test.each([
  ['10 s', {}, 0, 10_000],
  ['the grace where that is longer', {}, 90_000, 90_000],
  ['what the caller says at least', { tryAtLeastMs: 20_000 }, 5000, 20_000],
])('it is tried for %s, with a last try at the end', async (_, options, graceMs, forMs) => {
  const reconnect = new Reconnect(options, never)
  const beganAtMs = performance.now()
  let lastAtMs = 0
  const failure = new StreamCut('job_chosen', 3)
  const resumed = reconnect
    .resume(cut, { graceMs, signal: never }, () => {
      lastAtMs = performance.now() - beganAtMs
      return Promise.reject(failure)
    })
    .catch((error: unknown) => error)
  await vi.runAllTimersAsync()
  expect(await resumed).toMatchObject({ name: 'StreamCut', lastSeq: 3, cause: failure })
  expect(Math.round(lastAtMs)).toBe(forMs)
  expect(Math.round(performance.now() - beganAtMs)).toBe(forMs)
})

test.each([
  ['brought an event', (reconnect: Reconnect) => reconnect.noteProgress()],
  ['lasted', () => vi.advanceTimersByTime(2001)],
])('after a way back that %s the whole time is there again', async (_, gain) => {
  const reconnect = new Reconnect({}, never)
  for (const round of [1, 2, 3]) {
    const lostAtMs = performance.now()
    const attempt = (): Promise<number> =>
      performance.now() - lostAtMs < 8000 ? Promise.reject(cut) : Promise.resolve(round)
    const resumed = reconnect.resume(cut, { graceMs: 0, signal: never }, attempt)
    await vi.runAllTimersAsync()
    expect(await resumed).toBe(round)
    gain(reconnect)
  }
})

test('what a hook throws ends it', async () => {
  const [thrown, tries] = [new Error('the hook'), [] as number[]]
  const hook = (): never => {
    throw thrown
  }
  const attempt = (): Promise<number> => Promise.resolve(tries.push(1))
  const terms = { graceMs: 0, signal: never }
  await expect(new Reconnect({ onLost: hook }, never).resume(cut, terms, attempt)).rejects.toBe(thrown)
  expect(tries).toEqual([])
  const back = new Reconnect({ onBack: hook }, never).resume(cut, terms, attempt).catch((error: unknown) => error)
  await vi.runAllTimersAsync()
  expect(await back).toBe(thrown)
})
