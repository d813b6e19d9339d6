import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { RedisJobs } from '../../src/cluster/RedisJobStore.ts'
import type { RememberOptions } from '../../src/cluster/SharedJobs.ts'
import { parseGroupId } from '../../src/job/id.ts'
import type { ChangeResult } from '../../src/store/JobStore.ts'
import { append, create, move, recordNamed, upTo } from '../store/records.ts'
import { RedisServer } from './RedisServer.ts'
import { createWaiting, openReplicas, requestFor } from './replicas.ts'
import { newPrefix } from './world.ts'

const OK: ChangeResult = { ok: true }
const OK_ASKED: ChangeResult = { ok: true, isAsked: true }
const JOB = recordNamed('a')
const CANCEL = requestFor('cancel', 'first')
const STOP = requestFor('stop', 'first')
const REMEMBER: RememberOptions = { client: 'anna', keepMs: 60_000, maxInAll: 3, maxOfClient: 2 }

let server: RedisServer
beforeAll(async () => {
  server = await RedisServer.start()
})
afterAll(() => server[Symbol.asyncDispose]())

let left: RedisJobs
let right: RedisJobs
beforeEach(async () => {
  ;[left, right] = await openReplicas({ url: server.url, prefix: newPrefix() }, 'left', 'right')
})

describe('an ask', () => {
  test('of a job that is not known is answered so, and changes nothing', async () => {
    expect(await right.shared.ask(JOB, CANCEL)).toEqual({ kind: 'unknown' })
    expect(await left.store.commit([createWaiting(JOB)])).toEqual([OK])
  })

  test('of a job that waits leaves its end to whoever asks: one of several comes through', async () => {
    await left.store.commit([createWaiting(JOB)])
    expect(await right.shared.ask(JOB, CANCEL)).toEqual({ kind: 'queued', request: CANCEL })
    const moved = [move(JOB, 'queued', 'cancelled', 2)]
    const results = await Promise.all([left, right].map(({ store }) => store.commit(moved)))
    expect(results.flat().filter(({ ok }) => ok)).toEqual([OK])
    expect(await left.shared.ask(JOB, CANCEL)).toEqual({ kind: 'ended' })
  })

  test('of a job that runs is told to its owner by whatever it writes, until it follows', async () => {
    await left.store.commit(upTo(JOB, 'running').changes)
    expect(await right.shared.ask(JOB, CANCEL)).toEqual({ kind: 'owned', owner: 'left' })
    expect(await left.shared.asked(JOB)).toEqual(CANCEL)
    expect(await left.store.commit([append(JOB, 3)])).toEqual([OK_ASKED])
    expect(await left.store.commit([move(JOB, 'running', 'cancelling', 4)])).toEqual([OK])
    expect(await left.shared.asked(JOB)).toBeUndefined()
    expect(await right.shared.ask(JOB, STOP)).toEqual({ kind: 'owned', owner: 'left' })
    expect(await left.shared.asked(JOB)).toBeUndefined()
    expect(await left.store.commit([move(JOB, 'cancelling', 'cancelled', 5)])).toEqual([OK])
  })

  test('for a stop is followed by stopping, and one for a cancel is not', async () => {
    await left.store.commit(upTo(JOB, 'running').changes)
    await right.shared.ask(JOB, STOP)
    expect(await left.store.commit([move(JOB, 'running', 'stopping', 3)])).toEqual([OK])
    await right.shared.ask(JOB, CANCEL)
    expect(await left.store.commit([append(JOB, 4)])).toEqual([OK_ASKED])
    const other = recordNamed('b')
    await left.store.commit(upTo(other, 'running').changes)
    await right.shared.ask(other, CANCEL)
    expect(await left.store.commit([move(other, 'running', 'stopping', 3)])).toEqual([OK_ASKED])
  })

  test.each([
    ['stop', 'cancel', 'cancel'],
    ['cancel', 'stop', 'cancel'],
    ['stop', 'stop', 'stop'],
    ['cancel', 'cancel', 'cancel'],
  ] as const)('for a %s and then one for a %s: %s stands, and the first of its kind', async (first, second, stands) => {
    await left.store.commit([...upTo(JOB, 'running').changes, createWaiting(recordNamed('w'))])
    const requests = [requestFor(first, 'first'), requestFor(second, 'second')]
    const standing = requests.find(({ kind }) => kind === stands)
    for (const request of requests) await right.shared.ask(JOB, request)
    expect(await left.shared.asked(JOB)).toEqual(standing)
    for (const request of requests) await right.shared.ask(recordNamed('w'), request)
    expect(await left.shared.ask(recordNamed('w'), STOP)).toEqual({ kind: 'queued', request: standing })
  })

  test('for a cancel keeps a job that waits from ending as stopped', async () => {
    await left.store.commit([createWaiting(JOB)])
    expect(await left.shared.ask(JOB, STOP)).toEqual({ kind: 'queued', request: STOP })
    expect(await right.shared.ask(JOB, CANCEL)).toEqual({ kind: 'queued', request: CANCEL })
    expect(await left.store.commit([move(JOB, 'queued', 'stopped', 2)])).toEqual([{ ok: false, why: 'asked' }])
    expect(await left.store.commit([move(JOB, 'queued', 'cancelled', 2)])).toEqual([OK])
  })

  test.each(['succeeded', 'failed'] as const)(
    'before a job was %s wins, and one after it is too late',
    async (outcome) => {
      await left.store.commit(upTo(JOB, 'running').changes)
      await right.shared.ask(JOB, CANCEL)
      expect(await left.store.commit([move(JOB, 'running', outcome, 3)])).toEqual([{ ok: false, why: 'asked' }])
      const other = recordNamed('b')
      await left.store.commit(upTo(other, outcome).changes)
      expect(await right.shared.ask(other, CANCEL)).toEqual({ kind: 'ended' })
    },
  )
})

