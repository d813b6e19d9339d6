import { expect, test } from 'vitest'
import { startServer } from '../cluster/world.ts'
import { eventually } from '../world.ts'
import { isAlive, ownerOf, pairOf, pidOf, Replica, sleeper, startReplicas } from './world.ts'

const HELD = { onDisconnect: 'cancel' }

test('a job is held while a holder is on any replica, and ended when the last one leaves', async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 2)
  await Promise.all(
    [replicas, replicas.toReversed()].map(async (order) => {
      const [first, last] = pairOf(order)
      const id = await first.start(sleeper(HELD))
      const holders = await Promise.all([first.read(id, { hold: true }), last.read(id, { hold: true })])
      const [left, stays] = holders
      const pid = await pidOf(stays)
      await pidOf(left)
      await untilHeldBy(redis, id, 2)
      left.leave()
      await untilHeldBy(redis, id, 1)
      expect((await last.job(id)).status).toBe('running')
      expect(isAlive(pid)).toBe(true)
      const reader = await first.read(id)
      stays.leave()
      expect(await reader.untilEnded()).toMatchObject({ cancellation: { cause: 'client_disconnected' } })
      expect(isAlive(pid)).toBe(false)
    }),
  )
})

test('within the grace a holder on another replica takes over', async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 2)
  const [a, b] = pairOf(replicas)
  const stream = await a.hold(sleeper({ disconnectGraceMs: 600 }))
  const pid = await pidOf(stream)
  const leftMs = performance.now()
  stream.leave()
  const back = await b.read(stream.jobId, { hold: true })
  await pidOf(back)
  await eventually('the grace is over', () => performance.now() - leftMs > 1000)
  await untilHeldBy(redis, stream.jobId, 1)
  expect((await a.job(stream.jobId)).status).toBe('running')
  const reader = await a.read(stream.jobId)
  back.leave()
  expect(await reader.untilEnded()).toMatchObject({ cancellation: { cause: 'client_disconnected' } })
  expect(isAlive(pid)).toBe(false)
})

test('a holder whose replica died has ten seconds to come to another, then its job is cancelled', async () => {
  const redis = await startServer()
  const { dying, living, ids, pids } = await holdThroughADyingOne(redis.url)
  const [lost = '', kept = ''] = ids
  await dying.kill()
  const diedMs = performance.now()
  // A client that comes back, as an EventSource does.
  const back = await living.read(kept, { hold: true })
  const reader = await living.read(lost)
  expect(await reader.untilEnded(30_000)).toMatchObject({
    type: 'job.cancelled',
    cancellation: { cause: 'client_disconnected' },
  })
  // The promise itself: not before.
  expect(performance.now() - diedMs).toBeGreaterThan(10_000)
  expect(isAlive(pids[0] ?? 0)).toBe(false)
  expect(isAlive(pids[1] ?? 0)).toBe(true)
  expect((await living.job(kept)).status).toBe('running')
  const after = await living.read(kept)
  back.leave()
  expect(await after.untilEnded()).toMatchObject({ cancellation: { cause: 'client_disconnected' } })
  expect(isAlive(pids[1] ?? 0)).toBe(false)
}, 60_000)

test('the lease of a holder is renewed through any replica', async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 2)
  const [a, b] = pairOf(replicas)
  const stream = await a.hold(sleeper({ leaseMs: 1500 }))
  const pid = await pidOf(stream)
  const holder = stream.headers.get('x-tether-holder') ?? ''
  const startedMs = performance.now()
  await eventually('two leases have passed', async () => {
    expect((await b.ask(`/jobs/${stream.jobId}/lease`, { body: { holder } })).status).toBe(204)
    return performance.now() - startedMs > 3500
  })
  expect((await b.job(stream.jobId)).status).toBe('running')
  expect(isAlive(pid)).toBe(true)
  expect(await stream.untilEnded()).toMatchObject({ cancellation: { cause: 'lease_missed' } })
})

test('a grace that is given through another replica is kept', async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 2)
  await Promise.all(
    replicas.flatMap((held) =>
      replicas.map(async (patched) => {
        const stream = await held.hold(sleeper())
        const pid = await pidOf(stream)
        const body = { disconnectGraceMs: 3_600_000 }
        expect((await patched.ask(`/jobs/${stream.jobId}`, { method: 'PATCH', body })).status).toBe(200)
        const holder = stream.headers.get('x-tether-holder') ?? ''
        stream.leave()
        await eventually('the holder is gone', async () => {
          return (await held.ask(`/jobs/${stream.jobId}/lease`, { body: { holder } })).status === 400
        })
        // The grace is cut to nothing, and what was put off comes.
        expect(isAlive(pid)).toBe(true)
        expect((await held.job(stream.jobId)).status).toBe('running')
        await patched.ask(`/jobs/${stream.jobId}`, { method: 'PATCH', body: { disconnectGraceMs: 0 } })
        await held.untilStatus(stream.jobId, 'cancelled')
        expect(isAlive(pid)).toBe(false)
      }),
    ),
  )
})

/** Waits until so many replicas say that they hold a job. */
async function untilHeldBy(
  redis: { run(name: string, ...args: readonly string[]): Promise<unknown> },
  id: string,
  count: number,
): Promise<void> {
  await eventually(`${count} replicas hold it`, async () => {
    const keys = await redis.run('KEYS', `tether:holders:*:${id}`)
    const [key] = Array.isArray(keys) ? keys : []
    return (key === undefined ? 0 : await redis.run('HLEN', String(key))) === count
  })
}

/** Two jobs that run at one replica and whose only holders are at another. */
async function holdThroughADyingOne(redisUrl: string): Promise<{
  readonly dying: Replica
  readonly living: Replica
  readonly ids: readonly string[]
  readonly pids: readonly number[]
}> {
  const living = await Replica.start(redisUrl, 'a')
  const ids = await Promise.all([living.start(sleeper(HELD)), living.start(sleeper(HELD))])
  await Promise.all(ids.map((id) => living.untilStatus(id, 'running')))
  const dying = await Replica.start(redisUrl, 'b')
  const holders = await Promise.all(ids.map((id) => dying.read(id, { hold: true })))
  const pids = await Promise.all(holders.map(pidOf))
  return { dying, living, ids, pids }
}

test('changes of a policy that are made at once through several replicas all hold', async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 2)
  const [a, b] = pairOf(replicas)
  const id = await a.start(sleeper())
  await ownerOf(replicas, id)
  for (let n = 1; n <= 20; n += 1) {
    const onDisconnect = n % 2 === 0 ? 'cancel' : 'continue'
    const [one, other] = n % 4 < 2 ? [a, b] : [b, a]
    const answers = await Promise.all([
      one.ask(`/jobs/${id}`, { method: 'PATCH', body: { onDisconnect } }),
      other.ask(`/jobs/${id}`, { method: 'PATCH', body: { disconnectGraceMs: n * 1000 } }),
    ])
    expect(answers.map(({ status }) => status)).toEqual([200, 200])
    for (const replica of replicas) {
      await eventually('both hold', async () => {
        const { policy } = await replica.job(id)
        return policy.onDisconnect === onDisconnect && policy.disconnectGraceMs === n * 1000
      })
    }
  }
})
