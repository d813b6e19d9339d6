import { describe, expect, test } from 'vitest'
import { RedisProxy } from '../cluster/RedisProxy.ts'
import { startServer } from '../cluster/world.ts'
import { eventually } from '../world.ts'
import { isAlive, ownerOf, pairOf, pidOf, Replica, sleeper, startReplicas } from './world.ts'

const LONG_TICKS = { task: 'ticks', input: { count: 400, intervalMs: 10 } }
const FEW_TICKS = { task: 'ticks', input: { count: 2, intervalMs: 1 } }

describe('Redis is killed', () => {
  test('and started again with its data within the lease: jobs go on, and everything is written once', async () => {
    const redis = await startServer({ isDurable: true })
    const replicas = await startReplicas(redis.url, 2, { LEASE_MS: '60000' })
    const [a] = pairOf(replicas)
    const ids = await Promise.all([LONG_TICKS, LONG_TICKS].map((body) => a.start(body)))
    const readings = await Promise.all(ids.flatMap((id) => replicas.map((replica) => replica.read(id))))
    for (const reading of readings) await reading.untilSaid('tick 20\n')
    await redis.restart()
    for (const id of ids) {
      for (const replica of replicas) await replica.untilStatus(id, 'succeeded', 20_000)
      const whole = await a.read(id)
      await whole.untilEnded()
      expect(whole.events.map(({ seq }) => seq)).toEqual(whole.events.map((_, place) => place + 1))
      expect(whole.output.match(/tick \d+/g)).toEqual(Array.from({ length: 400 }, (_, tick) => `tick ${tick + 1}`))
      expect(whole.terminal).toHaveLength(1)
    }
    for (const reading of readings) {
      await reading.over
      expect(reading.events.map(({ seq }) => seq)).toEqual(reading.events.map((_, place) => place + 1))
    }
  })

  test('meanwhile what is asked is refused with 503, and a cancel and a disconnect at the owner abort at once', async () => {
    const redis = await startServer({ isDurable: true })
    const a = await Replica.start(redis.url, 'a', { LEASE_MS: '60000' })
    const cancelled = await a.start(sleeper())
    const reader = await a.read(cancelled)
    const cancelledPid = await pidOf(reader)
    const held = await a.hold(sleeper())
    const heldPid = await pidOf(held)
    const b = await Replica.start(redis.url, 'b', { LEASE_MS: '60000' })
    await redis.kill()
    const failing = ['store', 'redis', 'queue'].map((name) => expect.objectContaining({ name, ok: false }))
    // What was found out up to a second before is said until then.
    await expect
      .poll(() => a.ask('/health/ready'), { timeout: 10_000 })
      .toMatchObject({ status: 503, json: { checks: expect.arrayContaining(failing) } })
    for (const answer of await Promise.all([
      a.ask('/jobs', { body: FEW_TICKS }),
      b.ask('/jobs', { body: FEW_TICKS }),
      b.ask(`/jobs/${cancelled}`),
      b.ask(`/jobs/${cancelled}/cancel`, { method: 'POST' }),
      b.ask('/groups/group-of-nobody/cancel', { method: 'POST' }),
      b.ask(`/jobs/${cancelled}`, { method: 'PATCH', body: { onDisconnect: 'continue' } }),
      b.ask(`/jobs/${cancelled}/events`),
      b.ask('/jobs'),
    ])) {
      expect(answer.json).toMatchObject({ statusCode: 503, code: 'TETHER_STORE_UNAVAILABLE' })
      expect(answer.headers.get('retry-after')).toMatch(/^\d+$/)
    }
    for (const replica of [a, b]) {
      await expect.poll(async () => (await replica.ask('/health/ready')).status, { timeout: 10_000 }).toBe(503)
    }
    for (const replica of [a, b]) expect((await replica.ask('/health/live')).status).toBe(200)
    const answer = await a.ask(`/jobs/${cancelled}/cancel`, { method: 'POST' })
    expect(answer.status).toBe(202)
    expect(answer.json['receipt']).toMatchObject({ recorded: false })
    held.leave()
    await eventually('both are gone', () => !isAlive(cancelledPid) && !isAlive(heldPid))
    await redis.restart()
    for (const replica of [a, b]) {
      expect(await replica.untilStatus(cancelled, 'cancelled')).toMatchObject({ receipt: { confirmed: true } })
      const { cancellation } = await replica.untilStatus(held.jobId, 'cancelled')
      expect(cancellation).toMatchObject({ cause: 'client_disconnected' })
      await eventually('it is ready', async () => (await replica.ask('/health/ready')).status === 200)
      const next = await replica.ask('/execute', { body: FEW_TICKS })
      expect(JSON.parse(next.text)).toMatchObject({ status: 'succeeded' })
    }
  })

  test('for longer than the lease: jobs are ended, and nothing of them runs on or is left open', async () => {
    const redis = await startServer({ isDurable: true })
    const replicas = await startReplicas(redis.url, 2)
    const [a] = pairOf(replicas)
    const ids = await Promise.all([1, 2, 3, 4].map(() => a.start(sleeper())))
    const pids = await Promise.all(ids.map(async (id) => pidOf(await a.read(id))))
    await redis.kill()
    await eventually('all are gone', () => !pids.some(isAlive))
    await redis.restart()
    for (const id of ids) {
      for (const replica of replicas) {
        const { failure } = await replica.untilStatus(id, 'interrupted')
        expect(['TETHER_LEASE_LOST', 'TETHER_REPLICA_LOST']).toContain(failure?.code)
      }
      const whole = await a.read(id)
      await whole.untilEnded()
      expect(whole.terminal).toHaveLength(1)
    }
    for (const replica of replicas) {
      const next = await eventually('it takes jobs', async () => {
        const answer = await replica.ask('/execute', { body: FEW_TICKS })
        return answer.status === 200 && answer
      })
      expect(JSON.parse(next.text)).toMatchObject({ status: 'succeeded' })
    }
  })

  test('and started again without its data: what runs is ended, and new jobs run', async () => {
    const redis = await startServer()
    // All slots are taken by what follows.
    const replicas = await startReplicas(redis.url, 2, { CONCURRENCY: '3' })
    const [a] = pairOf(replicas)
    const ids = await Promise.all([1, 2, 3, 4].map(() => a.start(sleeper())))
    const readings = await Promise.all(ids.map((id) => a.read(id)))
    const pids = await Promise.all(readings.map(pidOf))
    const talkers = await Promise.all(
      [1, 2].map(() => a.hold({ ...LONG_TICKS, input: { count: 10_000, intervalMs: 10 } })),
    )
    for (const talker of talkers) await talker.untilSaid('tick 5\n')
    const waiting = await a.start(sleeper())
    const waits = await Promise.all(replicas.map((replica) => replica.read(waiting)))
    for (const reading of waits) await eventually('it waits', () => reading.lastId > 0)
    await redis.restart()
    await eventually('all are gone', () => !pids.some(isAlive), 20_000)
    // Whoever reads is not left waiting for a job that nobody has.
    for (const reading of [...readings, ...talkers, ...waits]) await reading.over
    for (const replica of replicas) {
      const next = await eventually('it takes jobs', async () => {
        const answer = await replica.ask('/execute', { body: FEW_TICKS })
        return answer.status === 200 && answer
      })
      expect(JSON.parse(next.text)).toMatchObject({ status: 'succeeded' })
      await eventually('nothing runs or waits any more', async () => {
        const { json } = await replica.ask('/health/ready')
        return json['running'] === 0 && json['queued'] === 0
      })
      expect((await replica.ask('/health/ready')).json).toMatchObject({ ready: true })
    }
  })
})

