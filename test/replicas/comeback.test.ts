import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { RedisProxy } from '../cluster/RedisProxy.ts'
import { startServer } from '../cluster/world.ts'
import { eventually, temporaryFolder } from '../world.ts'
import { isAlive, pidOf, Replica, sleeper } from './world.ts'

/** A replica behind a proxy, and another one beside it. */
async function pairBehindProxy() {
  const redis = await startServer()
  const proxy = await RedisProxy.start(redis.port)
  const a = await Replica.start(proxy.url, 'a')
  return {
    redis,
    a,
    startB: (settings?: Readonly<Record<string, string>>) => Replica.start(redis.url, 'b', settings),
    cutOff: () => {
      proxy.down()
      proxy.cut()
    },
    reconnect: () => proxy.up(),
  }
}

describe('a replica that was cut off for longer than its lease and is back', () => {
  test('lets go of a job that it had cancelled and that the others ended', async () => {
    const { a, startB, cutOff, reconnect } = await pairBehindProxy()
    const id = await a.start(sleeper())
    const reader = await a.read(id)
    const pid = await pidOf(reader)
    const b = await startB()
    cutOff()
    expect((await a.ask(`/jobs/${id}/cancel`, { method: 'POST' })).status).toBe(202)
    await eventually('the process is gone', () => !isAlive(pid))
    const ended = await b.untilStatus(id, 'interrupted', 20_000)
    await reconnect()
    await reader.over
    await eventually('it says the same', async () => (await a.job(id).catch(() => undefined))?.status === ended.status)
    expect((await a.ask(`/jobs/${id}`, { method: 'DELETE' })).status).toBe(204)
  })

  test('does not run what it had claimed and not begun, which another does', async () => {
    const { a, startB, cutOff, reconnect } = await pairBehindProxy()
    const folder = await temporaryFolder()
    const limits = { concurrencyKey: 'one', concurrencyLimit: 1 }
    const first = await a.start(sleeper(limits))
    const pid = await pidOf(await a.read(first))
    const command = `echo "$TETHER_REPLICA" >> ${join(folder, 'begun')}; sleep 1; touch ${join(folder, 'over')}`
    const second = await a.start({ task: 'command', input: { command }, ...limits })
    await eventually('it is claimed', async () => (await a.job(second)).status === 'queued')
    cutOff()
    await eventually('the first is gone', () => !isAlive(pid))
    await reconnect()
    const b = await startB()
    expect(await b.untilStatus(second, 'succeeded', 30_000)).toMatchObject({ attempt: 1 })
    expect(existsSync(join(folder, 'over'))).toBe(true)
  })

  test('is known again to have the holders that it has', async () => {
    const { a, startB, cutOff, reconnect } = await pairBehindProxy()
    const b = await startB({ CONCURRENCY: '8' })
    const reading = await eventually('a job held through one runs at the other', async () => {
      const held = await a.hold(sleeper())
      await pidOf(held)
      return (await b.job(held.jobId)).replica?.startsWith('b-') === true && held
    })
    cutOff()
    await eventually('the others take it for gone', () => /another server is gone/.test(b.process.out()), 20_000)
    await reconnect()
    // As long as holders of a server that is gone have to come back, and more.
    await new Promise((resolve) => setTimeout(resolve, 14_000))
    expect((await b.job(reading.jobId)).status).toBe('running')
    reading.leave()
    await b.untilStatus(reading.jobId, 'cancelled', 20_000)
  }, 90_000)
})

test('a holder that came when others had left counts after another replica died', async () => {
  const redis = await startServer()
  const b = await Replica.start(redis.url, 'b')
  const first = await b.hold(sleeper())
  await pidOf(first)
  const id = first.jobId
  const a = await Replica.start(redis.url, 'a')
  const second = await a.read(id, { hold: true })
  await eventually('it holds', () => second.lastId > 0)
  first.leave()
  await new Promise((resolve) => setTimeout(resolve, 500))
  const third = await b.read(id, { hold: true })
  await eventually('it holds too', () => third.lastId > 0)
  await a.kill()
  await eventually('the death is noticed', () => /another server is gone/.test(b.process.out()), 20_000)
  await new Promise((resolve) => setTimeout(resolve, 12_000))
  expect((await b.job(id)).status).toBe('running')
  third.leave()
  await b.untilStatus(id, 'cancelled')
}, 60_000)
