import fc from 'fast-check'
import { expect, test } from 'vitest'
import { failureOf, TaskFailure } from '../../src/job/failure.ts'

/** Something that a task may throw although nobody should. */
function revokedProxy(): unknown {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}

function errorWithThrowingMessage(): Error {
  return Object.defineProperty(new Error('x'), 'message', {
    get() {
      throw new Error('from the getter')
    },
  })
}

test('a failure that a task throws keeps its code and what it says', () => {
  const error = new TaskFailure('TETHER_EXIT_CODE', 'exit code 3', { exitCode: 3, retryable: true })
  expect(failureOf(error)).toEqual({ code: 'TETHER_EXIT_CODE', message: 'exit code 3', retryable: true, exitCode: 3 })
  expect(failureOf(new TaskFailure('X', 'y', { signal: 'SIGKILL' }))).toEqual({
    code: 'X',
    message: 'y',
    retryable: false,
    signal: 'SIGKILL',
  })
})

const UNSHOWABLE = 'the task threw a value of type object that cannot be shown'

const THROWN = {
  'an error': [new TypeError('x is not a function'), 'TypeError: x is not a function'],
  'a DOMException': [new DOMException('gone', 'AbortError'), 'AbortError: gone'],
  'a string': ['no', 'the task threw "no"'],
  undefined: [undefined, 'the task threw undefined'],
  null: [null, 'the task threw null'],
  'a bigint': [42n, 'the task threw 42'],
  'a symbol': [Symbol('s'), 'the task threw Symbol(s)'],
  'an object without a prototype': [Object.create(null), UNSHOWABLE],
  'a revoked proxy': [revokedProxy(), UNSHOWABLE],
  'an error whose message throws': [errorWithThrowingMessage(), UNSHOWABLE],
  'a failure whose message is no text': [Object.assign(new TaskFailure('X', ''), { message: 7 }), UNSHOWABLE],
} as const satisfies Record<string, [unknown, string]>

for (const [name, [error, message]] of Object.entries(THROWN)) {
  // Not `test.each`: it looks into its values, and some of these throw when looked into.
  test(`a task that throws ${name} fails with a code of ours`, () => {
    expect(failureOf(error)).toEqual({ code: 'TETHER_TASK_FAILED', message, retryable: false })
  })
}

test('whatever is thrown, its failure can be written as JSON and is bounded', () => {
  fc.assert(
    fc.property(fc.anything({ withBigInt: true, withNullPrototype: true, withSparseArray: true }), (thrown) => {
      const failure = failureOf(thrown)
      expect(JSON.parse(JSON.stringify(failure))).toEqual(failure)
      expect(failure.message.length).toBeLessThanOrEqual(4096)
    }),
  )
})

test('a long message is cut to 4096 characters of whole text', () => {
  const { message } = failureOf(new TaskFailure('X', `x${'😀'.repeat(5000)}`))
  expect(message).toHaveLength(4096)
  expect(message.isWellFormed()).toBe(true)
})
