import { describe, expect, test } from 'vitest'
import { openRedisJobStore } from '../../src/cluster/RedisJobStore.ts'
import { parseGroupId } from '../../src/job/id.ts'
import type { ChangeResult, ListFilter, StoreChange } from '../../src/store/JobStore.ts'
import { linesOf } from '../store/contract.ts'
import { append, batch, create, move, recordNamed, refTo, remove, stateOf, upTo } from '../store/records.ts'
import { newPrefix, openStore, startServer } from './world.ts'

const OK: ChangeResult = { ok: true }

describe('a Redis that may not be used is refused', () => {
  test.each(['allkeys-lru', 'volatile-ttl'])('where it throws keys away (%s), also later', async (policy) => {
    const server = await startServer({ args: ['--maxmemory-policy', policy] })
    const sentence = `must be set to maxmemory-policy noeviction, got ${policy}`
    await expect(openRedisJobStore({ url: server.url, maxLogBytes: 1 })).rejects.toThrow(sentence)
    await server.run('CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
    const store = await openStore(server.url)
    await store.check()
    await server.run('CONFIG', 'SET', 'maxmemory-policy', policy)
    await expect(store.check()).rejects.toThrow(sentence)
  })

  test('where it wants another password', async () => {
    const server = await startServer({ args: ['--requirepass', 'right'] })
    const open = (password: string) =>
      openRedisJobStore({ url: `redis://${password}127.0.0.1:${server.port}`, maxLogBytes: 1 })
    await expect(open('')).rejects.toThrow('NOAUTH')
    await expect(open(':wrong@')).rejects.toThrow('WRONGPASS')
    const store = await open(':right@')
    await store.close()
  })

  test('where it is a cluster and would spread the keys of one commit', async () => {
    const server = await startServer({ args: ['--cluster-enabled', 'yes'] })
    await server.run('CLUSTER', 'ADDSLOTSRANGE', '0', '16383')
    await expect(openRedisJobStore({ url: server.url, maxLogBytes: 1 })).rejects.toThrow(
      'must have a hash tag, as in {tether}:, got tether:',
    )
    await expect.poll(() => server.run('CLUSTER', 'INFO'), { timeout: 10_000 }).toContain('cluster_state:ok')
    const store = await openStore(server.url, { prefix: '{tether}:' })
    const job = recordNamed('a', { idempotencyKey: 'k' })
    expect(await store.commit([...upTo(job, 'failed').changes, remove(job)])).toEqual([OK, OK, OK, OK])
    expect(await store.list({ tenant: 'default', limit: 1 })).toEqual([])
  })

  test.each(['', 'localhost', 'http://localhost:6379', 'redis:///1'])('where its address is %j', async (url) => {
    await expect(openRedisJobStore({ url, maxLogBytes: 1 })).rejects.toThrow('must be redis://HOST:PORT')
  })
})

test('a user who may ask for no settings is taken at his word', async () => {
  const server = await startServer({ args: ['--maxmemory-policy', 'allkeys-lru'] })
  await server.run('ACL', 'SETUSER', 'guest', 'on', '>guest', '~*', '+@all', '-info', '-config')
  const store = await openStore(`redis://guest:guest@127.0.0.1:${server.port}`)
  await store.check()
})

test('what was asked of a job expires by itself where there is none, and only there', async () => {
  const server = await startServer()
  const store = await openStore(server.url)
  const job = recordNamed('a')
  const key = `tether:requests:default:${job.id}`
  const request = { kind: 'cancel', by: 'somebody', at: 1, reason: '', outcome: 'accepted' } as const
  const note: StoreChange = { kind: 'requests', requests: [{ ref: { tenant: job.tenant, id: job.id }, request }] }
  const ttlMs = async (): Promise<number> => Number(await server.run('PTTL', key))
  await store.commit([note])
  expect(await ttlMs()).toBeGreaterThan(23 * 3_600_000)
  expect(await server.run('ZCARD', 'tether:strays')).toBe(1)
  await store.commit([...upTo(job, 'failed').changes, note])
  expect(await ttlMs()).toBe(-1)
  expect(await server.run('ZCARD', 'tether:strays')).toBe(0)
  await store.commit([remove(job, Date.now() + 60_000)])
  await store.commit([note])
  const leftMs = await ttlMs()
  expect(leftMs).toBeGreaterThan(0)
  expect(leftMs).toBeLessThanOrEqual(60_000)
  expect(await server.run('ZCARD', 'tether:strays')).toBe(0)
})

test('stores with other prefixes and databases do not see each other', async () => {
  const server = await startServer()
  const job = recordNamed('a')
  const prefix = newPrefix()
  const stores = [
    await openStore(server.url, { prefix }),
    await openStore(server.url),
    await openStore(`${server.url}/1`, { prefix }),
  ]
  for (const store of stores) expect(await store.commit([create(job)])).toEqual([OK])
})

test('names of tenants, tasks and keys are told apart, whatever they hold', async () => {
  const server = await startServer()
  const store = await openStore(server.url)
  const names = ['a', 'a:b', 'a%3Ab', 'b', 'b:a', ' ', 'a b', 'a\nb', 'ö', '*']
  const jobs = names.map((tenant) => recordNamed('job', { tenant, task: tenant, idempotencyKey: tenant }))
  expect(await store.commit(jobs.map(create))).toEqual(jobs.map(() => OK))
  for (const job of jobs) {
    expect(await store.lookup(job)).toEqual({ kind: 'found', record: job })
    expect(await store.list({ tenant: job.tenant, task: job.task, limit: 9 })).toHaveLength(1)
    expect(await store.findByIdempotencyKey(job.tenant, job.tenant)).toEqual(job)
  }
  const active = await store.listActive()
  expect(active.map(({ tenant }) => tenant).toSorted()).toEqual(names.toSorted())
  const pairs = names.flatMap((tenant) => names.map((task) => ({ tenant, task })))
  await store.commit(
    pairs.map(({ tenant, task }, n): StoreChange => ({ kind: 'value', tenant, task, key: 'k', json: `${n}` })),
  )
  for (const [n, { tenant, task }] of pairs.entries()) expect(await store.getValue(tenant, task, 'k')).toBe(`${n}`)
})

test('a job that has ended with a short log takes little memory', async () => {
  const server = await startServer()
  const store = await openStore(server.url)
  const job = recordNamed('a')
  const { changes, lastSeq } = upTo(job, 'cancelled')
  await store.commit(changes)
  expect(await linesOf(store, job)).toHaveLength(lastSeq)
  const keys = (await server.run('KEYS', 'tether:*:default:job_*')) as readonly string[]
  // Of all fields: of a few, which differ with each start of Redis, it would be a guess.
  const sizes = await Promise.all(
    keys.map(async (key) => Number(await server.run('MEMORY', 'USAGE', key, 'SAMPLES', '0'))),
  )
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(3000)
})

test('a job that is deleted leaves nothing behind', async () => {
  const server = await startServer()
  const store = await openStore(server.url)
  const job = recordNamed('a', {
    group: parseGroupId('group-0001'),
    parentId: recordNamed('p').id,
    idempotencyKey: 'k',
  })
  const { changes, lastSeq } = upTo(job, 'cancelling')
  await store.commit([...changes, move(job, 'cancelling', 'abandoned', lastSeq + 1)])
  await store.commit([{ kind: 'settled', ref: job, settledAt: 5 }, remove(job, 1)])
  await store.close()
  expect(await server.run('KEYS', '*')).toEqual([])
})

test('of a store that commits for long Redis remembers only what was not answered yet', async () => {
  const server = await startServer()
  const store = await openStore(server.url)
  const job = recordNamed('a')
  await store.commit(upTo(job, 'running').changes)
  for (let round = 0; round < 5; round += 1) {
    await Promise.all(Array.from({ length: 100 }, (_, n) => store.commit([append(job, 3 + round * 100 + n)])))
  }
  await store.commit([append(job, 503)])
  const [session = ''] = (await server.run('KEYS', 'tether:session:*')) as readonly string[]
  // The number of the newest, and its results.
  expect(await server.run('HLEN', session)).toBe(2)
  expect(await server.run('PTTL', session)).toBeGreaterThan(3_600_000)
})

test('ids that are spent and requests that expired go by themselves', async () => {
  const server = await startServer()
  const store = await openStore(server.url)
  const job = recordNamed('a')
  await store.commit([...upTo(job, 'failed').changes, remove(job, Date.now() + 50)])
  const request = { kind: 'cancel', cause: 'cancel_requested', reason: '', requestedAt: 1 } as const
  const keep = (name: string, expiresAt: number) =>
    ({ kind: 'tombstone', name, tombstone: { name, request, expiresAt } }) as const
  await store.commit([keep('old', Date.now() - 1)])
  expect(await store.lookup(job)).toEqual({ kind: 'spent' })
  await expect.poll(() => store.lookup(job)).toEqual({ kind: 'unknown' })
  await store.commit([keep('new', Date.now() + 60_000)])
  expect(await server.run('HKEYS', 'tether:tombstones')).toEqual(['new'])
  expect(await server.run('ZRANGE', 'tether:tombstones:ends', '0', '-1')).toEqual(['new'])
})

test('a batch that is long is read in parts of a few KiB', async () => {
  const server = await startServer()
  const store = await openStore(server.url)
  const job = recordNamed('a')
  await store.commit(upTo(job, 'running').changes)
  const events = batch(3, 400, 'ö'.repeat(1000))
  expect(await store.commit([{ kind: 'append', ref: job, events }])).toEqual([OK])
  const first = await store.readEvents(job, 2, 1)
  expect(first).toHaveLength(1)
  expect(Buffer.byteLength(first[0]?.lines ?? '')).toBeLessThan(200 * 1024)
  expect((await linesOf(store, job)).slice(2)).toEqual(events.lines.split('\n'))
})

describe('two stores', () => {
  async function openTwo() {
    const server = await startServer()
    return [await openStore(server.url), await openStore(server.url)] as const
  }

  test('that move one job: the first wins, in either order', async () => {
    const [left, right] = await openTwo()
    for (const [n, [first, second]] of [
      [left, right],
      [right, left],
    ].entries()) {
      const job = recordNamed(`j${n}`)
      await left.commit(upTo(job, 'running').changes)
      expect(await first?.commit([move(job, 'running', 'succeeded', 3)])).toEqual([OK])
      expect(await second?.commit([move(job, 'running', 'cancelling', 3)])).toEqual([{ ok: false, why: 'status' }])
      expect(await second?.commit([append(job, 4)])).toEqual([{ ok: false, why: 'status' }])
      expect(await second?.lookup(job)).toMatchObject({ record: { state: { status: 'succeeded' }, lastSeq: 3 } })
    }
  })

  test('that race for moves, creates, keys and appends: one wins each time', async () => {
    const stores = await openTwo()
    for (let n = 0; n < 200; n += 1) {
      const [job, made, otherMade] = [recordNamed(`j${n}`), recordNamed(`m${n}`), recordNamed(`o${n}`)]
      await stores[0].commit(upTo(job, 'running').changes)
      const order = n % 2 === 0 ? stores : stores.toReversed()
      const races = await Promise.all(
        order.flatMap((store, which) => [
          store.commit([create({ ...made, fingerprint: `${which}` })]),
          store.commit([create({ ...(which === 0 ? otherMade : recordNamed(`p${n}`)), idempotencyKey: `key ${n}` })]),
          store.commit([append(job, 3)]),
          store.commit([move(job, 'running', which === 0 ? 'cancelling' : 'failed', 4)]),
        ]),
      )
      const won = (kind: number) => [races[kind], races[kind + 4]].filter((results) => results?.[0]?.ok).length
      expect([0, 1, 2, 3].map(won)).toEqual([1, 1, 1, 1])
      expect(await linesOf(stores[0], job)).toEqual(batch(1, 4).lines.split('\n'))
    }
  })

  test('see the whole of a commit or nothing of it', async () => {
    const [writer, reader] = await openTwo()
    const pair = [recordNamed('left'), recordNamed('right')]
    await writer.commit(pair.flatMap((job) => upTo(job, 'running').changes))
    const writing = Promise.all(
      Array.from({ length: 300 }, (_, n) => writer.commit(pair.map((job) => append(job, 3 + n)))),
    )
    const lastSeq = 2 + 300
    for (let seenSeq = 0; seenSeq < lastSeq; ) {
      const [left, right] = await reader.list({ tenant: 'default', limit: 2 })
      expect(left?.lastSeq).toBe(right?.lastSeq)
      seenSeq = left?.lastSeq ?? 0
    }
    await writing
  })
})

test('a page of a log is not much longer than was asked for, though its entries are of many lengths', async () => {
  const server = await startServer()
  const store = await openStore(server.url)
  const job = recordNamed('a')
  const { changes, lastSeq } = upTo(job, 'running')
  const texts = Array.from({ length: 108 }, (_, n) => (n < 8 ? '' : 'x'.repeat(60_000)))
  const written = texts.map((text, n): StoreChange => {
    return { kind: 'append', ref: refTo(job), events: batch(lastSeq + 1 + n, 1, text) }
  })
  await store.commit([...changes, ...written])
  const sentBytes = async () => {
    const stats = String(await server.run('INFO', 'stats'))
    return Number(/total_net_output_bytes:(\d+)/.exec(stats)?.[1])
  }
  const before = await sentBytes()
  const page = await store.readEvents(refTo(job), 0, 65_536)
  expect(await sentBytes()).toBeLessThan(before + 2_000_000)
  expect(page.reduce((sum, { lines }) => sum + lines.length, 0)).toBeGreaterThanOrEqual(65_536)
})

test('a list that shows few of many is looked for in several steps, and others have their turn between', async () => {
  const server = await startServer()
  const store = await openStore(server.url)
  const group = parseGroupId('group-aaa')
  const statuses = ['queued', 'succeeded', 'failed'] as const
  const jobs = Array.from({ length: 9000 }, (_, n) =>
    recordNamed(`n${n}`, {
      createdAt: 1_000 + Math.floor(n / 4),
      group,
      task: n % 2400 === 100 ? 'rare' : 'command',
      state: stateOf(statuses[n % 3] ?? 'queued'),
    }),
  )
  for (let n = 0; n < jobs.length; n += 500) await store.commit(jobs.slice(n, n + 500).map(create))
  await server.run('CONFIG', 'RESETSTAT')
  const rare = await store.list({ tenant: 'default', group, task: 'rare', limit: 10 })
  const [, steps] = /cmdstat_evalsha:calls=(\d+)/.exec(String(await server.run('INFO', 'commandstats'))) ?? []
  expect(rare.map(({ metadata }) => metadata['name'])).toEqual(['n7300', 'n4900', 'n2500', 'n100'])
  expect(Number(steps)).toBeGreaterThanOrEqual(3)
  const seen: unknown[] = []
  let filter: ListFilter = { tenant: 'default', group, task: 'rare', limit: 1 }
  for (let page = await store.list(filter); page.length > 0; page = await store.list(filter)) {
    seen.push(...page.map(({ id }) => id))
    const [last] = page
    if (last !== undefined) filter = { ...filter, before: { createdAt: last.createdAt, id: last.id } }
  }
  expect(seen).toEqual(rare.map(({ id }) => id))
})

test('a page of a list is quick among many jobs, whatever the filter', { timeout: 60_000 }, async () => {
  const server = await startServer()
  const store = await openStore(server.url)
  for (let n = 0; n < 20_000; n += 500) {
    const jobs = Array.from({ length: 500 }, (_, k) => recordNamed(`n${n + k}`, { createdAt: 1_000 + n + k }))
    await store.commit(jobs.flatMap((job, k) => upTo(job, k === 7 ? 'running' : 'succeeded').changes))
  }
  const rare = await store.list({ tenant: 'default', statuses: ['running'], limit: 100 })
  expect(rare).toHaveLength(40)
  const times = []
  for (const statuses of [undefined, ['running'], ['succeeded']] as const) {
    const beganMs = performance.now()
    const filter = { tenant: 'default', limit: 100, task: 'command', ...(statuses === undefined ? {} : { statuses }) }
    await store.list(filter)
    times.push(performance.now() - beganMs)
  }
  expect(Math.max(...times)).toBeLessThan(100)
})
