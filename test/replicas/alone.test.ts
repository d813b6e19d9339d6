import { join } from 'node:path'
import { expect, test } from 'vitest'
import { startServer } from '../cluster/world.ts'
import { type ServerProcess, spawnServer } from '../jobs/serverProcess.ts'
import { ask } from '../server/requests.ts'
import { temporaryFolder } from '../world.ts'

const OF_MANY = /\/src\/cluster\/|\/node_modules\/(?:ioredis|bullmq)\//

async function spawnTelling(settings: Readonly<Record<string, string>>): Promise<ServerProcess> {
  const hook = join(import.meta.dirname, 'fixtures', 'loadedModules.ts')
  return spawnServer({ DATA_DIR: await temporaryFolder(), NODE_OPTIONS: `--import ${hook}`, ...settings })
}

function loadedBy(server: ServerProcess): readonly string[] {
  return [...server.err().matchAll(/^loaded (.*)$/gm)].map(([, url = '']) => url)
}

test('a server that is alone loads nothing of what many need', async () => {
  const server = await spawnTelling({})
  const { status } = await ask(await server.url(), '/execute', {
    body: { task: 'ticks', input: { count: 1, intervalMs: 0 } },
  })
  expect(status).toBe(200)
  server.child.kill('SIGTERM')
  await server.exited
  const loaded = loadedBy(server)
  expect(loaded.length).toBeGreaterThan(100)
  expect(loaded.filter((url) => OF_MANY.test(url))).toEqual([])
})

test('which would be seen', async () => {
  const redis = await startServer()
  const server = await spawnTelling({ REDIS_URL: redis.url })
  await server.url()
  const loaded = loadedBy(server)
  for (const name of ['/src/cluster/', '/ioredis/', '/bullmq/']) {
    expect(loaded.filter((url) => url.includes(name)).length, name).toBeGreaterThan(0)
  }
})
