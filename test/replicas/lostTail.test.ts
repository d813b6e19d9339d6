import { expect, test } from 'vitest'
import { startServer } from '../cluster/world.ts'
import { eventually } from '../world.ts'
import { isAlive, pidOf, startReplicas, talker } from './world.ts'

test('a job of whose log Redis has lost the end is ended after what is left of it', async () => {
  const redis = await startServer()
  const [a] = await startReplicas(redis.url, 1)
  if (a === undefined) throw new Error('there must be a replica')
  const id = await a.start(talker())
  const reader = await a.read(id)
  const pid = await pidOf(reader)
  await eventually('it has said something', () => reader.lastId > 5)
  const job = `tether:job:default:${id}`
  await redis.run('HSET', job, 'lastSeq', '4')
  await redis.run('DEL', `tether:log:default:${id}`)
  const { failure, lastSeq } = await a.untilStatus(id, 'interrupted', 20_000)
  expect(failure).toMatchObject({ code: 'TETHER_STORE_FAILED' })
  expect(lastSeq).toBe(5)
  await eventually('its process is gone', () => !isAlive(pid))
  await reader.over
  expect(reader.terminal).toEqual([])
  expect((await a.start({ task: 'ticks', input: { count: 1, intervalMs: 0 } })).length).toBeGreaterThan(0)
})
