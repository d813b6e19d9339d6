import { randomUUID } from 'node:crypto'
import { onTestFinished } from 'vitest'
import { openRedisJobStore, type RedisJobStoreOptions } from '../../src/cluster/RedisJobStore.ts'
import type { JobStore } from '../../src/store/JobStore.ts'
import { RedisServer, type RedisServerOptions } from './RedisServer.ts'

/** A server of one test alone, which goes with it. */
export async function startServer(options?: RedisServerOptions): Promise<RedisServer> {
  const server = await RedisServer.start(options)
  onTestFinished(() => server[Symbol.asyncDispose]())
  return server
}

/** A store that is closed with the test. All are one replica, where nothing else is said: jobs are nobody else's. */
export async function openStore(url: string, options: Partial<RedisJobStoreOptions> = {}): Promise<JobStore> {
  const store = await openRedisJobStore({ url, maxLogBytes: 2 ** 28, replica: 'replica-1', ...options })
  onTestFinished(() => store.close())
  return store
}

/** For keys that no other test has. */
export function newPrefix(): string {
  return `${randomUUID()}:`
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
