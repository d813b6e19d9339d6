import { describe, expect, test } from 'vitest'
import { parseJobId } from '../../src/job/id.ts'
import { eventsOf, openWorld, startOf, taskOf, temporaryFolder, typesOf } from '../world.ts'

let calls = 0
const counts = taskOf('counts', async () => {
  calls += 1
  return calls
})

describe.each([
  ['an idempotency key', { idempotencyKey: 'key-1' }, 'TETHER_IDEMPOTENCY_CONFLICT'],
  ['a job id', { jobId: parseJobId('job_the_same') }, 'TETHER_JOB_EXISTS'],
] as const)('two starts with %s', (_name, more, conflict) => {
  test('at once are one job, which runs once', async () => {
    calls = 0
    const tether = await openWorld({ tasks: [counts] })
    const started = await Promise.all(Array.from({ length: 5 }, () => tether.jobs.start(startOf('counts', 1, more))))
    expect(new Set(started.map(({ ref }) => ref.id)).size).toBe(1)
    expect(started.filter(({ created }) => created)).toHaveLength(1)
    for (const { ref, view } of started) {
      expect(view.lastSeq).toBeGreaterThanOrEqual(1)
      await tether.jobs.outcome(ref)
    }
    expect(calls).toBe(1)
  })

  test('and other bodies are a conflict, whether the first has ended or not', async () => {
    const tether = await openWorld({ tasks: [counts] })
    const both = await Promise.allSettled([1, 2].map((n) => tether.jobs.start(startOf('counts', n, more))))
    expect(both[0]).toMatchObject({ status: 'fulfilled' })
    expect(both[1]).toMatchObject({ status: 'rejected', reason: { code: conflict } })
    const first = await tether.jobs.start(startOf('counts', 1, more))
    await tether.jobs.outcome(first.ref)
    await expect(tether.jobs.start(startOf('counts', 2, more))).rejects.toMatchObject({ code: conflict })
  })

  test('one after the other has ended, and one after a restart, are answered with the job', async () => {
    calls = 0
    const dataDir = await temporaryFolder()
    const before = await openWorld({ tasks: [counts], dataDir })
    const { ref } = await before.jobs.start(startOf('counts', 1, more))
    await before.jobs.outcome(ref)
    const again = await before.jobs.start(startOf('counts', 1, more))
    expect(again).toMatchObject({ created: false, ref, view: { status: 'succeeded', result: 1 } })
    await before.stop()
    const after = await openWorld({ tasks: [counts], dataDir })
    const later = await after.jobs.start(startOf('counts', 1, more))
    expect(later).toMatchObject({ created: false, ref, view: { status: 'succeeded', result: 1 } })
    expect(calls).toBe(1)
    expect(typesOf(await eventsOf(after, ref))).toEqual(['job.queued', 'job.started', 'job.succeeded'])
  })
})

test('the key is looked up before the id', async () => {
  const tether = await openWorld({ tasks: [counts] })
  const first = await tether.jobs.start(startOf('counts', 1, { idempotencyKey: 'key-1' }))
  const second = await tether.jobs.start(
    startOf('counts', 1, { idempotencyKey: 'key-1', jobId: parseJobId('job_another') }),
  )
  expect(second.ref).toEqual(first.ref)
})

test('a holder of a repeated start holds the job as well', async () => {
  const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))
  const tether = await openWorld({ tasks: [waits] })
  const more = { idempotencyKey: 'key-1', policy: { onDisconnect: 'cancel' as const } }
  const [first, second] = [tether.jobs.openHolder(), tether.jobs.openHolder()]
  const { ref } = await tether.jobs.start(startOf('waits', null, { ...more, holder: first }))
  await tether.jobs.start(startOf('waits', null, { ...more, holder: second }))
  first.leave('client_disconnected')
  expect((await tether.jobs.job(ref)).terminal).toBe(false)
  second.leave('client_disconnected')
  expect((await tether.jobs.outcome(ref)).status).toBe('cancelled')
})

describe('an id that was deleted', () => {
  test('is spent: a start with it is refused, also after a restart', async () => {
    const dataDir = await temporaryFolder()
    const jobId = parseJobId('job_to_delete')
    const before = await openWorld({ tasks: [counts], dataDir })
    const { ref } = await before.jobs.start(startOf('counts', 1, { jobId, idempotencyKey: 'key-1' }))
    await before.jobs.outcome(ref)
    await before.jobs.forget(ref)
    await expect(before.jobs.job(ref)).rejects.toMatchObject({ code: 'TETHER_JOB_NOT_FOUND' })
    await expect(before.jobs.start(startOf('counts', 1, { jobId }))).rejects.toMatchObject({
      code: 'TETHER_JOB_DELETED',
    })
    await before.stop()
    const after = await openWorld({ tasks: [counts], dataDir })
    await expect(after.jobs.start(startOf('counts', 1, { jobId }))).rejects.toMatchObject({
      code: 'TETHER_JOB_DELETED',
    })
    // The key went with the record.
    const anew = await after.jobs.start(startOf('counts', 2, { idempotencyKey: 'key-1' }))
    expect(anew.created).toBe(true)
  })

  test('cannot be that of a job that is still going', async () => {
    const tether = await openWorld({ tasks: [taskOf('waits', async (ctx) => ctx.sleep(60_000))] })
    const { ref } = await tether.jobs.start(startOf('waits', null))
    await expect(tether.jobs.forget(ref)).rejects.toMatchObject({ code: 'TETHER_JOB_ACTIVE' })
  })
})
