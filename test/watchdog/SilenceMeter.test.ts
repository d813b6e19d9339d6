import fc from 'fast-check'
import { expect, test } from 'vitest'
import { SilenceMeter } from '../../src/execution/watchdog/SilenceMeter.ts'

const meter = (): SilenceMeter => new SilenceMeter({ blockedMs: 1000, lateMs: 500 })

test('silence of the whole threshold is a block, and the next beat is its end', () => {
  const silence = meter()
  expect(silence.look(1, 250)).toEqual({ kind: 'turning' })
  for (const _ of [1, 2, 3]) expect(silence.look(1, 250)).toEqual({ kind: 'turning' })
  expect(silence.look(1, 250)).toEqual({ kind: 'blocked', ms: 1000 })
  expect(silence.look(1, 50)).toEqual({ kind: 'blocked', ms: 1050 })
  expect(silence.look(2, 50)).toEqual({ kind: 'over', ms: 1050 })
  expect(silence.look(2, 250)).toEqual({ kind: 'turning' })
})

test('a suspension before the threshold starts the count anew', () => {
  const silence = meter()
  silence.look(1, 250)
  silence.look(1, 400)
  silence.look(1, 400)
  expect(silence.look(1, 60_000)).toEqual({ kind: 'turning' })
  expect(silence.look(1, 400)).toEqual({ kind: 'turning' })
  expect(silence.look(1, 400)).toEqual({ kind: 'turning' })
  expect(silence.look(1, 400)).toEqual({ kind: 'blocked', ms: 1200 })
})

test('a suspension within a block does not count', () => {
  const silence = meter()
  silence.look(1, 250)
  for (const _ of [1, 2, 3, 4]) silence.look(1, 300)
  expect(silence.look(1, 60_000)).toEqual({ kind: 'blocked', ms: 1200 })
  expect(silence.look(2, 60_000)).toEqual({ kind: 'over', ms: 1200 })
})

test('a beat at every look is never a block, however late the looks', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 100_000 })), (elapsed) => {
      const silence = meter()
      return elapsed.every((ms, beats) => silence.look(beats, ms).kind === 'turning')
    }),
  )
})

test('blocks and ends alternate, whatever the beats', () => {
  const looks = fc.array(fc.record({ isBeat: fc.boolean(), elapsedMs: fc.integer({ min: 0, max: 700 }) }), {
    minLength: 50,
  })
  fc.assert(
    fc.property(looks, (all) => {
      const silence = meter()
      let beats = 0
      let isBlocked = false
      for (const { isBeat, elapsedMs } of all) {
        if (isBeat) beats += 1
        const { kind } = silence.look(beats, elapsedMs)
        if ((kind === 'over') !== (isBlocked && isBeat)) return false
        isBlocked = kind === 'blocked'
      }
      return true
    }),
  )
})
