import { inspect } from 'node:util'
import { describe, expect, test } from 'vitest'
import { openRedisJobStore } from '../../src/cluster/RedisJobStore.ts'
import {
  type ChangeResult,
  type JobStore,
  type StoreChange,
  StoreError,
  UncertainCommitError,
} from '../../src/store/JobStore.ts'
import { linesOf } from '../store/contract.ts'
import { append, batch, create, move, recordNamed, refTo, remove, upTo } from '../store/records.ts'
import { RedisProxy } from './RedisProxy.ts'
import { openStore, startServer } from './world.ts'

const OK: ChangeResult = { ok: true }
const JOB = recordNamed('a')
const TIMEOUT_MS = 300

/** Commits as the event log does: a commit that wrote nothing is called again until it goes through. */
async function commitOnce(store: JobStore, changes: readonly StoreChange[]): Promise<readonly ChangeResult[]> {
  for (;;) {
    try {
      return await store.commit(changes)
    } catch (error) {
      if (!(error instanceof StoreError)) throw error
      const results = error instanceof UncertainCommitError ? await patientOutcome(error) : undefined
      if (results !== undefined) return results
      await expect.poll(() => isThere(store), { timeout: 10_000, interval: 5 }).toBe(true)
    }
  }
}

async function patientOutcome(error: UncertainCommitError): Promise<readonly ChangeResult[] | undefined> {
  let results: readonly ChangeResult[] | undefined
  const ask = async () => {
    results = await error.outcome()
  }
  await expect.poll(() => succeeds(ask()), { timeout: 10_000, interval: 5 }).toBe(true)
  return results
}

function isThere(store: JobStore): Promise<boolean> {
  return succeeds(store.check())
}

async function succeeds(call: Promise<unknown>): Promise<boolean> {
  const [result] = await Promise.allSettled([call])
  return result.status === 'fulfilled'
}

/** The error that `call` rejects with, which it must at once, whatever else waits. */
async function refusalOf(call: Promise<unknown>, withinMs = TIMEOUT_MS): Promise<StoreError> {
  const beganMs = performance.now()
  const error: unknown = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  expect(performance.now() - beganMs).toBeLessThan(withinMs)
  if (!(error instanceof StoreError)) throw new Error(`a StoreError must be thrown, got ${String(error)}`)
  return error
}

describe('while Redis is away', () => {
  test('an open is refused and names the address, but no password', async () => {
    const server = await startServer()
    await server.kill()
    const url = `redis://:geheim@127.0.0.1:${server.port}`
    const error = await refusalOf(openRedisJobStore({ url, maxLogBytes: 1 }), 1000)
    expect(error.message).toBe(
      `the Redis at 127.0.0.1:${server.port} cannot be reached (connect ECONNREFUSED 127.0.0.1:${server.port})`,
    )
  })

  test('every call is refused at once, and afterwards the same store goes on', async () => {
    const server = await startServer({ isDurable: true })
    const troubles: Error[] = []
    const store = await openStore(server.url, { onTrouble: (error) => troubles.push(error) })
    await store.commit(upTo(JOB, 'running').changes)
    await server.kill()
    await expect.poll(() => troubles.length).toBeGreaterThan(0)
    const calls = () => [
      store.commit([append(JOB, 3)]),
      store.lookup(JOB),
      store.findByIdempotencyKey('default', 'key'),
      store.list({ tenant: 'default', limit: 1 }),
      store.listActive(),
      store.readEvents(JOB, 0, 1),
      store.listEndedBefore(1, 1),
      store.listTombstones(),
      store.getValue('default', 'task', 'key'),
      store.listValueKeys('default', 'task', { prefix: '', after: '', limit: 1 }),
      store.check(),
    ]
    for (const error of await Promise.all(calls().map((call) => refusalOf(call)))) {
      expect(error.message).toContain(`127.0.0.1:${server.port} cannot be reached (connect ECONNREFUSED`)
      expect(error).not.toBeInstanceOf(UncertainCommitError)
    }
    await server.restart()
    await expect.poll(() => isThere(store), { timeout: 5_000 }).toBe(true)
    expect(await store.commit([append(JOB, 3)])).toEqual([OK])
    expect(await linesOf(store, JOB)).toHaveLength(3)
  })

  test('a close settles, and nothing is tried any more', async () => {
    const server = await startServer()
    let troubles = 0
    const store = await openStore(server.url, { onTrouble: () => (troubles += 1) })
    await server.kill()
    await expect.poll(() => troubles).toBeGreaterThan(1)
    await Promise.all([store.close(), store.close()])
    const troublesThen = troubles
    await server.restart()
    expect(await server.run('CLIENT', 'LIST')).not.toContain('cmd=evalsha')
    expect(troubles).toBe(troublesThen)
  })

  test('one that stands still is given up after a time, and taken up again', async () => {
    const server = await startServer()
    const store = await openStore(server.url, { commandTimeoutMs: TIMEOUT_MS })
    await store.commit(upTo(JOB, 'running').changes)
    server.pause()
    const commits = [3, 4].map((seq) => refusalOf(store.commit([append(JOB, seq)]), TIMEOUT_MS * 3))
    await refusalOf(store.lookup(JOB), TIMEOUT_MS * 3)
    const errors = await Promise.all(commits)
    await refusalOf(store.lookup(JOB))
    server.resume()
    const outcomes = []
    for (const error of errors) {
      if (!(error instanceof UncertainCommitError)) throw error
      outcomes.push(await patientOutcome(error))
    }
    // They had been in the buffers of the server, which read them when it went on.
    const written = outcomes.filter((outcome) => outcome !== undefined)
    expect(written).toEqual(written.map(() => [OK]))
    expect(await linesOf(store, JOB)).toHaveLength(2 + written.length)
    expect(await store.commit([append(JOB, 3 + written.length)])).toEqual([OK])
  })
})

