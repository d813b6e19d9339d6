import { afterAll, beforeAll } from 'vitest'
import type { JobStore } from '../../src/store/JobStore.ts'
import { describeJobStore } from '../store/contract.ts'
import { RedisServer } from './RedisServer.ts'
import { newPrefix, openStore } from './world.ts'

let server: RedisServer
beforeAll(async () => {
  server = await RedisServer.start()
})
afterAll(() => server[Symbol.asyncDispose]())

describeJobStore('the store in Redis', async (limits = { maxLogBytes: 2 ** 28 }) => {
  const options = { ...limits, prefix: newPrefix() }
  const opened = { store: await openStore(server.url, options), reopen }
  async function reopen(): Promise<JobStore> {
    await opened.store.close()
    opened.store = await openStore(server.url, options)
    return opened.store
  }
  return opened
})
