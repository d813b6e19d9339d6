import { expect, test } from 'vitest'
import { startServer } from '../cluster/world.ts'
import { Replica } from './world.ts'

const TOKEN = 't'.repeat(32)

/** How many requests for unknown jobs a client may have remembered, of 20. */
async function countRemembered(replica: Replica, headers: Readonly<Record<string, string>> = {}): Promise<number> {
  for (let n = 0; n < 20; n += 1) {
    const body = { ifUnknown: 'remember' }
    const { status } = await replica.ask(`/jobs/job-of-nobody-${n}/cancel`, { method: 'POST', headers, body })
    if (status === 503) return n
    expect(status).toBe(202)
  }
  return 20
}

test('a client that is known by its address alone has a part of what is remembered, and one with a token has all', async () => {
  const settings = { MAX_TOMBSTONES: '20' }
  const redis = await startServer()
  expect(await countRemembered(await Replica.start(redis.url, 'a', settings))).toBe(2)
  const other = await startServer()
  const guarded = await Replica.start(other.url, 'b', { ...settings, API_TOKEN: TOKEN })
  expect(await countRemembered(guarded, { authorization: `Bearer ${TOKEN}` })).toBe(20)
})