describe('a connection that is cut', () => {
  test('after a commit was written is written once, and its results are those of the first time', async () => {
    const server = await startServer()
    const proxy = await RedisProxy.start(server.port)
    const store = await openStore(proxy.url)
    await store.commit(upTo(JOB, 'running').changes)
    proxy.losesAnswers = true
    const commits = [
      store.commit([append(JOB, 3), create(JOB)]),
      store.commit([append(JOB, 4)]),
      store.commit([move(JOB, 'running', 'succeeded', 5)]),
    ]
    const outside = await openStore(server.url)
    await expect.poll(() => outside.lookup(JOB)).toMatchObject({ record: { lastSeq: 5 } })
    proxy.losesAnswers = false
    proxy.cut()
    expect(await Promise.all(commits)).toEqual([[OK, { ok: false, why: 'exists' }], [OK], [OK]])
    expect(await linesOf(store, JOB)).toEqual(batch(1, 5).lines.split('\n'))
  })

  test('before a commit arrived does not lose it, and what arrives late of the old connection changes nothing', async () => {
    const server = await startServer()
    const proxy = await RedisProxy.start(server.port)
    const store = await openStore(proxy.url)
    await store.commit(upTo(JOB, 'running').changes)
    proxy.holdsRequests = true
    const value = (json: string) => ({ kind: 'value', tenant: 'default', task: 't', key: 'k', json }) as const
    const commits = [store.commit([append(JOB, 3), value('1')]), store.commit([value('2')])]
    await expect.poll(() => proxy.heldBytes).toBeGreaterThan(0)
    proxy.holdsRequests = false
    proxy.cut()
    expect(await Promise.all(commits)).toEqual([[OK, OK], [OK]])
    expect(await store.commit([value('3')])).toEqual([OK])
    proxy.deliver()
    await server.run('PING')
    await store.check()
    expect(await store.getValue('default', 't', 'k')).toBe('3')
    expect(await linesOf(store, JOB)).toHaveLength(3)
  })

  test('for long makes a commit uncertain, and its outcome tells that it was written', async () => {
    const server = await startServer()
    const proxy = await RedisProxy.start(server.port)
    const store = await openStore(proxy.url)
    await store.commit(upTo(JOB, 'running').changes)
    proxy.losesAnswers = true
    const commits = [store.commit([append(JOB, 3), append(JOB, 9)]), store.commit([append(JOB, 4)])]
    const outside = await openStore(server.url)
    await expect.poll(() => outside.lookup(JOB)).toMatchObject({ record: { lastSeq: 4 } })
    proxy.down()
    proxy.cut()
    const errors = await Promise.all(commits.map((commit) => refusalOf(commit, 1000)))
    for (const error of errors) expect(error.message).toContain('whether the commit was written is not known')
    const [first, second] = errors
    if (!(first instanceof UncertainCommitError && second instanceof UncertainCommitError)) throw new Error('uncertain')
    await refusalOf(first.outcome())
    await proxy.up()
    proxy.losesAnswers = false
    expect(await patientOutcome(first)).toEqual([OK, { ok: false, why: 'sequence' }])
    expect(await store.commit([append(JOB, 5)])).toEqual([OK])
    expect(await patientOutcome(second)).toEqual([OK])
    expect(await linesOf(store, JOB)).toEqual(batch(1, 5).lines.split('\n'))
  })

  test('for long, before the commit arrived, makes it one that wrote nothing and never will', async () => {
    const server = await startServer()
    const proxy = await RedisProxy.start(server.port)
    const store = await openStore(proxy.url)
    await store.commit(upTo(JOB, 'running').changes)
    proxy.holdsRequests = true
    const commit = refusalOf(store.commit([append(JOB, 3)]), 1000)
    await expect.poll(() => proxy.heldBytes).toBeGreaterThan(0)
    proxy.holdsRequests = false
    proxy.down()
    proxy.cut()
    const error = await commit
    if (!(error instanceof UncertainCommitError)) throw error
    await proxy.up()
    await expect.poll(() => isThere(store), { timeout: 5_000 }).toBe(true)
    expect(await store.lookup(JOB)).toMatchObject({ record: { lastSeq: 2 } })
    proxy.deliver()
    await server.run('PING')
    expect(await store.lookup(JOB)).toMatchObject({ record: { lastSeq: 2 } })
    expect(await error.outcome()).toBeUndefined()
    expect(await store.commit([append(JOB, 3)])).toEqual([OK])
  })

  test('again and again loses nothing, doubles nothing and keeps the order', { timeout: 60_000 }, async () => {
    const server = await startServer()
    const store = await openStore(server.url)
    await store.commit(upTo(JOB, 'running').changes)
    const work = { isDone: false }
    const killing = (async () => {
      let kills = 0
      for (; !work.isDone; kills += 1) {
        await server.run('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
        await expect.poll(() => isThere(store), { interval: 5 }).toBe(true)
      }
      return kills
    })()
    let seq = 2
    while (seq < 3000) {
      const from = seq
      const commits = Array.from({ length: 10 }, (_, n) => append(JOB, from + 1 + n))
      // Those of one round are called without waiting; one that was refused is called again behind all of them.
      const results = await Promise.allSettled(commits.map((change) => store.commit([change])))
      for (const [index, result] of results.entries()) {
        const change = commits[index]
        if (change === undefined) continue
        const isWritten = result.status === 'fulfilled' && result.value[0]?.ok === true
        const error: unknown = result.status === 'rejected' ? result.reason : undefined
        const late = error instanceof UncertainCommitError ? await patientOutcome(error) : undefined
        if (!isWritten && late?.[0]?.ok !== true) expect(await commitOnce(store, [change])).toEqual([OK])
      }
      seq += commits.length
    }
    work.isDone = true
    expect(await killing).toBeGreaterThan(3)
    expect(await linesOf(store, JOB)).toEqual(batch(1, seq).lines.split('\n'))
  })
})

test('a Redis that is killed and started again keeps what was answered, once and in order', {
  timeout: 60_000,
}, async () => {
  const server = await startServer({ isDurable: true })
  const store = await openStore(server.url)
  const pair = [recordNamed('left'), recordNamed('right')]
  await store.commit(pair.flatMap((job) => upTo(job, 'running').changes))
  let seq = 2
  for (const commitsBeforeKill of [1, 40, 150]) {
    for (let n = 0; n < commitsBeforeKill; n += 1) {
      expect(
        await commitOnce(
          store,
          pair.map((job) => append(job, seq + 1)),
        ),
      ).toEqual([OK, OK])
      seq += 1
    }
    const killed = server.kill()
    const under = commitOnce(
      store,
      pair.map((job) => append(job, seq + 1)),
    )
    seq += 1
    await killed
    await server.restart()
    expect(await under).toEqual([OK, OK])
  }
  for (const job of pair) expect(await linesOf(store, job)).toEqual(batch(1, seq).lines.split('\n'))
})

test('what was waited for in vain is not asked again on the next connection', async () => {
  const server = await startServer()
  const proxy = await RedisProxy.start(server.port)
  const store = await openStore(proxy.url, { commandTimeoutMs: TIMEOUT_MS })
  await server.run('CONFIG', 'RESETSTAT')
  proxy.silence()
  await expect(store.list({ tenant: 'default', limit: 1 })).rejects.toThrow('did not answer')
  await expect.poll(() => isThere(store), { timeout: 10_000 }).toBe(true)
  const stats = String(await server.run('INFO', 'commandstats'))
  expect(/cmdstat_evalsha:calls=(\d+)/.exec(stats)?.[1]).toBe('1')
})

test('a Redis that comes back without its data has no jobs, and takes new ones', async () => {
  const server = await startServer()
  const store = await openStore(server.url)
  await store.commit(upTo(JOB, 'running').changes)
  await server.restart()
  await expect.poll(() => isThere(store), { timeout: 5_000 }).toBe(true)
  expect(await store.commit([append(JOB, 3)])).toEqual([{ ok: false, why: 'missing' }])
  expect(await store.lookup(JOB)).toEqual({ kind: 'unknown' })
  expect(await store.commit(upTo(JOB, 'running').changes)).toEqual([OK, OK])
})

test('the same where its data goes while it runs', async () => {
  const server = await startServer()
  const store = await openStore(server.url)
  await store.commit(upTo(JOB, 'running').changes)
  await server.run('FLUSHALL')
  const commits = [store.commit([append(JOB, 3)]), store.commit(upTo(JOB, 'running').changes)]
  expect(await Promise.all(commits)).toEqual([[{ ok: false, why: 'missing' }], [OK, OK]])
})

test('scripts that Redis forgets change neither results nor order', async () => {
  const server = await startServer()
  const [store, other] = [await openStore(server.url), await openStore(server.url)]
  const mine = recordNamed('b')
  await store.commit([...upTo(JOB, 'running').changes, ...upTo(mine, 'running').changes])
  for (let round = 0; round < 30; round += 1) {
    const from = 2 + round * 60
    const calls = [store, other].flatMap((one, which) =>
      Array.from({ length: 60 }, (_, n) => one.commit([append(which === 0 ? JOB : mine, from + 1 + n)])),
    )
    const flush = server.run('SCRIPT', 'FLUSH')
    // The other one brings the script back between the commits of the first.
    const [results] = await Promise.all([Promise.all(calls), flush, other.list({ tenant: 'default', limit: 1 })])
    expect(results).toEqual(calls.map(() => [OK]))
  }
  for (const job of [JOB, mine]) expect(await linesOf(store, job)).toHaveLength(1802)
})

describe('a Redis whose memory is used up', () => {
  test('takes what ends jobs and gives memory back, and nothing else', async () => {
    const server = await startServer()
    const store = await openStore(server.url)
    const [runs, ended] = [recordNamed('r'), recordNamed('e')]
    await store.commit([...upTo(runs, 'running').changes, ...upTo(ended, 'succeeded').changes])
    await server.run('CONFIG', 'SET', 'maxmemory', '1')
    const refused = [append(runs, 3), create(recordNamed('n'))]
    const errors = await Promise.all(refused.map((change) => refusalOf(store.commit([change]))))
    for (const error of errors) expect(error.message).toContain('has used all the memory that it may (maxmemory)')
    await refusalOf(store.check())
    expect(await store.commit([move(runs, 'running', 'cancelling', 3)])).toEqual([OK])
    expect(await store.commit([move(runs, 'cancelling', 'cancelled', 4)])).toEqual([OK])
    expect(await store.commit([remove(ended)])).toEqual([OK])
    expect(await store.lookup(ended)).toEqual({ kind: 'spent' })
    expect(await store.list({ tenant: 'default', limit: 5 })).toHaveLength(1)
    await server.run('CONFIG', 'SET', 'maxmemory', '0')
    expect(await store.commit([create(recordNamed('n'))])).toEqual([OK])
    expect(await linesOf(store, runs)).toHaveLength(4)
  })

  test('says so without what was to be written', async () => {
    const server = await startServer()
    const store = await openStore(server.url)
    await server.run('CONFIG', 'SET', 'maxmemory', '1')
    const secret = { ...JOB, input: { password: 'geheim' } }
    const error = await refusalOf(store.commit([create(secret)]))
    expect(inspect(error, { depth: 10, showHidden: true })).not.toContain('geheim')
  })
})

test('commits that were called before a close come through, and what is called after is refused', async () => {
  const server = await startServer()
  const store = await openStore(server.url)
  await store.commit(upTo(JOB, 'running').changes)
  const commits = Array.from({ length: 300 }, (_, n) => store.commit([append(JOB, 3 + n)]))
  const closed = store.close()
  await refusalOf(store.commit([append(JOB, 303)]))
  await closed
  expect(await Promise.all(commits)).toEqual(commits.map(() => [OK]))
  expect(
    String(await server.run('CLIENT', 'LIST'))
      .trim()
      .split('\n'),
  ).toHaveLength(1)
  expect(await server.run('KEYS', 'tether:session:*')).toEqual([])
  expect(await (await openStore(server.url)).lookup(refTo(JOB))).toMatchObject({ record: { lastSeq: 302 } })
})
