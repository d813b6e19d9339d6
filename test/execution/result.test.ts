import { describe, expect, test } from 'vitest'
import type { Json } from '../../src/job/json.ts'
import { eventsOf, openWorld, startOf, taskOf } from '../world.ts'

/** Runs a task that returns `value`, whatever that is: authors write JavaScript too. */
async function resultOf(value: unknown) {
  const tether = await openWorld({ tasks: [taskOf('returns', async () => value as Json)] })
  const { ref } = await tether.jobs.start(startOf('returns', null))
  const view = await tether.jobs.outcome(ref)
  return { view, last: (await eventsOf(tether, ref)).at(-1) }
}

describe('a result', () => {
  test.each([
    ['nothing', undefined, null],
    ['null', null, null],
    [
      'an object with what JSON leaves out',
      { a: undefined, b: new Date(0), c: Number.NaN },
      { b: '1970-01-01T00:00:00.000Z', c: null },
    ],
  ])('%s is the same in the record and in the event', async (_name, value, expected) => {
    const { view, last } = await resultOf(value)
    expect(view).toMatchObject({ status: 'succeeded' })
    expect(view.result).toEqual(expected)
    expect(last).toMatchObject({ type: 'job.succeeded', result: expected })
  })

  const circular: { self?: unknown } = {}
  circular.self = circular
  test.each([
    ['circular', circular],
    ['a bigint', 1n],
    ['a function', () => 1],
    ['a symbol', Symbol('s')],
  ])('that is %s fails the job', async (_name, value) => {
    const { view } = await resultOf(value)
    expect(view).toMatchObject({ status: 'failed', failure: { code: 'TETHER_RESULT_INVALID' } })
  })

  test('may have 1 MiB of JSON in bytes, and no more', async () => {
    const fits = await resultOf('x'.repeat(1024 * 1024 - 2))
    expect(fits.view.status).toBe('succeeded')
    for (const large of ['x'.repeat(1024 * 1024 - 1), '語'.repeat(400_000)]) {
      const { view } = await resultOf(large)
      expect(view).toMatchObject({ status: 'failed', failure: { code: 'TETHER_RESULT_TOO_LARGE' } })
    }
  })

  test('is what it was when the function returned, whatever becomes of the object afterwards', async () => {
    const value = { count: 1 }
    const child = taskOf('child', async () => {
      setImmediate(() => (value.count = 2))
      return value
    })
    const parent = taskOf('parent', async (ctx) => {
      const result = await ctx.run('child', null)
      if (typeof result === 'object' && result !== null) Reflect.set(result, 'count', 3)
      return null
    })
    const tether = await openWorld({ tasks: [child, parent] })
    const { ref } = await tether.jobs.start(startOf('parent', null))
    await tether.jobs.outcome(ref)
    const { jobs } = await tether.jobs.list({ tenant: 'default', parentId: ref.id, limit: 1 })
    const found = await fetch(`${tether.url}/jobs/${jobs[0]?.id}`)
    expect(Object(await found.json()).result).toEqual({ count: 1 })
  })
})

describe('what a function throws', () => {
  test.each([
    ['an error', new TypeError('bad'), 'TypeError: bad'],
    ['a text', 'bad', 'the task threw "bad"'],
    ['nothing', undefined, 'the task threw undefined'],
    ['an object that cannot be shown', Object.create(null), 'cannot be shown'],
  ])('%s is its failure', async (_name, thrown, message) => {
    const throws = taskOf('throws', async () => {
      throw thrown
    })
    const tether = await openWorld({ tasks: [throws] })
    const { ref } = await tether.jobs.start(startOf('throws', null))
    expect(await tether.jobs.outcome(ref)).toMatchObject({
      status: 'failed',
      failure: { code: 'TETHER_TASK_FAILED', message: expect.stringContaining(message), retryable: false },
    })
  })
})