describe('an ask and a claim', () => {
  test('that comes first: the claim is refused and ends the job', async () => {
    await left.store.commit([createWaiting(JOB)])
    await right.shared.ask(JOB, CANCEL)
    expect(await left.shared.claim(JOB)).toEqual({ kind: 'asked', record: JOB, request: CANCEL })
    expect(await left.store.commit([move(JOB, 'queued', 'cancelled', 2)])).toEqual([OK])
  })

  test('that comes second: the owner is asked', async () => {
    await left.store.commit([createWaiting(JOB)])
    expect(await left.shared.claim(JOB)).toEqual({ kind: 'claimed', record: JOB })
    expect(await right.shared.ask(JOB, CANCEL)).toEqual({ kind: 'owned', owner: 'left' })
    expect(await right.store.commit([move(JOB, 'queued', 'cancelled', 2)])).toEqual([{ ok: false, why: 'fenced' }])
    expect(await left.store.commit([move(JOB, 'queued', 'running', 2)])).toEqual([OK_ASKED])
  })

  test('at once: either way the job is asked, or its claim refused', async () => {
    for (let n = 0; n < 100; n += 1) {
      const job = recordNamed(`r${n}`)
      await left.store.commit([createWaiting(job)])
      const calls = [() => left.shared.claim(job), () => right.shared.ask(job, CANCEL)]
      const order = n % 2 === 0 ? calls : calls.toReversed()
      const kinds = (await Promise.all(order.map((call) => call()))).map(({ kind }) => kind).toSorted()
      expect([
        ['asked', 'queued'],
        ['claimed', 'owned'],
      ]).toContainEqual(kinds)
    }
  })
})

describe('an ask and a seal', () => {
  test('that comes first: the seal is refused', async () => {
    await left.store.commit(upTo(JOB, 'running').changes)
    await right.shared.ask(JOB, STOP)
    expect(await left.shared.seal(JOB)).toEqual({ kind: 'asked', request: STOP })
    await left.store.commit([move(JOB, 'running', 'stopping', 3)])
    expect(await left.shared.seal(JOB)).toEqual({ kind: 'sealed' })
  })

  test('that comes second: nothing is asked, and the outcome stands', async () => {
    await left.store.commit(upTo(JOB, 'running').changes)
    expect(await left.shared.seal(JOB)).toEqual({ kind: 'sealed' })
    expect(await left.shared.seal(JOB)).toEqual({ kind: 'sealed' })
    expect(await right.shared.ask(JOB, CANCEL)).toEqual({ kind: 'sealed' })
    expect(await left.store.commit([move(JOB, 'running', 'succeeded', 3)])).toEqual([OK])
    expect(await right.shared.ask(JOB, CANCEL)).toEqual({ kind: 'ended' })
    expect(await left.shared.seal(JOB)).toEqual({ kind: 'fenced' })
  })

  test('only its owner seals a job', async () => {
    await left.store.commit(upTo(JOB, 'running').changes)
    expect(await right.shared.seal(JOB)).toEqual({ kind: 'fenced' })
    expect(await right.shared.seal(recordNamed('none'))).toEqual({ kind: 'fenced' })
    expect(await right.shared.ask(JOB, CANCEL)).toEqual({ kind: 'owned', owner: 'left' })
  })
})

