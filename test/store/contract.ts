import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { StoredTombstone } from '../../src/job/cancellation.ts'
import { parseGroupId, parseJobId } from '../../src/job/id.ts'
import type { JobRef } from '../../src/job/key.ts'
import type { JobRecord } from '../../src/job/record.ts'
import type { JobRequest, NumberedRequest } from '../../src/job/request.ts'
import { isTerminal, type JobStatus, STATUSES } from '../../src/job/status.ts'
import type {
  ChangeResult,
  EventBatch,
  JobStore,
  JobStoreLimits,
  ListFilter,
  StoreChange,
} from '../../src/store/JobStore.ts'
import {
  FIRST_REQUESTS_OF_JOB,
  FIRST_REQUESTS_OF_STRAY,
  MAX_REQUESTS_OF_JOB,
  MAX_REQUESTS_OF_STRAY,
  MAX_STRAYS,
} from '../../src/store/requestLimits.ts'
import { concrete, listFilters, type Op, REFS, rounds } from './arbitraries.ts'
import { ModelStore, shortened } from './ModelStore.ts'
import {
  append,
  batch,
  create,
  HOUR_MS,
  move,
  POLICY,
  recordNamed,
  refTo,
  remove,
  stateOf,
  statusBatch,
  upTo,
} from './records.ts'

/** A store of one test alone, which ends with the test. */
export interface OpenedStore {
  readonly store: JobStore
  /** Closes the store and opens it again on what it kept. */
  reopen(): Promise<JobStore>
}

const OK: ChangeResult = { ok: true }
const TERMINAL = STATUSES.filter(isTerminal)
const ACTIVE = ['queued', 'running', 'stopping', 'cancelling'] as const

function refused(why: Extract<ChangeResult, { ok: false }>['why']): ChangeResult {
  return { ok: false, why }
}

