import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { startServer } from '../cluster/world.ts'
import { eventually, temporaryFolder, typesOf } from '../world.ts'
import { isAlive, ownerOf, pairOf, pidOf, Replica, sleeper, startReplicas } from './world.ts'

const RETRIED_TASKS = join(import.meta.dirname, '..', 'jobs', 'fixtures', 'retried')

const LOST = { type: 'job.interrupted', failure: { code: 'TETHER_REPLICA_LOST', retryable: true } }

describe('a replica that is killed', () => {
  test('has a job run again elsewhere, whose task says so', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2, { TASKS_DIR: RETRIED_TASKS })
    const [a, b] = pairOf(replicas)
    const id = await a.start({ task: 'deadly', input: { deaths: 1 } })
    const { other } = await ownerOf(replicas, id)
    const reader = await other.read(id)
    expect(await reader.untilEnded(40_000)).toMatchObject({ type: 'job.succeeded', result: 2 })
    expect(typesOf(reader.events).filter((type) => type !== 'output')).toEqual([
      'job.queued',
      'job.started',
      'job.requeued',
      'job.started',
      'job.succeeded',
    ])
    expect([a, b].filter(({ process }) => process.child.signalCode === 'SIGKILL')).toHaveLength(1)
  })

  test('loses its jobs, readers elsewhere are told, and what waited behind them runs elsewhere', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2, { CONCURRENCY: '1' })
    const [a] = pairOf(replicas)
    const running = await Promise.all([a.start(sleeper()), a.start(sleeper())])
    const { owner: dying, other: living } = await ownerOf(replicas, running[0] ?? '')
    const lost = await living.read(running[0] ?? '')
    const kept = await living.read(running[1] ?? '')
    const pids = await Promise.all([lost, kept].map(pidOf))
    const waiting = await dying.start({ task: 'ticks', input: { count: 2, intervalMs: 1 } })
    const waits = await living.read(waiting)
    await eventually('it waits', () => waits.lastId > 0)
    await dying.kill()
    expect(await lost.untilEnded()).toMatchObject(LOST)
    expect(lost.terminal).toHaveLength(1)
    expect((await living.job(running[1] ?? '')).status).toBe('running')
    await eventually('what ran there is gone', () => !isAlive(pids[0] ?? 0))
    expect(isAlive(pids[1] ?? 0)).toBe(true)
    await living.ask(`/jobs/${running[1]}/cancel`, { method: 'POST' })
    expect(await kept.untilEnded()).toMatchObject({ type: 'job.cancelled' })
    await waits.untilEnded()
    expect(waits.output).toBe('tick 1\ntick 2\n')
    expect(typesOf(waits.events).filter((type) => type === 'job.started')).toHaveLength(1)
  })

  test('is missed with the lease that is the default', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2, { LEASE_MS: '8000' })
    const [a] = pairOf(replicas)
    const id = await a.start(sleeper())
    const { owner, other } = await ownerOf(replicas, id)
    const reader = await other.read(id)
    await pidOf(reader)
    await owner.kill()
    expect(await reader.untilEnded(20_000)).toMatchObject(LOST)
  })

  test('is missed by a reader that comes to another with its last id, and by one that waits for the outcome', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2)
    const [a] = pairOf(replicas)
    const id = await a.start(sleeper())
    const { owner, other } = await ownerOf(replicas, id)
    const cutOff = await owner.read(id)
    await pidOf(cutOff)
    const cancelled = other.ask(`/jobs/${id}`)
    await owner.kill()
    await cutOff.over
    await cancelled
    const back = await other.read(id, { lastId: cutOff.lastId })
    expect(await back.untilEnded()).toMatchObject(LOST)
    expect(back.events[0]?.seq).toBe(cutOff.lastId + 1)
  })

  test('before it heard of a cancel leaves one end of the job', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2)
    const [a] = pairOf(replicas)
    const id = await a.start(sleeper())
    const { owner, other } = await ownerOf(replicas, id)
    const reader = await other.read(id)
    const pid = await pidOf(reader)
    await owner.freeze()
    const answer = await other.ask(`/jobs/${id}/cancel`, { method: 'POST' })
    expect(answer.status).toBe(202)
    await owner.kill()
    const { type } = await reader.untilEnded()
    expect(['job.cancelled', 'job.interrupted']).toContain(type)
    expect(reader.terminal).toHaveLength(1)
    await eventually('it is gone', () => !isAlive(pid))
  })

  test('leaves nothing behind when every replica dies, and another comes', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2, { CONCURRENCY: '1' })
    const [a] = pairOf(replicas)
    const running = await Promise.all([a.start(sleeper()), a.start(sleeper())])
    await Promise.all(running.map((id) => ownerOf(replicas, id)))
    const waiting = await a.start({ task: 'ticks', input: { count: 1, intervalMs: 0 } })
    await Promise.all(replicas.map((replica) => replica.kill()))
    const next = await Replica.start(redis.url, 'c')
    for (const id of running) await next.untilStatus(id, 'interrupted')
    await next.untilStatus(waiting, 'succeeded')
  })
})