describe('one replica is cut off from Redis', () => {
  test('for longer than its lease: its jobs end on both sides with one end, and it comes back', async () => {
    const redis = await startServer()
    const proxy = await RedisProxy.start(redis.port)
    const a = await Replica.start(proxy.url, 'a')
    // One stream from before the job was claimed, and one from after that.
    const held = await a.hold(sleeper())
    const id = held.jobId
    const pid = await pidOf(held)
    const own = await a.read(id)
    const b = await Replica.start(redis.url, 'b')
    const reader = await b.read(id)
    await pidOf(reader)
    proxy.down()
    proxy.cut()
    await eventually('its process is gone', () => !isAlive(pid))
    expect(await reader.untilEnded()).toMatchObject({ failure: { code: 'TETHER_REPLICA_LOST' } })
    // While it is cut off: whoever follows the job there is to come to the other.
    await Promise.all([held.over, own.over])
    await proxy.up()
    expect(await a.untilStatus(id, 'interrupted')).toMatchObject({ lastSeq: reader.lastId })
    const whole = await a.read(id)
    await whole.untilEnded()
    expect(whole.events).toEqual(reader.events)
    expect(whole.terminal).toHaveLength(1)
    await eventually('it is ready', async () => (await a.ask('/health/ready')).status === 200)
    await b.kill()
    const next = await a.hold(FEW_TICKS)
    expect(await next.untilEnded()).toMatchObject({ type: 'job.succeeded' })
  })

  test('without a word, its answers lost: the same', async () => {
    const redis = await startServer()
    const proxy = await RedisProxy.start(redis.port)
    const a = await Replica.start(proxy.url, 'a')
    const id = await a.start(sleeper())
    const pid = await pidOf(await a.read(id))
    const b = await Replica.start(redis.url, 'b')
    const reader = await b.read(id)
    await pidOf(reader)
    proxy.holdsRequests = true
    proxy.losesAnswers = true
    await eventually('its process is gone', () => !isAlive(pid))
    expect(await reader.untilEnded()).toMatchObject({ type: 'job.interrupted' })
    proxy.losesAnswers = false
    proxy.holdsRequests = false
    proxy.deliver()
    expect(await a.untilStatus(id, 'interrupted')).toMatchObject({ lastSeq: reader.lastId })
    expect(reader.terminal).toHaveLength(1)
    const next = await eventually('it takes jobs', async () => {
      const answer = await a.ask('/execute', { body: FEW_TICKS })
      return answer.status === 200 && answer
    })
    expect(JSON.parse(next.text)).toMatchObject({ status: 'succeeded' })
  })

  test('for a moment: a cancel from elsewhere reaches its job, and readers of its job miss nothing', async () => {
    const redis = await startServer()
    const proxy = await RedisProxy.start(redis.port)
    const a = await Replica.start(proxy.url, 'a', { LEASE_MS: '20000' })
    const ids = [await a.start(sleeper()), await a.start(LONG_TICKS)] as const
    const pid = await pidOf(await a.read(ids[0]))
    const talking = await a.read(ids[1])
    await talking.untilSaid('tick 5\n')
    const b = await Replica.start(redis.url, 'b', { LEASE_MS: '20000' })
    const elsewhere = await b.read(ids[1])
    proxy.down()
    proxy.cut()
    expect((await b.ask(`/jobs/${ids[0]}/cancel`, { method: 'POST' })).status).toBe(202)
    expect(isAlive(pid)).toBe(true)
    await proxy.up()
    await b.untilStatus(ids[0], 'cancelled')
    expect(isAlive(pid)).toBe(false)
    await elsewhere.untilEnded(20_000)
    expect(elsewhere.output.match(/tick \d+/g)).toEqual(Array.from({ length: 400 }, (_, tick) => `tick ${tick + 1}`))
  })

  test('and hints are lost: a cancel from elsewhere reaches its job all the same', async () => {
    const redis = await startServer()
    const proxy = await RedisProxy.start(redis.port)
    proxy.dropsMessage = () => true
    const a = await Replica.start(proxy.url, 'a')
    const id = await a.start(sleeper())
    await a.untilStatus(id, 'running')
    const b = await Replica.start(redis.url, 'b')
    const { owner } = await ownerOf([a, b], id)
    const reader = await owner.read(id)
    const pid = await pidOf(reader)
    expect((await b.ask(`/jobs/${id}/cancel?wait=20`, { method: 'POST' })).json).toMatchObject({ status: 'cancelled' })
    expect(isAlive(pid)).toBe(false)
    expect(await reader.untilEnded()).toMatchObject({ type: 'job.cancelled' })
  })
})