/** What every implementation of `JobStore` must do; one that is new is done when it passes. */
export function describeJobStore(name: string, open: (limits?: JobStoreLimits) => Promise<OpenedStore>): void {
  async function openWith(status: JobStatus): Promise<{ store: JobStore; job: JobRecord; lastSeq: number }> {
    const { store } = await open()
    const job = recordNamed('a')
    const { changes, lastSeq } = upTo(job, status)
    expect(await store.commit(changes)).toEqual(changes.map(() => OK))
    return { store, job, lastSeq }
  }

  describe(name, () => {
    test('an empty commit does nothing', async () => {
      const { store } = await open()
      expect(await store.commit([])).toEqual([])
    })

    test('a check passes', async () => {
      const { store } = await open()
      await store.check()
      await store.check()
    })

    describe('a record', () => {
      test.each(STATUSES)('comes back as it was written when it is %s', async (status) => {
        const { store, job, lastSeq } = await openWith(status)
        const record = { ...job, state: stateOf(status), lastSeq }
        expect(await store.lookup(job)).toEqual({ kind: 'found', record })
      })

      test('comes back with everything optional, and any text', async () => {
        const { store } = await open()
        const text = 'ü€😀\u0000\n"\\ end'
        const job = recordNamed('a', {
          group: parseGroupId('group-0001'),
          parentId: parseJobId('job_parent'),
          workspaceOf: parseJobId('job_grandparent'),
          idempotencyKey: 'key 1',
          trace: { traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', tracestate: text },
          input: { text, deep: [{ text }, 1e300, -0.5, true] },
          metadata: { text },
          tenant: 'other',
        })
        expect(await store.commit([create(job)])).toEqual([OK])
        expect(await store.lookup(job)).toEqual({ kind: 'found', record: job })
        expect(await store.findByIdempotencyKey('other', 'key 1')).toEqual(job)
      })

      test('may be created ended', async () => {
        const { store } = await open()
        const job = recordNamed('a', { state: stateOf('cancelled'), lastSeq: 2 })
        expect(await store.commit([create(job)])).toEqual([OK])
        expect(await store.lookup(job)).toEqual({ kind: 'found', record: job })
        expect(await store.commit([append(job, 3)])).toEqual([refused('status')])
        expect(await linesOf(store, job)).toEqual(batch(1, 2).lines.split('\n'))
      })

      test('is unknown in another tenant', async () => {
        const { store, job } = await openWith('running')
        const stranger = { tenant: 'other', id: job.id }
        expect(await store.lookup(stranger)).toEqual({ kind: 'unknown' })
        expect(await store.list({ tenant: 'other', limit: 10 })).toEqual([])
        expect(await store.commit([append(stranger, 3)])).toEqual([refused('missing')])
        expect(await store.commit([create({ ...job, tenant: 'other' })])).toEqual([OK])
      })
    })

    describe('create', () => {
      test.each(['queued', 'running', 'succeeded'] as const)('is refused where a %s job has the id', async (status) => {
        const { store, job } = await openWith(status)
        const before = await store.lookup(job)
        expect(await store.commit([create({ ...job, fingerprint: 'another' })])).toEqual([refused('exists')])
        expect(await store.lookup(job)).toEqual(before)
      })

      test('is refused where an earlier change of the commit took the id', async () => {
        const { store } = await open()
        const job = recordNamed('a')
        expect(await store.commit([create(job), create(job)])).toEqual([OK, refused('exists')])
      })

      test('is refused where the idempotency key is used, also by a job that has ended, until that is deleted', async () => {
        const { store } = await open()
        const first = recordNamed('a', { idempotencyKey: 'key' })
        const second = recordNamed('b', { idempotencyKey: 'key' })
        await store.commit(upTo(first, 'succeeded').changes)
        expect(await store.commit([create(second)])).toEqual([refused('key_taken')])
        expect(await store.lookup(second)).toEqual({ kind: 'unknown' })
        expect(await store.commit([remove(first), create(second)])).toEqual([OK, OK])
        expect(await store.findByIdempotencyKey(second.tenant, 'key')).toEqual(second)
      })

      test('of the same idempotency key in another tenant is another job', async () => {
        const { store } = await open()
        const first = recordNamed('a', { idempotencyKey: 'key' })
        const second = recordNamed('b', { idempotencyKey: 'key', tenant: 'other' })
        expect(await store.commit([create(first), create(second)])).toEqual([OK, OK])
        expect(await store.findByIdempotencyKey('other', 'key')).toEqual(second)
        expect(await store.findByIdempotencyKey('third', 'key')).toBeUndefined()
      })

      test('is refused where its events do not begin at 1', async () => {
        const { store } = await open()
        const job = recordNamed('a')
        expect(await store.commit([{ kind: 'create', record: job, events: batch(2) }])).toEqual([refused('sequence')])
        expect(await store.lookup(job)).toEqual({ kind: 'unknown' })
      })
    })

    describe('move', () => {
      test('takes effect once: of two from the same status the first wins, in either order', async () => {
        for (const [winner, loser] of [
          ['succeeded', 'cancelling'],
          ['cancelling', 'succeeded'],
        ] as const) {
          const { store, job, lastSeq } = await openWith('running')
          const results = await Promise.all([
            store.commit([move(job, 'running', winner, lastSeq + 1)]),
            store.commit([move(job, 'running', loser, lastSeq + 1)]),
          ])
          expect(results).toEqual([[OK], [refused('status')]])
          expect(await store.lookup(job)).toMatchObject({ record: { state: stateOf(winner), lastSeq: lastSeq + 1 } })
        }
      })

      test.each(TERMINAL)('is refused where the job is %s', async (status) => {
        const { store, job, lastSeq } = await openWith(status)
        const moves = ACTIVE.map((from) => move(job, from, 'cancelling', lastSeq + 1))
        expect(await store.commit(moves)).toEqual(moves.map(() => refused('status')))
        expect(await linesOf(store, job)).toHaveLength(lastSeq)
      })

      test('is refused where its events do not follow, and then changes nothing', async () => {
        const { store, job, lastSeq } = await openWith('running')
        for (const seq of [lastSeq, lastSeq + 2]) {
          expect(await store.commit([move(job, 'running', 'succeeded', seq)])).toEqual([refused('sequence')])
        }
        expect(await store.lookup(job)).toMatchObject({ record: { state: stateOf('running'), lastSeq } })
        expect(await store.commit([move(job, 'running', 'succeeded', lastSeq + 1)])).toEqual([OK])
      })

      test('is refused where there is no such job', async () => {
        const { store } = await open()
        expect(await store.commit([move(recordNamed('a'), 'running', 'failed', 2)])).toEqual([refused('missing')])
      })

      test('replaces the input where it brings one', async () => {
        const { store, job } = await openWith('queued')
        await store.commit([{ ...move(job, 'queued', 'running', 2), input: { command: '[redacted]' } }])
        expect(await store.lookup(job)).toMatchObject({ record: { input: { command: '[redacted]' } } })
      })

      test("takes a job that is nobody's, and one of another replica for that one", async () => {
        const { store } = await open()
        const [waiting, elsewhere] = [recordNamed('a'), recordNamed('b')]
        const created = [
          { ...create(waiting), owner: '', waitsUntil: Date.now() + HOUR_MS },
          { ...create(elsewhere), owner: 'elsewhere' },
        ]
        expect(await store.commit(created)).toEqual([OK, OK])
        expect(await store.commit([move(waiting, 'queued', 'running', 2), append(waiting, 3)])).toEqual([OK, OK])
        expect(await store.commit([{ ...move(elsewhere, 'queued', 'interrupted', 2), owner: 'elsewhere' }])).toEqual([
          OK,
        ])
      })
    })

    describe('append', () => {
      test.each(['queued', 'running', 'stopping'] as const)('adds to the log of a %s job', async (status) => {
        const { store, job, lastSeq } = await openWith(status)
        expect(await store.commit([append(job, lastSeq + 1, 3), append(job, lastSeq + 4)])).toEqual([OK, OK])
        expect(await store.lookup(job)).toMatchObject({ record: { lastSeq: lastSeq + 4 } })
        expect(await store.list({ tenant: job.tenant, limit: 1 })).toMatchObject([{ lastSeq: lastSeq + 4 }])
        expect((await linesOf(store, job)).slice(lastSeq)).toEqual(batch(lastSeq + 1, 4).lines.split('\n'))
      })

      test.each(['cancelling', ...TERMINAL] as const)('is refused where the job is %s', async (status) => {
        const { store, job, lastSeq } = await openWith(status)
        expect(await store.commit([append(job, lastSeq + 1)])).toEqual([refused('status')])
        expect(await linesOf(store, job)).toHaveLength(lastSeq)
      })

      test('is refused in the commit that cancels the job, and accepted before it', async () => {
        const { store, job } = await openWith('running')
        const changes = [append(job, 3), move(job, 'running', 'cancelling', 4), append(job, 5)]
        expect(await store.commit(changes)).toEqual([OK, OK, refused('status')])
      })

      test('is refused where it does not follow the last event, and where it is empty', async () => {
        const { store, job } = await openWith('running')
        const changes = [append(job, 2), append(job, 4), append(job, 3, 0), append(job, 3)]
        const results = [refused('sequence'), refused('sequence'), refused('sequence'), OK]
        expect(await store.commit(changes)).toEqual(results)
      })

      test('is refused where there is no such job', async () => {
        const { store } = await open()
        expect(await store.commit([append(recordNamed('a'), 1)])).toEqual([refused('missing')])
      })
    })

    describe('policy', () => {
      test('replaces the policy of a job that has not ended', async () => {
        const { store, job } = await openWith('running')
        const policy = { ...POLICY, onDisconnect: 'continue', disconnectGraceMs: 5 } as const
        expect(await store.commit([{ kind: 'policy', ref: refTo(job), policy }])).toEqual([OK])
        expect(await store.lookup(job)).toMatchObject({ record: { policy } })
      })

      test('is refused where the job has ended, or is missing', async () => {
        const { store, job } = await openWith('failed')
        const stranger = recordNamed('b')
        expect(await store.commit([{ kind: 'policy', ref: refTo(job), policy: POLICY }])).toEqual([refused('status')])
        expect(await store.commit([{ kind: 'policy', ref: refTo(stranger), policy: POLICY }])).toEqual([
          refused('missing'),
        ])
      })
    })

    describe('settled', () => {
      test('is noted on an abandoned job', async () => {
        const { store, job } = await openWith('abandoned')
        expect(await store.commit([{ kind: 'settled', ref: refTo(job), settledAt: 5_000 }])).toEqual([OK])
        expect(await store.lookup(job)).toMatchObject({
          record: { state: { ...stateOf('abandoned'), settledAt: 5_000 } },
        })
      })

      test.each(STATUSES.filter((status) => status !== 'abandoned'))('is refused on a %s job', async (status) => {
        const { store, job } = await openWith(status)
        const change = { kind: 'settled', ref: refTo(job), settledAt: 5_000 } as const
        expect(await store.commit([change])).toEqual([refused('status')])
        expect(await store.commit([{ ...change, ref: recordNamed('b') }])).toEqual([refused('missing')])
      })
    })

    describe('delete', () => {
      test.each(TERMINAL)('forgets a %s job, its log and its key', async (status) => {
        const { store } = await open()
        const job = recordNamed('a', { idempotencyKey: 'key' })
        await store.commit(upTo(job, status).changes)
        expect(await store.commit([remove(job)])).toEqual([OK])
        expect(await store.lookup(job)).toEqual({ kind: 'spent' })
        expect(await store.findByIdempotencyKey(job.tenant, 'key')).toBeUndefined()
        expect(await store.list({ tenant: job.tenant, limit: 10 })).toEqual([])
        expect(await store.readEvents(job, 0, 1e6)).toEqual([])
        expect(await store.commit([remove(job)])).toEqual([refused('missing')])
      })

      test.each(ACTIVE)('is refused where the job is %s', async (status) => {
        const { store, job } = await openWith(status)
        expect(await store.commit([remove(job)])).toEqual([refused('status')])
        expect(await store.lookup(job)).toMatchObject({ kind: 'found' })
      })

      test('keeps the id from use while it is spent', async () => {
        const { store, job } = await openWith('succeeded')
        expect(await store.commit([remove(job), create(job)])).toEqual([OK, refused('spent')])
        expect(await store.commit([create({ ...job, tenant: 'other' })])).toEqual([OK])
      })

      test('is told of for many at once', async () => {
        const { store } = await open()
        const [there, deleted, forgotten, never] = ['a', 'b', 'c', 'd'].map((name) => recordNamed(name)) as [
          JobRecord,
          JobRecord,
          JobRecord,
          JobRecord,
        ]
        await store.commit([there, deleted, forgotten].flatMap((job) => upTo(job, 'succeeded').changes))
        await store.commit([remove(deleted), remove(forgotten, Date.now() - 1)])
        const elsewhere = { ...refTo(there), tenant: 'other' }
        const kinds = await store.lookupKinds([never, there, deleted, forgotten, elsewhere])
        expect(kinds).toEqual(['unknown', 'found', 'spent', 'unknown', 'unknown'])
        expect(await store.lookupKinds([])).toEqual([])
        expect(await store.commit([create(forgotten)])).toEqual([OK])
      })

      test('lets the id be used again afterwards, with nothing of the job that had it', async () => {
        const { store, job } = await openWith('succeeded')
        expect(await store.commit([remove(job, Date.now() - 1)])).toEqual([OK])
        expect(await store.lookup(job)).toEqual({ kind: 'unknown' })
        expect(await store.commit([create(job)])).toEqual([OK])
        expect(await store.lookup(job)).toEqual({ kind: 'found', record: job })
        expect(await linesOf(store, job)).toEqual(batch(1).lines.split('\n'))
        expect(await store.commit([append(job, 2)])).toEqual([OK])
      })
    })

    describe('a commit', () => {
      test('writes what is accepted and nothing of what is refused', async () => {
        const { store, job, lastSeq } = await openWith('running')
        const other = recordNamed('b')
        const changes = [append(job, 99), create(other), create(job), append(job, lastSeq + 1)]
        expect(await store.commit(changes)).toEqual([refused('sequence'), OK, refused('exists'), OK])
        expect(await store.lookup(other)).toEqual({ kind: 'found', record: other })
        expect(await linesOf(store, job)).toHaveLength(lastSeq + 1)
      })

      test('takes effect in the order of the calls, without waiting for the one before', async () => {
        const { store, job, lastSeq } = await openWith('running')
        const calls = Array.from({ length: 200 }, (_, index) => store.commit([append(job, lastSeq + 1 + index)]))
        expect(await Promise.all(calls)).toEqual(calls.map(() => [OK]))
      })
    })

    describe('a list', () => {
      test('is newest first, by id where the times are equal, and shows neither input nor result', async () => {
        const { store } = await open()
        const jobs = ['c', 'a', 'd', 'b'].map((id) => recordNamed(id, { createdAt: 5_000 }))
        const newer = recordNamed('0', { createdAt: 5_001 })
        const older = recordNamed('z', { createdAt: 4_999 })
        await store.commit([...jobs, newer, older].flatMap((job) => upTo(job, 'succeeded').changes))
        const listed = await store.list({ tenant: older.tenant, limit: 10 })
        expect(listed.map(({ id }) => id)).toEqual(['0', 'd', 'c', 'b', 'a', 'z'].map((id) => recordNamed(id).id))
        const [first] = listed
        expect(first).toEqual(shortened({ ...newer, state: stateOf('succeeded'), lastSeq: 3 }))
      })

      test('shows a job as it is found alone too', async () => {
        const { store, job } = await openWith('succeeded')
        expect(await store.findListed(job)).toEqual((await store.list({ tenant: job.tenant, limit: 1 }))[0])
        const running = recordNamed('b')
        await store.commit([...upTo(running, 'running').changes, append(running, 3, 4)])
        expect(await store.findListed(running)).toMatchObject({ id: running.id, lastSeq: 6, input: null })
        await store.commit([remove(job)])
        expect(await store.findListed(job)).toBeUndefined()
        expect(await store.findListed({ ...refTo(running), tenant: 'other' })).toBeUndefined()
      })

      test('gives every job once, page by page, whatever is added meanwhile', async () => {
        const { store } = await open()
        const jobs = Array.from({ length: 30 }, (_, n) =>
          recordNamed(`m${n}`, { createdAt: 1_000 + Math.floor(n / 7) }),
        )
        await store.commit(jobs.map(create))
        const seen: string[] = []
        let filter: ListFilter = { tenant: 'default', limit: 4 }
        for (let page = await store.list(filter); page.length > 0; page = await store.list(filter)) {
          seen.push(...page.map(({ id }) => id))
          const last = page.at(-1)
          if (last !== undefined) filter = { ...filter, before: { createdAt: last.createdAt, id: last.id } }
          await store.commit([create(recordNamed(`x${seen.length}`, { createdAt: 2_000 }))])
        }
        expect(seen).toHaveLength(30)
        expect(new Set(seen)).toEqual(new Set(jobs.map(({ id }) => id)))
      })

      test('keeps to every filter, alone and together', async () => {
        const { store } = await open()
        const [groupA, groupB] = [parseGroupId('group-aaa'), parseGroupId('group-bbb')]
        const parentId = parseJobId('job_parent')
        const model = new ModelStore()
        const statuses = ['queued', 'running', 'succeeded', 'cancelled'] as const
        for (let n = 0; n < 64; n++) {
          const job = recordNamed(`n${n}`, {
            createdAt: 1_000 + (n % 5),
            task: n % 2 === 0 ? 'agent' : 'command',
            ...(n % 3 === 0 ? { group: n % 6 === 0 ? groupA : groupB } : {}),
            ...(n % 4 === 0 ? { parentId } : {}),
          })
          const { changes } = upTo(job, statuses[n % statuses.length] ?? 'queued')
          for (const change of changes) model.apply(change)
          await store.commit(changes)
        }
        for (const picked of [undefined, [], ['running'], ['queued', 'succeeded', 'failed']] as const) {
          for (const task of [undefined, 'agent', 'nothing']) {
            for (const group of [undefined, groupA]) {
              for (const parent of [undefined, parentId]) {
                const filter = {
                  tenant: 'default',
                  limit: 7,
                  ...(picked === undefined ? {} : { statuses: picked }),
                  ...(task === undefined ? {} : { task }),
                  ...(group === undefined ? {} : { group }),
                  ...(parent === undefined ? {} : { parentId: parent }),
                }
                expect(await store.list(filter)).toEqual(model.list(filter))
              }
            }
          }
        }
      })

      test('of a group is not needed to say how many of it have ended', async () => {
        const { store } = await open()
        const [group, other] = [parseGroupId('group-aaa'), parseGroupId('group-bbb')]
        const grouped = STATUSES.map((status, n) => upTo(recordNamed(`n${n}`, { group }), status))
        const alone = [recordNamed('a'), recordNamed('b', { group: other }), recordNamed('c', { group, tenant: 'it' })]
        await store.commit([...grouped, ...alone.map((job) => upTo(job, 'failed'))].flatMap(({ changes }) => changes))
        expect(await store.countEnded('default', group)).toBe(TERMINAL.length)
        await store.commit([remove(recordNamed(`n${STATUSES.indexOf('failed')}`))])
        expect(await store.countEnded('default', group)).toBe(TERMINAL.length - 1)
        expect(await store.countEnded('it', group)).toBe(1)
        expect(await store.countEnded('nobody', group)).toBe(0)
      })

      test('of active jobs has those of every tenant, oldest first, with their input', async () => {
        const { store } = await open()
        const jobs = STATUSES.map((status, n) =>
          recordNamed(status.slice(0, 5) + status.length, {
            createdAt: 100 - n,
            tenant: n % 2 === 0 ? 'default' : 'other',
          }),
        )
        for (const [n, job] of jobs.entries()) await store.commit(upTo(job, STATUSES[n] ?? 'queued').changes)
        const active = await store.listActive()
        expect(active.map(({ state }) => state.status)).toEqual(['cancelling', 'stopping', 'running', 'queued'])
        expect(active.map(({ input }) => input)).not.toContain(null)
      })
    })

    describe('the log', () => {
      test('is read in pages of whole batches, from any place to its end', async () => {
        const { store, job, lastSeq } = await openWith('running')
        const sizes = Array.from({ length: 300 }, (_, n) => 1 + (n % 7))
        let seq = lastSeq
        for (const count of sizes) {
          await store.commit([append(job, seq + 1, count)])
          seq += count
        }
        const all = batch(1, seq).lines.split('\n')
        expect(await linesOf(store, job)).toEqual(all)
        for (const after of [0, 1, 2, 5, 63, 64, 65, 500, seq - 1, seq, seq + 10]) {
          for (const maxBytes of [1, 100, 3_000, 1e9]) {
            expect(await linesOf(store, job, after, maxBytes)).toEqual(all.slice(after))
          }
        }
      })

      test('gives one batch at least, and stops once the bytes are reached', async () => {
        const { store, job } = await openWith('running')
        const ten = batch(3, 10)
        await store.commit([append(job, 3, 10), append(job, 13, 10), append(job, 23, 10)])
        expect(await store.readEvents(job, 2, 1)).toEqual([ten])
        expect(await store.readEvents(job, 2, Buffer.byteLength(ten.lines))).toEqual([ten])
        expect(await store.readEvents(job, 2, Buffer.byteLength(ten.lines) + 1)).toHaveLength(2)
        const [within] = await store.readEvents(job, 5, 1)
        expect(within).toEqual(ten)
      })

      test('begins at 1, and has nothing after its end', async () => {
        const { store, job, lastSeq } = await openWith('succeeded')
        expect((await store.readEvents(job, 0, 1e6))[0]).toMatchObject({ firstSeq: 1 })
        expect(await store.readEvents(job, lastSeq, 1e6)).toEqual([])
        expect(await store.readEvents(recordNamed('b'), 0, 1e6)).toEqual([])
      })
    })

    describe('a log that grows too long', () => {
      /** Commits one batch of output, a few KiB long, and returns the number of its last event. */
      async function say(store: JobStore, job: JobRecord, seq: number, count = 4): Promise<number> {
        const events = batch(seq + 1, count, 'x'.repeat(1000))
        expect(await store.commit([{ kind: 'append', ref: refTo(job), events }])).toEqual([OK])
        return events.lastSeq
      }

      async function keptOf(store: JobStore, job: JobRecord, maxBytes = 64 * 1024): Promise<readonly EventBatch[]> {
        const kept: EventBatch[] = []
        for (;;) {
          const page = await store.readEvents(job, kept.at(-1)?.lastSeq ?? 0, maxBytes)
          if (page.length === 0) return kept
          kept.push(...page)
        }
      }

      const bytesOf = (batches: readonly EventBatch[]): number =>
        batches.reduce((sum, { lines }) => sum + Buffer.byteLength(lines), 0)

      test.each([3_000, 50_000, 1_000_000])(
        'loses its oldest output and nothing else, at a limit of %i',
        async (maxLogBytes) => {
          const { store } = await open({ maxLogBytes })
          const job = recordNamed('a')
          await store.commit([{ kind: 'create', record: job, events: statusBatch(1, 'queued') }])
          await store.commit([
            {
              kind: 'move',
              ref: refTo(job),
              from: 'queued',
              state: stateOf('running'),
              events: statusBatch(2, 'started'),
            },
          ])
          let seq = 2
          for (let n = 0; n < 300; n += 1) {
            seq = await say(store, job, seq, 1 + (n % 7))
            if (n % 50 > 0) continue
            const kept = await keptOf(store, job)
            const newest = kept.at(-1)
            expect(newest?.lastSeq).toBe(seq)
            expect(bytesOf(kept)).toBeLessThanOrEqual(Math.max(maxLogBytes, bytesOf(newest ? [newest] : []) + 100))
          }
          await store.commit([
            {
              kind: 'move',
              ref: refTo(job),
              from: 'running',
              state: stateOf('succeeded'),
              events: statusBatch(seq + 1, 'succeeded'),
            },
          ])
          const kept = await keptOf(store, job)
          expect(kept.slice(0, 2)).toEqual([statusBatch(1, 'queued'), statusBatch(2, 'started')])
          expect(kept.at(-1)).toEqual(statusBatch(seq + 1, 'succeeded'))
          expect(bytesOf(kept)).toBeLessThanOrEqual(Math.max(maxLogBytes, 8_000))
          // Of what is kept, the output is the newest, without a hole in it.
          const output = kept.slice(2, -1)
          const firstSeq = output[0]?.firstSeq ?? seq + 1
          const follows = output.map((_, index) => (output[index - 1]?.lastSeq ?? firstSeq - 1) + 1)
          expect(output.map((one) => one.firstSeq)).toEqual(follows)
          expect(firstSeq).toBeGreaterThan(3)
          for (const after of [0, 1, 2, 3, firstSeq - 2, firstSeq - 1, firstSeq, seq]) {
            for (const maxBytes of [1, 5_000, 1e9]) {
              const rest: EventBatch[] = []
              for (let place = after; ; place = rest.at(-1)?.lastSeq ?? place) {
                const page = await store.readEvents(job, place, maxBytes)
                if (page.length === 0) break
                rest.push(...page)
              }
              expect(rest).toEqual(kept.filter(({ lastSeq }) => lastSeq > after))
            }
          }
        },
      )

      test('is the same after it was opened again, and goes when its job does', async () => {
        const opened = await open({ maxLogBytes: 20_000 })
        const { store } = opened
        const [job, other] = [recordNamed('a'), recordNamed('b')]
        await store.commit([...upTo(job, 'running').changes, ...upTo(other, 'running').changes])
        let seq = 2
        for (let n = 0; n < 100; n += 1) seq = await say(store, job, seq)
        await say(store, other, 2)
        const kept = await keptOf(store, job)
        const again = await opened.reopen()
        expect(await keptOf(again, job)).toEqual(kept)
        expect(await again.commit([move(job, 'running', 'succeeded', seq + 1)])).toEqual([OK])
        expect(await keptOf(again, other)).toEqual([batch(1), batch(2), batch(3, 4, 'x'.repeat(1000))])
        await again.commit([remove(job)])
        expect(await keptOf(again, job)).toEqual([])
        expect((await keptOf(again, other)).length).toBe(3)
      })
    })

    describe('jobs that ended before a time', () => {
      test('are listed, the longest ago first, those of every tenant and no others', async () => {
        const { store } = await open()
        const jobs = TERMINAL.map((status, n) => ({
          status,
          job: recordNamed(`t${n}`, n % 2 === 0 ? {} : { tenant: 'other' }),
        }))
        for (const { status, job } of jobs) await store.commit(upTo(job, status).changes)
        const late = recordNamed('late', {
          state: { ...stateOf('succeeded'), endedAt: 1_500 } as JobRecord['state'],
          lastSeq: 1,
        })
        await store.commit([create(late), ...upTo(recordNamed('runs'), 'running').changes])
        expect(await store.listEndedBefore(1_500, 100)).toEqual([])
        expect(await store.listEndedBefore(1_501, 100)).toEqual([refTo(late)])
        const all = await store.listEndedBefore(2_001, 100)
        expect(all[0]).toEqual(refTo(late))
        expect(all.slice(1).toSorted(byId)).toEqual(jobs.map(({ job }) => refTo(job)).toSorted(byId))
        expect(await store.listEndedBefore(2_001, 3)).toHaveLength(3)
        await store.commit([remove(late)])
        expect(await store.listEndedBefore(1_501, 100)).toEqual([])
      })
    })

    describe('values of a task', () => {
      const value = (task: string, key: string, json: string | undefined, tenant = 'default') =>
        ({ kind: 'value', tenant, task, key, json }) as const
      const all = { prefix: '', after: '', limit: 1000 }

      test('are kept by tenant, task and key, replaced and deleted, also over a restart', async () => {
        const opened = await open()
        const { store } = opened
        const text = JSON.stringify('ü€😀\u0000\n"\\')
        expect(
          await store.commit([
            value('a', 'k', '1'),
            value('b', 'k', '2'),
            value('a', 'k', '3', 'other'),
            value('a', 'l', text),
          ]),
        ).toEqual([OK, OK, OK, OK])
        expect(await store.getValue('default', 'a', 'k')).toBe('1')
        expect(await store.getValue('default', 'b', 'k')).toBe('2')
        expect(await store.getValue('other', 'a', 'k')).toBe('3')
        expect(await store.getValue('other', 'b', 'k')).toBeUndefined()
        await store.commit([value('a', 'k', '4'), value('b', 'k', undefined), value('b', 'never', undefined)])
        const again = await opened.reopen()
        expect(await again.getValue('default', 'a', 'k')).toBe('4')
        expect(await again.getValue('default', 'a', 'l')).toBe(text)
        expect(await again.getValue('default', 'b', 'k')).toBeUndefined()
        expect(await again.listValueKeys('default', 'a', all)).toEqual(['k', 'l'])
        expect(await again.listValueKeys('default', 'b', all)).toEqual([])
      })

      test('are listed by prefix, in order, a page at a time', async () => {
        const { store } = await open()
        const keys = ['a', 'a%', 'a_b', 'ab', 'abc', 'b', 'ä', '😀', '😀x', '\u{10ffff}']
        await store.commit(keys.map((key) => value('t', key, 'null')))
        const list = (prefix: string, after = '', limit = 100) =>
          store.listValueKeys('default', 't', { prefix, after, limit })
        expect(await list('')).toEqual(keys)
        expect(await list('a')).toEqual(['a', 'a%', 'a_b', 'ab', 'abc'])
        expect(await list('a%')).toEqual(['a%'])
        expect(await list('a_')).toEqual(['a_b'])
        expect(await list('😀')).toEqual(['😀', '😀x'])
        expect(await list('', 'ab', 2)).toEqual(['abc', 'b'])
        expect(await list('a', 'abc')).toEqual([])
      })
    })

    describe('requests for jobs that are not known', () => {
      const later = Date.now() + HOUR_MS
      function remembered(at: string, expiresAt = later): StoredTombstone {
        const request = { kind: 'cancel', cause: 'cancel_requested', reason: 'enough', requestedAt: 1_000 } as const
        return { name: at, request, expiresAt }
      }
      function keep(tombstone: StoredTombstone): StoreChange {
        return { kind: 'tombstone', name: tombstone.name, tombstone }
      }

      test('are kept under their name, replaced and forgotten, also over a restart', async () => {
        const opened = await open()
        const [first, second] = [remembered('default/ö'), remembered('default/b')]
        const replaced = { ...second, request: { ...second.request, kind: 'stop', by: 'somebody' } } as const
        expect(await opened.store.commit([keep(first), keep(second), keep(replaced)])).toEqual([OK, OK, OK])
        const store = await opened.reopen()
        const found = await store.listTombstones()
        expect(found).toHaveLength(2)
        expect(found).toEqual(expect.arrayContaining([first, replaced]))
        const forget = { kind: 'tombstone', name: first.name, tombstone: undefined } as const
        expect(await store.commit([forget, { ...forget, name: 'nobody' }])).toEqual([OK, OK])
        expect(await store.listTombstones()).toEqual([replaced])
      })

      test('that have expired are not given', async () => {
        const { store } = await open()
        const live = remembered('default/b')
        await store.commit([keep(remembered('default/a', Date.now() - 1)), keep(live)])
        expect(await store.listTombstones()).toEqual([live])
      })
    })

    describe('what was asked of a job', () => {
      function asked(n: number, more: Partial<JobRequest> = {}): JobRequest {
        return { kind: 'cancel', by: `user ${n}`, at: 1_000 + n, reason: `ü\n${n}`, outcome: 'accepted', ...more }
      }
      function note(ref: JobRef, ...requests: readonly JobRequest[]): StoreChange {
        return { kind: 'requests', requests: requests.map((request) => ({ ref: refTo(ref), request })) }
      }
      function all(store: JobStore, ref: JobRef): Promise<readonly NumberedRequest[]> {
        return store.listRequests(refTo(ref), { after: 0, limit: 10_000 })
      }

      test('is numbered as it was written, read in pages, and there over a restart', async () => {
        const opened = await open()
        const [job, other] = [recordNamed('a'), recordNamed('b')]
        const group = parseGroupId('group-0001')
        const change = { onDisconnect: 'stop', disconnectGraceMs: 5 } as const
        const requests = [
          asked(1),
          asked(2, { kind: 'patch', change, outcome: 'TETHER_JOB_FINISHED' }),
          asked(3, { group }),
        ]
        await opened.store.commit([create(job), create(other), note(job, ...requests), note(other, asked(9))])
        expect(await opened.store.commit([note(job, asked(4))])).toEqual([OK])
        const store = await opened.reopen()
        const rows = [...requests, asked(4)].map((request, index) => ({ number: index + 1, ...request }))
        expect(await all(store, job)).toEqual(rows)
        expect(await store.listRequests(job, { after: 0, limit: 2 })).toEqual(rows.slice(0, 2))
        expect(await store.listRequests(job, { after: 2, limit: 1 })).toEqual(rows.slice(2, 3))
        expect(await store.listRequests(job, { after: 4, limit: 1 })).toEqual([])
        expect(await all(store, other)).toEqual([{ number: 1, ...asked(9) }])
        expect(await all(store, { ...refTo(job), tenant: 'other' })).toEqual([])
      })

      test('stays after the job was deleted, with what is asked then, until its id is free again', async () => {
        const { store } = await open()
        const job = recordNamed('a')
        await store.commit([...upTo(job, 'succeeded').changes, note(job, asked(1)), remove(job)])
        await store.commit([note(job, asked(2, { kind: 'delete', outcome: 'deleted' }))])
        expect(await all(store, job)).toMatchObject([{ number: 1 }, { number: 2, kind: 'delete' }])
      })

      test('is gone where the id is free, and not of the job that has it then', async () => {
        const { store } = await open()
        const job = recordNamed('a')
        await store.commit([...upTo(job, 'succeeded').changes, note(job, asked(1)), remove(job, Date.now() - 1)])
        expect(await all(store, job)).toEqual([])
        await store.commit([create(job)])
        expect(await all(store, job)).toEqual([])
        await store.commit([note(job, asked(2))])
        expect(await all(store, job)).toEqual([{ number: 1, ...asked(2) }])
      })

      test('before there was such a job is kept, and is its own once there is', async () => {
        const { store } = await open()
        const job = recordNamed('a')
        await store.commit([note(job, asked(1, { outcome: 'TETHER_JOB_NOT_FOUND' }))])
        expect(await all(store, job)).toMatchObject([{ number: 1 }])
        await store.commit([...upTo(job, 'running').changes, note(job, asked(2))])
        expect(await all(store, job)).toMatchObject([{ number: 1 }, { number: 2 }])
      })

      test('keeps the first and the newest where it is asked again and again', async () => {
        const { store } = await open()
        const job = recordNamed('a')
        await store.commit([create(job)])
        const requests = Array.from({ length: MAX_REQUESTS_OF_JOB + 50 }, (_, index) => asked(index + 1))
        await store.commit([note(job, ...requests)])
        const numbers = (await all(store, job)).map(({ number }) => number)
        expect(numbers).toHaveLength(MAX_REQUESTS_OF_JOB)
        expect(numbers.slice(0, FIRST_REQUESTS_OF_JOB + 1)).toEqual([
          ...Array.from({ length: FIRST_REQUESTS_OF_JOB }, (_, index) => index + 1),
          FIRST_REQUESTS_OF_JOB + 51,
        ])
        expect(numbers.at(-1)).toBe(MAX_REQUESTS_OF_JOB + 50)
      })

      test('of an id that no job has is little, and more once there is one', async () => {
        const { store } = await open()
        const job = recordNamed('a')
        const requests = Array.from({ length: MAX_REQUESTS_OF_STRAY + 30 }, (_, index) => asked(index + 1))
        await store.commit([note(job, ...requests)])
        const numbers = (await all(store, job)).map(({ number }) => number)
        expect(numbers).toHaveLength(MAX_REQUESTS_OF_STRAY)
        expect(numbers.slice(0, FIRST_REQUESTS_OF_STRAY + 1)).toEqual([
          ...Array.from({ length: FIRST_REQUESTS_OF_STRAY }, (_, index) => index + 1),
          FIRST_REQUESTS_OF_STRAY + 31,
        ])
        await store.commit([...upTo(job, 'failed').changes, note(job, asked(1), asked(2))])
        await store.commit([remove(job, Date.now() + HOUR_MS), note(job, asked(3))])
        expect(await all(store, job)).toHaveLength(MAX_REQUESTS_OF_STRAY + 3)
      })

      test('of ids that no job has is kept of the newest of them, and never pushes out what is of jobs', async () => {
        const { store } = await open()
        const [job, deleted] = [recordNamed('a'), recordNamed('b')]
        await store.commit([create(job), ...upTo(deleted, 'failed').changes, note(job, asked(1)), remove(deleted)])
        await store.commit([note(deleted, asked(2))])
        const strays = Array.from({ length: MAX_STRAYS + 2 }, (_, n) => ({
          tenant: 'default',
          id: parseJobId(`stray-${String(n).padStart(6, '0')}`),
        }))
        // One at a time: stores that order them by the time need it to pass.
        const [first, second, ...rest] = strays
        if (first === undefined || second === undefined) throw new Error('there are some')
        await store.commit([note(first, asked(1))])
        await store.commit([note(second, asked(1))])
        for (let n = 0; n < rest.length; n += 500) {
          await store.commit(rest.slice(n, n + 500).map((ref) => note(ref, asked(1))))
        }
        expect(await all(store, first)).toEqual([])
        expect(await all(store, rest.at(-1) ?? first)).toHaveLength(1)
        expect(await all(store, job)).toHaveLength(1)
        expect(await all(store, deleted)).toHaveLength(1)
      })

      test('of one id, asked again and again, pushes out that of no other', async () => {
        const { store } = await open()
        const [other, busy, last] = [recordNamed('a'), recordNamed('b'), recordNamed('c')]
        await store.commit([note(other, asked(1))])
        const requests = Array.from({ length: MAX_STRAYS / 10 }, (_, index) => asked(index + 1))
        for (let n = 0; n < 10; n += 1) await store.commit([note(busy, ...requests)])
        await store.commit([note(last, asked(1))])
        for (const ref of [other, last]) expect(await all(store, ref)).toHaveLength(1)
      })
    })

    describe('a store that is opened again', () => {
      test('has everything that was committed, and goes on from there', async () => {
        const opened = await open()
        const [running, cancelling, ended] = ['a', 'b', 'c'].map((id) => recordNamed(id))
        if (running === undefined || cancelling === undefined || ended === undefined) throw new Error('three jobs')
        await opened.store.commit([
          ...upTo(running, 'running').changes,
          ...upTo(cancelling, 'cancelling').changes,
          ...upTo(ended, 'succeeded').changes,
          append(running, 3, 5),
        ])
        const store = await opened.reopen()
        expect(await store.lookup(running)).toMatchObject({ record: { lastSeq: 7, state: stateOf('running') } })
        expect(await store.lookup(ended)).toMatchObject({ record: { lastSeq: 3, state: stateOf('succeeded') } })
        expect(await linesOf(store, running)).toEqual(batch(1, 7).lines.split('\n'))
        const changes = [append(running, 7), append(running, 8), append(cancelling, 4), append(ended, 4)]
        const results = [refused('sequence'), OK, refused('status'), refused('status')]
        expect(await store.commit(changes)).toEqual(results)
      })

      test('remembers which ids are spent', async () => {
        const opened = await open()
        const job = recordNamed('a')
        await opened.store.commit([...upTo(job, 'failed').changes, remove(job, Date.now() + HOUR_MS)])
        const store = await opened.reopen()
        expect(await store.lookup(job)).toEqual({ kind: 'spent' })
        expect(await store.commit([create(job)])).toEqual([refused('spent')])
      })
    })

    test('a store that is closed refuses everything, and closing it twice is harmless', async () => {
      const { store } = await open()
      await store.close()
      await store.close()
      const ref = refTo(recordNamed('a'))
      await expect(store.commit([create(recordNamed('a'))])).rejects.toThrow('closed')
      await expect(store.lookup(ref)).rejects.toThrow('closed')
      await expect(store.list({ tenant: 'default', limit: 1 })).rejects.toThrow('closed')
      await expect(store.listRequests(ref, { after: 0, limit: 1 })).rejects.toThrow('closed')
      await expect(store.readEvents(ref, 0, 1)).rejects.toThrow('closed')
      await expect(store.check()).rejects.toThrow('closed')
    })

    test('any commits, with reopenings between, leave what the model says', async () => {
      await fc.assert(
        fc.asyncProperty(rounds, listFilters, async (steps, filters) => {
          const opened = await open()
          const model = new ModelStore()
          let { store } = opened
          for (const { ops, reopen } of steps) {
            const { changes, expected } = applied(model, ops)
            expect(await store.commit(changes)).toEqual(expected)
            if (reopen) store = await opened.reopen()
            for (const ref of REFS) await expectSame(store, model, ref)
            for (const filter of filters) expect(await store.list(filter)).toEqual(model.list(filter))
            expect(await store.listActive()).toEqual(model.listActive())
          }
          await store.close()
        }),
        { numRuns: 60 },
      )
    })
  })
}

function byId(a: JobRef, b: JobRef): number {
  return a.id < b.id ? -1 : 1
}

/** The changes that the ops stand for where the model now is, each op after the one before. */
function applied(model: ModelStore, ops: readonly Op[]) {
  const steps = ops.map((op) => {
    const change = concrete(op, model)
    return { change, result: model.apply(change) }
  })
  return { changes: steps.map(({ change }) => change), expected: steps.map(({ result }) => result) }
}

async function expectSame(store: JobStore, model: ModelStore, ref: JobRef): Promise<void> {
  const found = model.lookup(ref)
  expect(await store.lookup(ref)).toEqual(found)
  if (found.kind !== 'found') return
  expect(await linesOf(store, ref, 0, 64)).toEqual(model.linesOf(ref))
  const key = found.record.idempotencyKey
  if (key !== undefined)
    expect(await store.findByIdempotencyKey(ref.tenant, key)).toEqual(model.recordByKey(ref.tenant, key))
}

/** Every line of a job's log after `after`, read in pages. */
export async function linesOf(
  store: JobStore,
  ref: JobRef,
  after = 0,
  maxBytes = 64 * 1024,
): Promise<readonly string[]> {
  const lines: string[] = []
  for (let seq = after; ; ) {
    const batches = await store.readEvents(ref, seq, maxBytes)
    if (batches.length === 0) return lines
    for (const { firstSeq, lastSeq, lines: text } of batches) {
      if (firstSeq > seq + 1) throw new Error(`event ${seq + 1} must come next, got ${firstSeq}`)
      const own = text.split('\n')
      expect(own).toHaveLength(lastSeq - firstSeq + 1)
      lines.push(...own.slice(seq + 1 - firstSeq))
      seq = lastSeq
    }
  }
}