describe('a replica that stood still for longer than its lease', () => {
  test('ends its own job, writes nothing afterwards, and goes on with new ones', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2)
    const [a] = pairOf(replicas)
    const file = join(await temporaryFolder(), 'ticks')
    const command = `echo pid $$; while :; do echo tick; echo tick >> ${file}; sleep 0.02; done`
    const id = await a.start({ task: 'command', input: { command } })
    const { owner, other } = await ownerOf(replicas, id)
    const reader = await other.read(id)
    const pid = await pidOf(reader)
    const own = await owner.read(id)
    await pidOf(own)
    await owner.freeze()
    expect(await reader.untilEnded()).toMatchObject(LOST)
    owner.thaw()
    await eventually('its process is gone', () => !isAlive(pid))
    const ticks = await readFile(file, 'utf8')
    await own.over
    // What is recorded is what readers saw at the end, and nothing comes behind it.
    const job = await owner.untilStatus(id, 'interrupted')
    expect(job).toMatchObject({ lastSeq: reader.lastId, failure: { code: 'TETHER_REPLICA_LOST' } })
    const after = await owner.read(id)
    await after.untilEnded()
    expect(after.events).toEqual(reader.events)
    expect(await readFile(file, 'utf8')).toBe(ticks)
    // Both take jobs again.
    await other.kill()
    const next = await eventually('it takes a job', async () => {
      const answer = await owner.ask('/execute', { body: { task: 'ticks', input: { count: 1, intervalMs: 0 } } })
      return answer.status === 200 && answer
    })
    expect(JSON.parse(next.text)).toMatchObject({ status: 'succeeded' })
  })

  test('hears late of a cancel and ends that job alone', async () => {
    const redis = await startServer()
    const replicas = await startReplicas(redis.url, 2, { CONCURRENCY: '1' })
    const [a] = pairOf(replicas)
    const ids = await Promise.all([a.start(sleeper()), a.start(sleeper())])
    const id = ids[0] ?? ''
    const { owner, other } = await ownerOf(replicas, id)
    const reader = await other.read(id)
    const pid = await pidOf(reader)
    await owner.freeze()
    await other.ask(`/jobs/${id}/cancel`, { method: 'POST' })
    const { type } = await reader.untilEnded()
    expect(['job.cancelled', 'job.interrupted']).toContain(type)
    owner.thaw()
    await eventually('its process is gone', () => !isAlive(pid))
    const next = await owner.hold({ task: 'ticks', input: { count: 20, intervalMs: 5 } })
    expect(await next.untilEnded()).toMatchObject({ type: 'job.succeeded' })
    expect(reader.terminal).toHaveLength(1)
  })
})
