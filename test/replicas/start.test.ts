import { expect, test } from 'vitest'
import { startServer } from '../cluster/world.ts'
import { type ServerProcess, spawnServer } from '../jobs/serverProcess.ts'
import { ask } from '../server/requests.ts'
import { eventually, temporaryFolder } from '../world.ts'

const START = { body: { task: 'ticks', input: { count: 1, intervalMs: 0 } } }

/** Where a server that waits for Redis answers meanwhile. */
async function untilItWaits(server: ServerProcess): Promise<string> {
  return eventually(
    'the server says that it waits',
    () => /"url":"(http:[^"]+)".*it is waited for/.exec(server.out())?.[1],
    30_000,
  )
}

test('a server that finds no Redis says so, is not ready, and serves at the same address once it is there', async () => {
  const redis = await startServer()
  await redis.kill()
  const server = spawnServer({ DATA_DIR: await temporaryFolder(), REDIS_URL: redis.url })
  const url = await untilItWaits(server)
  expect(server.out()).toContain(`the Redis at 127.0.0.1:${redis.port} cannot be reached`)
  const live = await ask(url, '/health/live')
  expect(live).toMatchObject({ status: 200, json: { live: true, checks: [{ name: 'process', ok: true }] } })
  const ready = await ask(url, '/health/ready')
  expect(ready).toMatchObject({ status: 503, json: { ready: false, checks: [{ name: 'store', ok: false }] } })
  for (const answer of [
    await ask(url, '/jobs', START),
    await ask(url, '/jobs'),
    await ask(url, '/jobs/job-of-nobody/cancel', { method: 'POST' }),
  ]) {
    expect(answer.json).toMatchObject({ statusCode: 503, code: 'TETHER_STORE_UNAVAILABLE' })
    expect(answer.headers.get('retry-after')).toMatch(/^\d+$/)
  }
  await redis.restart()
  expect(await server.url()).toBe(url)
  expect(JSON.parse((await ask(url, '/execute', START)).text)).toMatchObject({ status: 'succeeded' })
  expect((await ask(url, '/health/ready')).status).toBe(200)
  server.child.kill('SIGTERM')
  expect(await server.exited).toEqual({ code: 0, signal: null })
  expect(server.err()).toBe('')
})

test('a server with a token tells a stranger no more than that it is not ready', async () => {
  const redis = await startServer()
  await redis.kill()
  const server = spawnServer({ DATA_DIR: await temporaryFolder(), REDIS_URL: redis.url, API_TOKEN: 't'.repeat(32) })
  const url = await untilItWaits(server)
  expect(await ask(url, '/health/ready')).toMatchObject({ status: 503, json: { ready: false } })
  expect((await ask(url, '/health/ready')).text).not.toContain('store')
})

test('a server that waits for Redis ends when it is told to', async () => {
  const redis = await startServer()
  await redis.kill()
  const server = spawnServer({ DATA_DIR: await temporaryFolder(), REDIS_URL: redis.url })
  await untilItWaits(server)
  server.child.kill('SIGTERM')
  await server.exited
})

test('a Redis that may throw away jobs is refused at the start, also by a server that waited for it', async () => {
  const redis = await startServer({ args: ['--maxmemory-policy', 'allkeys-lru'] })
  await redis.kill()
  const server = spawnServer({ DATA_DIR: await temporaryFolder(), REDIS_URL: redis.url })
  await untilItWaits(server)
  await redis.restart()
  expect(await server.exited).toMatchObject({ code: 1 })
  expect(server.err()).toMatch(/^tether: the Redis at .* must be set to maxmemory-policy noeviction, got allkeys-lru/)
  const next = spawnServer({ DATA_DIR: await temporaryFolder(), REDIS_URL: redis.url })
  expect(await next.exited).toMatchObject({ code: 1 })
})
