import { describe, expect, test } from 'vitest'
import type { Held } from '../../src/cancellation/Held.ts'
import { JobScope } from '../../src/cancellation/JobScope.ts'
import { JobStopped } from '../../src/cancellation/JobStopped.ts'
import type { CancelKind, CancellationRequest } from '../../src/job/cancellation.ts'

function requestOf(kind: CancelKind, reason = ''): CancellationRequest {
  const cause = kind === 'cancel' ? 'cancel_requested' : 'stop_requested'
  return { kind, cause, reason, by: 'someone', requestedAt: 0, requestedAtMs: 0 }
}

function heldOf(isPrompt: boolean): Held {
  return { kind: 'other', isPrompt, release: async () => ({ count: 1 }) }
}

function setUp() {
  const released: Held[] = []
  return { released, scope: new JobScope((held) => released.push(held)) }
}

describe('the signals of a scope', () => {
  test('say why, the reason and by whom, and are an AbortError to whoever looks for one', () => {
    const { scope } = setUp()
    const { signal } = scope
    scope.request(requestOf('cancel', 'enough'))
    expect(signal.aborted).toBe(true)
    expect(signal.reason).toBeInstanceOf(JobStopped)
    expect(signal.reason).toMatchObject({
      name: 'AbortError',
      kind: 'cancel',
      why: 'cancel_requested',
      reason: 'enough',
      by: 'someone',
    })
  })

  test('are aborted also where they are first asked for after the request', () => {
    const { scope } = setUp()
    scope.request(requestOf('stop', 'gently'))
    expect(scope.stopSignal.reason).toMatchObject({ why: 'stop_requested' })
    expect(scope.signal.aborted).toBe(false)
    scope.request(requestOf('cancel', 'now'))
    expect(scope.signal.reason).toMatchObject({ why: 'cancel_requested' })
    expect(scope.stopSignal.reason).toMatchObject({ why: 'stop_requested' })
  })

  test('fire for a cancel both, and the first of a kind stands', () => {
    const { scope } = setUp()
    const { signal, stopSignal } = scope
    scope.request(requestOf('cancel', 'first'))
    scope.request(requestOf('cancel', 'second'))
    scope.request(requestOf('stop', 'too late'))
    expect(signal.reason).toMatchObject({ reason: 'first' })
    expect(stopSignal.reason).toMatchObject({ reason: 'first' })
    expect(scope.isStopRequested).toBe(false)
  })
})

describe('a boundary', () => {
  test('raises each time, not only the first', () => {
    const { scope } = setUp()
    scope.checkpoint()
    expect(scope.wasRaised).toBe(false)
    scope.request(requestOf('stop'))
    for (let n = 0; n < 3; n += 1) expect(() => scope.checkpoint()).toThrow(JobStopped)
    expect(scope.wasRaised).toBe(true)
  })

  test('is silent in shielded code of its own scope, also after an await, and raises in that of another', async () => {
    const { scope } = setUp()
    const other = setUp().scope
    scope.request(requestOf('cancel'))
    await scope.shield(async () => {
      scope.checkpoint()
      await Promise.resolve()
      scope.checkpoint()
    })
    expect(scope.wasRaised).toBe(false)
    expect(() => other.shield(() => scope.checkpoint())).toThrow(JobStopped)
  })

  test('raises after the end, for work that the function left behind', () => {
    const { scope } = setUp()
    expect(scope.close()).toBe(true)
    expect(() => scope.checkpoint()).toThrow('the job has ended')
  })
})

test('its own request is known behind other errors', () => {
  const { scope } = setUp()
  scope.request(requestOf('stop'))
  const own = scope.stopSignal.reason
  expect(scope.isOwnStop(own)).toBe(true)
  expect(scope.isOwnStop(new Error('wrapped', { cause: new Error('twice', { cause: own }) }))).toBe(true)
  expect(scope.isOwnStop(new JobStopped(requestOf('stop')))).toBe(false)
  const circular = new Error('circular')
  circular.cause = circular
  expect(scope.isOwnStop(circular)).toBe(false)
  expect(scope.isOwnStop('text')).toBe(false)
})

describe('what is held', () => {
  test('is handed over last in, first out; what was let go of is not', () => {
    const { scope } = setUp()
    const [a, b, c] = [heldOf(false), heldOf(true), heldOf(false)] as const
    scope.hold(a)
    const letGo = scope.hold(b)
    scope.hold(c)
    letGo()
    letGo()
    expect(scope.takeAll()).toEqual([c, a])
    expect(scope.takeAll()).toEqual([])
  })

  test('and prompt is released by a cancel, not by a stop; what comes after the cancel at once, unless it is shielded', () => {
    const { scope, released } = setUp()
    const [prompt, patient, late, cleanup] = [heldOf(true), heldOf(false), heldOf(true), heldOf(true)] as const
    scope.hold(prompt)
    scope.hold(patient)
    scope.request(requestOf('stop'))
    expect(released).toEqual([])
    scope.request(requestOf('cancel'))
    expect(released).toEqual([prompt])
    scope.hold(late)
    scope.shield(() => scope.hold(cleanup))
    expect(released).toEqual([prompt, late])
    expect(scope.takeAll()).toEqual([cleanup, patient])
  })

  test('keeps the scope open; after the end everything is released at once', () => {
    const { scope, released } = setUp()
    const held = heldOf(false)
    scope.hold(held)
    expect(scope.close()).toBe(false)
    scope.takeAll()
    expect(scope.close()).toBe(true)
    scope.hold(held)
    expect(released).toEqual([held])
  })
})

test('listeners are told of later requests in their order, and come off', () => {
  const { scope } = setUp()
  const told: string[] = []
  scope.onRequest((kind) => told.push(`a ${kind}`))
  const unlisten = scope.onRequest((kind) => told.push(`b ${kind}`))
  scope.request(requestOf('stop'))
  unlisten()
  scope.request(requestOf('cancel'))
  expect(told).toEqual(['a stop', 'b stop', 'a cancel'])
})

test('the phase is the innermost thing in flight', () => {
  const { scope } = setUp()
  expect(scope.phase).toBe('running')
  const leaveTool = scope.enter('tool:terminal')
  const leaveModel = scope.enter('model')
  expect(scope.phase).toBe('model')
  leaveModel()
  leaveModel()
  expect(scope.phase).toBe('tool:terminal')
  leaveTool()
  expect(scope.phase).toBe('running')
})
