import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { PendingCancellations } from '../../src/cancellation/PendingCancellations.ts'
import type { CancelKind, CancellationRequest } from '../../src/job/cancellation.ts'
import { parseJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT, type JobKey, keyOf } from '../../src/job/key.ts'
import { ManualClock } from './ManualClock.ts'

function keyFor(name: string | number): JobKey {
  return keyOf({ tenant: DEFAULT_TENANT, id: parseJobId(`job_number_${name}`) })
}

function requestOf(kind: CancelKind, reason = ''): CancellationRequest {
  const cause = kind === 'cancel' ? 'cancel_requested' : 'stop_requested'
  return { kind, cause, reason, requestedAt: 0, requestedAtMs: 0 }
}

function setUp(options: { expiresAfterMs?: number; maxTombstones?: number } = {}) {
  const clock = new ManualClock()
  const { expiresAfterMs = 1000, maxTombstones = 3 } = options
  return { clock, pending: new PendingCancellations({ clock, expiresAfterMs, maxTombstones }) }
}

describe('a tombstone', () => {
  test('is consumed by the first that takes it', () => {
    const { pending } = setUp()
    pending.remember(keyFor('a'), requestOf('cancel', 'why'))
    expect(pending.take(keyFor('a'))).toMatchObject({ kind: 'cancel', reason: 'why' })
    expect(pending.take(keyFor('a'))).toBeUndefined()
    expect(pending.size).toBe(0)
  })

  test('is gone when its time is up, counted from the last request, and leaves no timer', () => {
    const { clock, pending } = setUp()
    const first = pending.remember(keyFor('a'), requestOf('cancel'))
    clock.advance(900)
    const second = pending.remember(keyFor('a'), requestOf('cancel'))
    expect((second?.expiresAt ?? 0) - (first?.expiresAt ?? 0)).toBe(900)
    clock.advance(900)
    expect(pending.isCancelled(keyFor('a'))).toBe(true)
    clock.advance(200)
    expect(pending.isCancelled(keyFor('a'))).toBe(false)
    expect(pending).toMatchObject({ size: 0, tombstoneCount: 0 })
    expect(clock.timers).toBe(0)
  })

  test('of a cancel beats one of a stop, whichever came first; among equals the first stands', () => {
    const { pending } = setUp()
    pending.remember(keyFor('a'), requestOf('stop', 'one'))
    expect(pending.remember(keyFor('a'), requestOf('cancel', 'two'))?.kind).toBe('cancel')
    expect(pending.remember(keyFor('a'), requestOf('stop', 'three'))?.kind).toBe('cancel')
    expect(pending.remember(keyFor('a'), requestOf('cancel', 'four'))?.kind).toBe('cancel')
    expect(pending.take(keyFor('a'))?.reason).toBe('two')
  })

  test('past the limit is refused, never by dropping another; a known one may be renewed, and an expired one makes room', () => {
    const { clock, pending } = setUp({ maxTombstones: 2 })
    expect(pending.remember(keyFor(1), requestOf('cancel'))).toBeDefined()
    clock.advance(500)
    expect(pending.remember(keyFor(2), requestOf('cancel'))).toBeDefined()
    expect(pending.remember(keyFor(3), requestOf('cancel'))).toBeUndefined()
    expect(pending.rememberGroup(DEFAULT_TENANT, 'group_aa', requestOf('cancel'))).toBeUndefined()
    expect(pending.remember(keyFor(2), requestOf('stop'))).toBeDefined()
    clock.advance(501)
    expect(pending.remember(keyFor(3), requestOf('cancel'))).toBeDefined()
    expect(pending.tombstoneCount).toBe(2)
  })

  test('of a group stays for every job that comes, and is no job of that name', () => {
    const { pending } = setUp()
    pending.rememberGroup(DEFAULT_TENANT, 'job_number_a', requestOf('stop'))
    expect(pending.peekGroup(DEFAULT_TENANT, 'job_number_a')).toBeDefined()
    expect(pending.peekGroup(DEFAULT_TENANT, 'job_number_a')).toBeDefined()
    expect(pending.peek(keyFor('a'))).toBeUndefined()
    expect(pending.peekGroup('another', 'job_number_a')).toBeUndefined()
  })
})

describe('a mark', () => {
  test('of a job that exists stays until its execution has taken it, however long its claim takes', () => {
    const { clock, pending } = setUp({ expiresAfterMs: 10 })
    pending.mark(keyFor('a'), requestOf('cancel', 'slow store'))
    clock.advance(1_000_000)
    expect(pending.getCancellationReason(keyFor('a'))).toBe('slow store')
    pending.clearCancellation(keyFor('a'))
    expect(pending.size).toBe(0)
    expect(clock.timers).toBe(0)
  })

  test('does not count as a tombstone and does not keep tombstones from expiring', () => {
    const { clock, pending } = setUp({ maxTombstones: 1 })
    pending.markForCancellation(keyFor('a'))
    pending.remember(keyFor('b'), requestOf('cancel'))
    pending.markForCancellation(keyFor('c'))
    expect([pending.size, pending.tombstoneCount]).toEqual([3, 1])
    clock.advance(1002)
    expect([pending.size, pending.tombstoneCount]).toEqual([2, 0])
  })
})

test('closing forgets everything and lets go of the timer', () => {
  const { clock, pending } = setUp()
  pending.mark(keyFor('a'), requestOf('cancel'))
  pending.remember(keyFor('b'), requestOf('cancel'))
  pending.close()
  pending.close()
  expect(pending).toMatchObject({ size: 0, tombstoneCount: 0 })
  expect(clock.timers).toBe(0)
})

test('whatever is asked, it agrees with a plain list of requests, and never keeps more tombstones than it may', () => {
  const commands = fc.array(
    fc.oneof(
      fc.record({
        do: fc.constant('remember' as const),
        id: fc.nat(4),
        kind: fc.constantFrom<CancelKind>('cancel', 'stop'),
      }),
      fc.record({ do: fc.constant('take' as const), id: fc.nat(4) }),
      fc.record({ do: fc.constant('wait' as const), ms: fc.constantFrom(1, 400, 1000) }),
    ),
    { maxLength: 40 },
  )
  fc.assert(
    fc.property(commands, (list) => {
      const { clock, pending } = setUp({ maxTombstones: 3 })
      const model = new Map<number, { kind: CancelKind; expiresAtMs: number }>()
      for (const command of list) {
        for (const [id, { expiresAtMs }] of model) if (expiresAtMs <= clock.monotonicMs()) model.delete(id)
        if (command.do === 'wait') clock.advance(command.ms)
        else if (command.do === 'take') {
          expect(pending.take(keyFor(command.id))?.kind).toBe(model.get(command.id)?.kind)
          model.delete(command.id)
        } else {
          const known = model.get(command.id)
          const isTaken = known !== undefined || model.size < 3
          const answer = pending.remember(keyFor(command.id), requestOf(command.kind))
          expect(answer !== undefined).toBe(isTaken)
          if (isTaken) {
            const kind = known === undefined || command.kind === 'cancel' ? command.kind : known.kind
            model.set(command.id, { kind, expiresAtMs: clock.monotonicMs() + 1000 })
          }
        }
        expect(pending.tombstoneCount).toBeLessThanOrEqual(3)
      }
      clock.advance(2000)
      expect(pending.size).toBe(0)
      expect(clock.timers).toBe(0)
    }),
    { numRuns: 200 },
  )
})
