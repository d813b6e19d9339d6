import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Backoff } from '../../src/client/Backoff.ts'
import { ConnectionLost, TetherApiError } from '../../src/client/error.ts'
import { persist, tryAgain } from '../../src/client/tryAgain.ts'

const never = new AbortController().signal

test('waits are random below a ceiling that doubles to its highest, and begins anew after a reset', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 12 }), (maxMs, tries) => {
      const backoff = new Backoff(maxMs)
      for (const round of [1, 2]) {
        for (let index = 0; index < tries; index += 1) {
          const waitMs = backoff.nextMs()
          expect(waitMs, `round ${round}`).toBeGreaterThanOrEqual(0)
          expect(waitMs, `round ${round}`).toBeLessThan(Math.min(maxMs, 100 * 2 ** index))
        }
        backoff.reset()
      }
    }),
  )
  const highest = Array.from({ length: 200 }, () => {
    const backoff = new Backoff()
    return Array.from({ length: 6 }, () => backoff.nextMs())
  })
  for (const [index, ceilingMs] of [100, 200, 400, 800, 1600, 2000].entries()) {
    expect(Math.max(...highest.map((waits) => waits[index] ?? 0))).toBeGreaterThan(0.8 * ceilingMs)
  }
})

test('a try that is not answered in its time is given up, and another one made', async () => {
  const signals: AbortSignal[] = []
  const answer = await persist(
    async (signal) => {
      signals.push(signal)
      if (signals.length > 1) return 'answered'
      return await new Promise<string>((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason))
      })
    },
    { signal: never, tryMs: 20 },
  )
  expect(answer).toBe('answered')
  expect(signals[0]?.reason).toBeInstanceOf(ConnectionLost)
  expect(signals[1]?.aborted).toBe(false)
})

test('a failure that no further try can change is thrown as it is', async () => {
  const [bug, attempts] = [new TypeError('a bug'), [] as number[]]
  const attempt = async (): Promise<never> => {
    attempts.push(1)
    throw bug
  }
  await expect(persist(attempt, { signal: never })).rejects.toBe(bug)
  await expect(tryAgain(attempt, new ConnectionLost('gone'), { signal: never })).rejects.toBe(bug)
  expect(attempts).toHaveLength(2)
})

test('where there is no time there is no further try', async () => {
  const failure = new ConnectionLost('gone')
  const attempt = async (): Promise<never> => expect.unreachable()
  await expect(tryAgain(attempt, failure, { signal: never, forMs: 0 })).rejects.toBe(failure)
})

test('a server that wants to be left alone for a hundred years is not asked at once', async () => {
  const failure = new TetherApiError(503, 'TETHER_DRAINING', 'gone', 100 * 365 * 86_400)
  const [leaving, asked] = [new AbortController(), new Error('enough')]
  const attempt = async (): Promise<never> => expect.unreachable()
  const tried = tryAgain(attempt, failure, { signal: leaving.signal })
  setTimeout(() => leaving.abort(asked), 50)
  await expect(tried).rejects.toBe(asked)
})