describe('a request for a job that is not known', () => {
  test('stands when the job is created, and is used up by it', async () => {
    const before = Date.now()
    const answer = await right.shared.askOrRemember(JOB, CANCEL, REMEMBER)
    expect(answer).toEqual({ kind: 'remembered', request: CANCEL, expiresAt: expect.any(Number) })
    if (answer.kind !== 'remembered') throw new Error('it must be remembered')
    expect(answer.expiresAt - before).toBeGreaterThan(59_000)
    expect(await left.store.listTombstones()).toEqual([{ name: JOB.id, request: CANCEL, expiresAt: answer.expiresAt }])
    expect(await left.store.commit([createWaiting(JOB)])).toEqual([OK_ASKED])
    expect(await left.shared.asked(JOB)).toEqual(CANCEL)
    expect(await left.store.listTombstones()).toEqual([])
    expect(await left.store.commit([move(JOB, 'queued', 'cancelled', 2)])).toEqual([OK])
  })

  test('is not remembered where the job is there, in either order', async () => {
    await left.store.commit([createWaiting(JOB)])
    expect(await right.shared.askOrRemember(JOB, CANCEL, REMEMBER)).toEqual({ kind: 'queued', request: CANCEL })
    expect(await left.store.listTombstones()).toEqual([])
    for (let n = 0; n < 100; n += 1) {
      const job = recordNamed(`r${n}`)
      const calls = [
        () => left.store.commit([createWaiting(job)]),
        () => right.shared.askOrRemember(job, CANCEL, REMEMBER),
      ]
      await Promise.all((n % 2 === 0 ? calls : calls.toReversed()).map((call) => call()))
      expect(await left.shared.asked(job)).toEqual(CANCEL)
    }
  })

  test('is the stronger of several, and of that of its group, which stays', async () => {
    const group = parseGroupId('group-0001')
    const [first, second] = [recordNamed('a', { group }), recordNamed('b', { group })]
    await left.shared.rememberGroup('default', group, CANCEL, REMEMBER)
    await left.shared.askOrRemember(first, STOP, REMEMBER)
    expect(await left.shared.askOrRemember(first, requestFor('stop', 'second'), REMEMBER)).toMatchObject({
      request: STOP,
    })
    expect(await right.store.commit([create(first), createWaiting(second)])).toEqual([OK_ASKED, OK_ASKED])
    expect(await left.shared.asked(first)).toEqual(CANCEL)
    expect(await left.shared.asked(second)).toEqual(CANCEL)
    expect(await left.store.listTombstones()).toHaveLength(1)
    const elsewhere = recordNamed('c', { group, tenant: 'other' })
    expect(await right.store.commit([createWaiting(elsewhere)])).toEqual([OK])
  })

  test('expires, by the time after it was asked last', async () => {
    const short = { ...REMEMBER, keepMs: 40 }
    await right.shared.askOrRemember(JOB, CANCEL, short)
    await expect.poll(() => left.store.listTombstones(), { interval: 5 }).toEqual([])
    expect(await left.store.commit([createWaiting(JOB)])).toEqual([OK])
    const other = recordNamed('b')
    await right.shared.askOrRemember(other, STOP, short)
    await expect.poll(() => left.store.listTombstones(), { interval: 5 }).toEqual([])
    await right.shared.askOrRemember(other, requestFor('stop', 'later'), REMEMBER)
    expect(await left.store.commit([createWaiting(other)])).toEqual([OK_ASKED])
    expect(await left.shared.asked(other)).toMatchObject({ reason: 'later' })
  })

  test('is refused past the limit of a client and of all, until one of them is used or expired', async () => {
    const ask = (name: string, client: string, keepMs = 60_000) =>
      right.shared.askOrRemember(recordNamed(name), CANCEL, { ...REMEMBER, client, keepMs })
    const kindsOf = async (...asks: Parameters<typeof ask>[]) => {
      const kinds = []
      for (const args of asks) kinds.push((await ask(...args)).kind)
      return kinds
    }
    const [kept, full] = ['remembered', 'full']
    expect(await kindsOf(['a', 'anna'], ['b', 'anna', 700], ['c', 'anna'], ['a', 'anna'])).toEqual([
      kept,
      kept,
      full,
      kept,
    ])
    expect(await kindsOf(['c', 'bert'], ['d', 'carl'], ['c', 'anna'])).toEqual([kept, full, kept])
    await expect.poll(() => left.store.listTombstones(), { interval: 5, timeout: 10_000 }).toHaveLength(2)
    expect(await kindsOf(['d', 'anna'], ['e', 'anna'])).toEqual([kept, full])
    await left.store.commit([createWaiting(recordNamed('a'))])
    expect(await kindsOf(['e', 'anna'], ['f', 'bert'])).toEqual([kept, full])
  })
})
