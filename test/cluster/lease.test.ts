import { expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { Lease } from '../../src/cluster/Lease.ts'
import type { Beat } from '../../src/cluster/SharedJobs.ts'
import { StoreError } from '../../src/store/JobStore.ts'
import { recordNamed } from '../store/records.ts'
import { createWaiting, openReplicas } from './replicas.ts'
import { startServer } from './world.ts'

const LEASE_MS = 400

test('each answer that this process is taken for gone is told, also after it took itself for gone', async () => {
  let answer: () => Beat = () => 'kept'
  let lost = 0
  const lease = await Lease.take(
    {
      shared: { beat: async () => answer() },
      clock: systemClock,
      leaseMs: LEASE_MS,
      onTrouble: () => undefined,
    },
    () => {
      lost += 1
    },
  )
  onTestFinished(() => lease.close())
  answer = () => {
    throw new StoreError('away')
  }
  await expect.poll(() => lost).toBe(1)
  // What was claimed between is the others' as well.
  answer = () => 'dead'
  await expect.poll(() => lost).toBeGreaterThan(2)
  answer = () => 'joined'
  const before = lost
  await expect.poll(() => lost).toBeGreaterThan(before)
  answer = () => 'kept'
})

test('a replica whose lease is over gets no job and no holder, though nobody has noticed', async () => {
  const redis = await startServer()
  const [one] = await openReplicas({ url: redis.url }, 'one')
  const job = recordNamed('a')
  await one.store.commit([createWaiting(job)])
  await one.shared.beat(0)
  expect(await one.shared.claim(job)).toEqual({ kind: 'lost' })
  expect(await one.shared.hold(job)).toBe('lost')
  await one.shared.beat(60_000)
  expect(await one.shared.claim(job)).toMatchObject({ kind: 'claimed' })
})
