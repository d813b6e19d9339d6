import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { CancelKind } from '../../src/job/cancellation.ts'
import { parseJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT } from '../../src/job/key.ts'
import { isMoveTo, openHeldWorld } from '../eventlog/heldWorld.ts'
import { end, eventsOf, eventually, Gate, openWorld, startOf, taskOf, typesOf } from '../world.ts'

const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))

let minted = 0
function freshRef() {
  minted += 1
  return { tenant: DEFAULT_TENANT, id: parseJobId(`job_tombstone_${minted}`) }
}

describe('a request for a job that is not known yet', () => {
  test.each([
    [['stop'], 'stopped'],
    [['cancel'], 'cancelled'],
    [['stop', 'cancel'], 'cancelled'],
    [['cancel', 'stop'], 'cancelled'],
  ] as const)('%j ends the job %s when it comes', async (kinds, status) => {
    const tether = await openWorld({ tasks: [waits] })
    const ref = freshRef()
    for (const kind of kinds) await end(tether, ref, kind, { ifUnknown: 'remember' })
    const { view } = await tether.jobs.start(startOf('waits', null, { jobId: ref.id }))
    expect(view.status).toBe(status)
    expect(typesOf(await eventsOf(tether, ref))).toEqual(['job.queued', `job.${status}`])
  })

  test('is consumed by the first start: the same start again is answered with the job that ended', async () => {
    const tether = await openWorld({ tasks: [waits] })
    const ref = freshRef()
    await end(tether, ref, 'cancel', { ifUnknown: 'remember' })
    await tether.jobs.start(startOf('waits', null, { jobId: ref.id }))
    const again = await tether.jobs.start(startOf('waits', null, { jobId: ref.id }))
    expect(again).toMatchObject({ created: false, view: { status: 'cancelled' } })
    expect(tether.pending.tombstoneCount).toBe(0)
  })

  test('is forgotten after TOMBSTONE_MS', async () => {
    const tether = await openWorld({ settings: { TOMBSTONE_MS: '30' }, tasks: [taskOf('quick', async () => 1)] })
    const ref = freshRef()
    await end(tether, ref, 'cancel', { ifUnknown: 'remember' })
    await eventually('it is forgotten', () => tether.pending.size === 0)
    await tether.jobs.start(startOf('quick', null, { jobId: ref.id }))
    expect((await tether.jobs.outcome(ref)).status).toBe('succeeded')
  })

  test('past MAX_TOMBSTONES is refused, and the older ones stand', async () => {
    const tether = await openWorld({ settings: { MAX_TOMBSTONES: '2' }, tasks: [waits] })
    const refs = [freshRef(), freshRef(), freshRef()] as const
    await end(tether, refs[0], 'cancel', { ifUnknown: 'remember' })
    await end(tether, refs[1], 'cancel', { ifUnknown: 'remember' })
    await expect(end(tether, refs[2], 'cancel', { ifUnknown: 'remember' })).rejects.toMatchObject({
      code: 'TETHER_TOMBSTONES_FULL',
    })
    const { view } = await tether.jobs.start(startOf('waits', null, { jobId: refs[0].id }))
    expect(view.status).toBe('cancelled')
    await expect(end(tether, refs[2], 'cancel', { ifUnknown: 'remember' })).resolves.toMatchObject({
      kind: 'remembered',
    })
  })

  test('is not consumed by a start that is refused', async () => {
    const tether = await openWorld({ tasks: [waits] })
    const ref = freshRef()
    await end(tether, ref, 'cancel', { ifUnknown: 'remember' })
    await expect(tether.jobs.start(startOf('nobody', null, { jobId: ref.id }))).rejects.toThrow()
    const { view } = await tether.jobs.start(startOf('waits', null, { jobId: ref.id }))
    expect(view.status).toBe('cancelled')
  })

  test('of a group to cancel beats one of the job to stop', async () => {
    const tether = await openWorld({ tasks: [waits] })
    const ref = freshRef()
    const group = 'group_tombs' as Parameters<typeof tether.jobs.endGroup>[1]
    const caller = { tenant: DEFAULT_TENANT, subject: 'test' }
    await end(tether, ref, 'stop', { ifUnknown: 'remember' })
    await tether.jobs.endGroup(DEFAULT_TENANT, group, { kind: 'cancel', reason: '', caller, ifUnknown: 'remember' })
    const { view } = await tether.jobs.start(startOf('waits', null, { jobId: ref.id, group }))
    expect(view.status).toBe('cancelled')
  })
})

test('a cancel while the claim is being written is found however long that takes', async () => {
  let calls = 0
  const counts = taskOf('counts', async () => {
    calls += 1
  })
  const { tether, store } = await openHeldWorld({ settings: { TOMBSTONE_MS: '5' }, tasks: [counts, waits] })
  const claim = new Gate()
  store.holdCommits((changes) => (isMoveTo('running')(changes) ? claim.opened : Promise.resolve()))
  const { ref } = await tether.jobs.start(startOf('counts', null))
  await eventually('the claim is being written', () => store.asked.some(isMoveTo('running')))
  const answered = end(tether, ref, 'cancel', { waitMs: 5000 })
  const askedMs = performance.now()
  await eventually(
    'the 50 ms that an abort waits and the life of a tombstone are over',
    () => performance.now() - askedMs > 80,
  )
  claim.open()
  expect(await answered).toMatchObject({ view: { status: 'cancelled' } })
  expect(calls).toBe(0)
  expect(tether.pending.size).toBe(0)
})

test('a start and requests to end it commute: in any order the job ends, and once', async () => {
  const tether = await openWorld({ tasks: [waits] })
  const kindsOf = fc.array(fc.constantFrom<CancelKind>('cancel', 'stop'), { minLength: 1, maxLength: 3 })
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), kindsOf, async (scheduler, kinds) => {
      const ref = freshRef()
      const start = scheduler.scheduleFunction(() => tether.jobs.start(startOf('waits', null, { jobId: ref.id })))
      const ask = scheduler.scheduleFunction((kind: CancelKind) => end(tether, ref, kind, { ifUnknown: 'remember' }))
      const all = Promise.all([start(), ...kinds.map((kind) => ask(kind))])
      await scheduler.waitAll()
      await all
      const view = await tether.jobs.outcome(ref)
      const allowed = kinds.includes('cancel') ? ['cancelled', 'stopped'] : ['stopped']
      expect(allowed).toContain(view.status)
      const ends = typesOf(await eventsOf(tether, ref)).filter(
        (type) => type === 'job.cancelled' || type === 'job.stopped',
      )
      expect(ends).toHaveLength(1)
      expect(tether.pending.size).toBe(0)
    }),
    { numRuns: 40 },
  )
})
