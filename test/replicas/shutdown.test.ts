import { expect, test } from 'vitest'
import type { RedisServer } from '../cluster/RedisServer.ts'
import { startServer } from '../cluster/world.ts'
import { eventually, typesOf } from '../world.ts'
import { isAlive, ownerOf, pairOf, pidOf, Replica, sleeper, startReplicas } from './world.ts'

test('a replica that is told to end leaves its queue to the others, ends what it runs, and is gone', async () => {
  const redis = await startServer()
  const replicas = await startReplicas(redis.url, 2, { CONCURRENCY: '1' })
  const [a] = pairOf(replicas)
  const running = await Promise.all([a.start(sleeper()), a.start(sleeper())])
  const { owner: ending, other: staying } = await ownerOf(replicas, running[0] ?? '')
  const own = await ending.read(running[0] ?? '')
  const elsewhere = await staying.read(running[0] ?? '')
  const remote = await ending.read(running[1] ?? '')
  const pids = await Promise.all([own, remote].map(pidOf))
  await pidOf(elsewhere)
  const waiting = await ending.start({ task: 'ticks', input: { count: 2, intervalMs: 1 } })
  const waits = await ending.read(waiting)
  await eventually('it waits', () => waits.lastId > 0)

  expect(await ending.terminate()).toEqual({ code: 0, signal: null })
  expect(ending.process.err()).toBe('')
  const terminal = {
    type: 'job.interrupted',
    failure: { code: 'TETHER_SERVER_SHUTDOWN' },
    cancellation: { cause: 'server_shutdown' },
    receipt: { confirmed: true },
  }
  expect(await own.untilEnded()).toMatchObject(terminal)
  expect(await elsewhere.untilEnded()).toMatchObject(terminal)
  expect(elsewhere.terminal).toHaveLength(1)
  expect(isAlive(pids[0] ?? 0)).toBe(false)
  // Readers of jobs that go on elsewhere come back there.
  for (const reading of [remote, waits]) {
    await reading.over
    expect(reading.terminal).toEqual([])
  }
  expect(isAlive(pids[1] ?? 0)).toBe(true)
  expect((await staying.job(running[1] ?? '')).status).toBe('running')
  const back = await staying.read(running[1] ?? '', { lastId: remote.lastId })
  await staying.ask(`/jobs/${running[1]}/cancel`, { method: 'POST' })
  await back.untilEnded()
  expect(back.events[0]?.seq).toBe(remote.lastId + 1)
  const gone = await staying.read(waiting)
  expect(await gone.untilEnded()).toMatchObject({ type: 'job.succeeded' })
  expect(typesOf(gone.events).filter((type) => type === 'job.started')).toHaveLength(1)
  expect(await staying.terminate()).toEqual({ code: 0, signal: null })
  await eventually('no connection is left', async () => (await countClients(redis)) === 0)
})

test('a replica that is told to end lets its jobs finish for DRAIN_MS, and takes no other meanwhile', async () => {
  const redis = await startServer()
  const settings = { CONCURRENCY: '1', DRAIN_MS: '20000' }
  const replicas = await startReplicas(redis.url, 2, settings)
  const [a] = pairOf(replicas)
  const ids = await Promise.all(
    [1, 2].map(() => a.start({ task: 'command', input: { command: 'echo pid $$; sleep 2; echo done' } })),
  )
  const { owner: ending, other: staying } = await ownerOf(replicas, ids[0] ?? '')
  const reading = await staying.read(ids[0] ?? '')
  await pidOf(reading)
  const waiting = await staying.start({ task: 'ticks', input: { count: 1, intervalMs: 0 } })
  const ended = ending.terminate()
  const refused = await eventually('it takes no starts', async () => {
    const answer = await ending.ask('/jobs', { body: sleeper() })
    return answer.status === 503 && answer
  })
  expect(refused.json).toMatchObject({ code: 'TETHER_DRAINING' })
  expect(await reading.untilEnded()).toMatchObject({ type: 'job.succeeded' })
  expect(await ended).toEqual({ code: 0, signal: null })
  expect((await staying.untilStatus(waiting, 'succeeded')).replica).toMatch(/^[ab]-/)
  expect((await staying.job(waiting)).replica?.startsWith(`${staying.name}-`)).toBe(true)
})

test('a job whose holder is at a replica that is told to end is held on by its client at another', async () => {
  const redis = await startServer()
  const staying = await Replica.start(redis.url, 'a')
  const id = await staying.start(sleeper({ onDisconnect: 'cancel', disconnectGraceMs: 3000 }))
  await staying.untilStatus(id, 'running')
  const ending = await Replica.start(redis.url, 'b')
  const holder = await ending.read(id, { hold: true })
  const pid = await pidOf(holder)
  await ending.terminate()
  await holder.over
  expect(holder.terminal).toEqual([])
  const back = await staying.read(id, { hold: true, lastId: holder.lastId })
  expect(isAlive(pid)).toBe(true)
  expect((await staying.job(id)).status).toBe('running')
  const reader = await staying.read(id)
  back.leave()
  // Where it left before the end of the other replica was noticed, its holders have their time there.
  expect(await reader.untilEnded(25_000)).toMatchObject({ cancellation: { cause: 'client_disconnected' } })
}, 45_000)

test('a client that does not come back after the end of the replica of its holder has left', async () => {
  const redis = await startServer()
  const staying = await Replica.start(redis.url, 'a')
  const id = await staying.start(sleeper({ onDisconnect: 'cancel' }))
  await staying.untilStatus(id, 'running')
  const ending = await Replica.start(redis.url, 'b')
  const holder = await ending.read(id, { hold: true })
  await pidOf(holder)
  await ending.terminate()
  const reader = await staying.read(id)
  expect(await reader.untilEnded(25_000)).toMatchObject({
    type: 'job.cancelled',
    cancellation: { cause: 'client_disconnected' },
  })
}, 45_000)

test('a replica ends by itself where Redis is away', async () => {
  const redis = await startServer()
  const a = await Replica.start(redis.url, 'a')
  const id = await a.start(sleeper())
  const pid = await pidOf(await a.read(id))
  await redis.kill()
  expect(await a.terminate()).toEqual({ code: 0, signal: null })
  expect(isAlive(pid)).toBe(false)
})

/** How many connections there are besides the one that asks. */
async function countClients(redis: RedisServer): Promise<number> {
  return (
    String(await redis.run('CLIENT', 'LIST'))
      .trim()
      .split('\n').length - 1
  )
}
