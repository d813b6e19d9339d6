import { describe, expect, test } from 'vitest'
import { parseJobId } from '../../src/job/id.ts'
import type { JobStore } from '../../src/store/JobStore.ts'
import type { Tether } from '../../src/tether.ts'
import { JumpingClock } from '../JumpingClock.ts'
import { eventually, Gate, HeldStore, openWorld, taskOf, temporaryFolder, untilRunning } from '../world.ts'
import { type Answer, ask, jobOf, startJob } from './requests.ts'

const HOUR_MS = 3_600_000
const waits = taskOf('waits', async (ctx) => ctx.sleep(2 ** 31 - 1))
/** Ends on a cancel alone. */
const holdsOn = taskOf('holds-on', async (ctx) => {
  await new Promise((resolve) => ctx.signal.addEventListener('abort', resolve))
})
const quick = taskOf('quick', async () => 'done')
const TOKEN = 'a-token-of-the-test'
const BEARER = { authorization: `Bearer ${TOKEN}` }

type Row = Readonly<Record<string, unknown>>

async function requestsOf(url: string, id: string, headers = {}): Promise<readonly Row[]> {
  const { json, status, text } = await ask(url, `/jobs/${id}/requests`, { headers })
  if (status !== 200) throw new Error(`${status}: ${text}`)
  const rows: readonly Row[] = JSON.parse(JSON.stringify(json['requests']))
  return rows
}

function end(url: string, id: string, kind: 'cancel' | 'stop', body: object = {}): Promise<Answer> {
  return ask(url, `/jobs/${id}/${kind}`, { body })
}

async function startEnded(url: string, jobId: string): Promise<void> {
  await startJob(url, { task: 'quick', jobId })
  await eventually(`${jobId} has ended`, async () => (await jobOf(url, jobId)).terminal)
}

describe('what was asked of a job (protocol, section 3)', () => {
  test('stands there with who and when, in order, refusals too', async () => {
    const { url } = await openWorld({ tasks: [holdsOn], settings: { API_TOKEN: TOKEN } })
    const headers = BEARER
    await ask(url, '/jobs', { body: { task: 'holds-on', jobId: 'job-12345' }, headers })
    expect(await requestsOf(url, 'job-12345', headers)).toEqual([])
    const before = Date.now()
    await ask(url, '/jobs/job-12345', { method: 'PATCH', body: { onDisconnect: 'stop' }, headers })
    await ask(url, '/jobs/job-12345', { method: 'DELETE', headers })
    await ask(url, '/jobs/job-12345/stop', { body: { reason: 'enough' }, headers })
    await ask(url, '/jobs/job-12345/cancel?wait=10', { body: { reason: 'now' }, headers })
    await ask(url, '/jobs/job-12345/cancel', { method: 'POST', headers })
    await ask(url, '/jobs/job-12345', { method: 'PATCH', body: { disconnectGraceMs: 1 }, headers })
    const rows = await requestsOf(url, 'job-12345', headers)
    expect(rows).toEqual(
      [
        { kind: 'patch', outcome: 'changed', reason: '', change: { onDisconnect: 'stop' } },
        { kind: 'delete', outcome: 'TETHER_JOB_ACTIVE', reason: '' },
        { kind: 'stop', outcome: 'accepted', reason: 'enough' },
        { kind: 'cancel', outcome: 'accepted', reason: 'now' },
        { kind: 'cancel', outcome: 'ended', reason: '' },
        { kind: 'patch', outcome: 'TETHER_JOB_FINISHED', reason: '', change: { disconnectGraceMs: 1 } },
      ].map((row, index) => ({ ...row, number: index + 1, by: 'token', at: expect.stringMatching(/Z$/) })),
    )
    const times = rows.map(({ at }) => Date.parse(String(at)))
    expect(times.every((time) => time >= before && time <= Date.now())).toBe(true)
    expect(times).toEqual(times.toSorted((a, b) => a - b))
  })

  test('has a 409 of a job that had ended with a result, and a 404 of one that is not there', async () => {
    const { url } = await openWorld({ tasks: [quick] })
    await startEnded(url, 'job-12345')
    expect((await end(url, 'job-12345', 'cancel', { reason: 'too late' })).status).toBe(409)
    expect(await requestsOf(url, 'job-12345')).toMatchObject([
      { kind: 'cancel', outcome: 'TETHER_JOB_FINISHED', reason: 'too late', by: '127.0.0.1' },
    ])
    expect((await end(url, 'job-99999', 'stop')).status).toBe(404)
    expect(await requestsOf(url, 'job-99999')).toMatchObject([{ kind: 'stop', outcome: 'TETHER_JOB_NOT_FOUND' }])
    expect((await ask(url, '/jobs/job-77777/requests')).json).toMatchObject({ code: 'TETHER_JOB_NOT_FOUND' })
  })

  test('has a 403 of who may not', async () => {
    const { url } = await openWorld({
      tasks: [waits],
      authenticate: ({ headers }) => ({
        tenant: 'acme',
        subject: String(headers.authorization),
        scopes: headers.authorization === 'ann' ? ['admin'] : ['read'],
      }),
    })
    await ask(url, '/jobs', { body: { task: 'waits', jobId: 'job-12345' }, headers: { authorization: 'ann' } })
    const headers = { authorization: 'bob' }
    for (const kind of ['cancel', 'stop'] as const) {
      expect((await ask(url, `/jobs/job-12345/${kind}`, { body: {}, headers })).status).toBe(403)
    }
    expect(
      (await ask(url, '/jobs/job-12345', { method: 'PATCH', body: { onDisconnect: 'stop' }, headers })).status,
    ).toBe(403)
    expect((await ask(url, '/jobs/job-12345', { method: 'DELETE', headers })).status).toBe(403)
    expect(await requestsOf(url, 'job-12345', { authorization: 'ann' })).toMatchObject(
      ['cancel', 'stop', 'patch', 'delete'].map((kind) => ({ kind, by: 'bob', outcome: 'TETHER_FORBIDDEN' })),
    )
  })

  test('has nothing of who is not known, and nothing that is no request', async () => {
    const { url } = await openWorld({ tasks: [waits], settings: { API_TOKEN: TOKEN } })
    await ask(url, '/jobs', { body: { task: 'waits', jobId: 'job-12345' }, headers: BEARER })
    expect((await ask(url, '/jobs/job-12345/cancel', { method: 'POST' })).status).toBe(401)
    const refused = await ask(url, '/jobs/job-12345/cancel', { body: { reason: 5 }, headers: BEARER })
    expect(refused.status).toBe(400)
    expect(await requestsOf(url, 'job-12345', BEARER)).toEqual([])
  })

  test('is there while the answer still waits for the end', async () => {
    const stubborn = new Gate()
    const task = taskOf('stubborn', async () => stubborn.opened)
    const tether = await openWorld({ tasks: [task] })
    const view = await startJob(tether.url, { task: 'stubborn', settleMs: 60_000 })
    await untilRunning(tether, { tenant: 'default', id: view.id as never })
    const answered = ask(tether.url, `/jobs/${view.id}/cancel?wait=60`, { body: {} })
    await eventually('it stands there', async () => (await requestsOf(tether.url, view.id)).length === 1)
    expect((await jobOf(tether.url, view.id)).status).toBe('cancelling')
    stubborn.open()
    expect((await answered).status).toBe(200)
    expect(await requestsOf(tether.url, view.id)).toMatchObject([{ outcome: 'accepted' }])
  })

  test('of a group stands at each member that had not ended', async () => {
    const { url } = await openWorld({ tasks: [waits, quick] })
    await startJob(url, { task: 'quick', jobId: 'job-ended', group: 'group-12345' })
    await eventually('it has ended', async () => (await jobOf(url, 'job-ended')).terminal)
    for (const jobId of ['job-first', 'job-second']) await startJob(url, { task: 'waits', jobId, group: 'group-12345' })
    await ask(url, '/groups/group-12345/cancel', { body: { reason: 'all of them' } })
    for (const id of ['job-first', 'job-second']) {
      expect(await requestsOf(url, id)).toMatchObject([{ kind: 'cancel', group: 'group-12345', reason: 'all of them' }])
    }
    expect(await requestsOf(url, 'job-ended')).toEqual([])
  })

  test('of a job that is not there yet is the first of its requests', async () => {
    const { url } = await openWorld({ tasks: [waits] })
    await end(url, 'job-12345', 'cancel', { ifUnknown: 'remember' })
    await startJob(url, { task: 'waits', jobId: 'job-12345' })
    await end(url, 'job-12345', 'cancel')
    expect(await requestsOf(url, 'job-12345')).toMatchObject([{ outcome: 'remembered' }, { outcome: 'ended' }])
  })

  test('is read in pages', async () => {
    const { url } = await openWorld({ tasks: [quick] })
    await startEnded(url, 'job-12345')
    for (let n = 1; n <= 5; n += 1) await end(url, 'job-12345', 'cancel', { reason: String(n) })
    const first = await ask(url, '/jobs/job-12345/requests?limit=2')
    expect(first.json).toMatchObject({ requests: [{ reason: '1' }, { reason: '2' }], nextAfter: 2 })
    const rest = await ask(url, '/jobs/job-12345/requests?limit=3&after=2')
    expect(rest.json).toMatchObject({ requests: [{ reason: '3' }, { reason: '4' }, { reason: '5' }], nextAfter: null })
    expect((await ask(url, '/jobs/job-12345/requests?after=5')).json).toEqual({ requests: [], nextAfter: null })
    for (const query of ['limit=0', 'limit=201', 'limit=x', 'other=1']) {
      expect([query, (await ask(url, `/jobs/job-12345/requests?${query}`)).status]).toEqual([query, 400])
    }
    expect((await ask(url, '/jobs/job-12345/requests?after=-1')).json).toMatchObject({ code: 'TETHER_INVALID_CURSOR' })
  })

  test('stays over a restart', async () => {
    const dataDir = await temporaryFolder()
    const first = await openWorld({ dataDir, tasks: [quick] })
    await startEnded(first.url, 'job-12345')
    await end(first.url, 'job-12345', 'stop')
    await first.stop()
    const second = await openWorld({ dataDir, tasks: [quick] })
    expect(await requestsOf(second.url, 'job-12345')).toMatchObject([{ kind: 'stop', outcome: 'TETHER_JOB_FINISHED' }])
  })
})

describe('how long that is kept', () => {
  test('after a delete, as long as the id is spent', async () => {
    const clock = new JumpingClock()
    const { url } = await openWorld({ tasks: [quick], clock })
    await startEnded(url, 'job-12345')
    await end(url, 'job-12345', 'cancel')
    expect((await ask(url, '/jobs/job-12345', { method: 'DELETE' })).status).toBe(204)
    expect((await ask(url, '/jobs/job-12345', { method: 'DELETE' })).status).toBe(404)
    const kinds = [{ kind: 'cancel' }, { kind: 'delete', outcome: 'deleted' }, { outcome: 'TETHER_JOB_NOT_FOUND' }]
    expect(await requestsOf(url, 'job-12345')).toMatchObject(kinds)
    clock.jump(23 * HOUR_MS)
    expect(await requestsOf(url, 'job-12345')).toMatchObject(kinds)
    clock.jump(1.1 * HOUR_MS)
    expect((await ask(url, '/jobs/job-12345/requests')).status).toBe(404)
    await startEnded(url, 'job-12345')
    expect(await requestsOf(url, 'job-12345')).toEqual([])
  })

  test('with the job, however old it gets', async () => {
    const clock = new JumpingClock()
    const { url } = await openWorld({ tasks: [quick], clock, settings: { RETAIN_JOBS_HOURS: '100' } })
    await startEnded(url, 'job-12345')
    await end(url, 'job-12345', 'cancel')
    await end(url, 'job-99999', 'cancel')
    expect(await requestsOf(url, 'job-99999')).toHaveLength(1)
    clock.jump(50 * HOUR_MS)
    expect(await requestsOf(url, 'job-12345')).toHaveLength(1)
    expect((await ask(url, '/jobs/job-99999/requests')).status).toBe(404)
    clock.jump(51 * HOUR_MS)
    await eventually('it is forgotten', async () => (await ask(url, '/jobs/job-12345')).status === 404)
    // Its end is longer ago than ids stay spent.
    expect((await ask(url, '/jobs/job-12345/requests')).status).toBe(404)
  })
})

describe('a note', () => {
  async function openHeld(): Promise<{ tether: Tether; store: HeldStore }> {
    const stores: HeldStore[] = []
    const wrapStore = (inner: JobStore): JobStore => {
      const held = new HeldStore(inner)
      stores.push(held)
      return held
    }
    const tether = await openWorld({ wrapStore, tasks: [waits, quick] })
    const [store] = stores
    if (store === undefined) throw new Error('the store was not wrapped')
    return { tether, store }
  }

  function isNote(changes: HeldStore['asked'][number]): boolean {
    return changes.some(({ kind }) => kind === 'requests')
  }

  test('holds up neither the answer nor the end of the job', async () => {
    const { tether, store } = await openHeld()
    const view = await startJob(tether.url, { task: 'waits' })
    const written = new Gate()
    const held = new Gate()
    store.holdCommits(async (changes) => {
      if (!isNote(changes)) return
      held.open()
      await written.opened
    })
    // Nothing before it: the first note is of a request that was refused.
    expect((await end(tether.url, 'job-99999', 'cancel')).status).toBe(404)
    await held.opened
    // The commit of the note is under way and does not come through: the abort waits its 50 ms for its own, as for any store.
    const answer = await end(tether.url, view.id, 'cancel')
    expect(answer.status).toBe(202)
    await eventually('the function has ended', () => tether.orchestrator.getActiveExecutionCount() === 0)
    written.open()
    await eventually('it is written', async () => (await jobOf(tether.url, view.id)).terminal)
    expect(await requestsOf(tether.url, view.id)).toMatchObject([{ kind: 'cancel', outcome: 'accepted' }])
  })

  test('comes behind the change that was asked for, in the commit after it or later', async () => {
    const { tether, store } = await openHeld()
    const view = await startJob(tether.url, { task: 'waits' })
    await end(tether.url, view.id, 'cancel')
    expect(await requestsOf(tether.url, view.id)).toHaveLength(1)
    const cancelling = store.asked.findIndex((changes) =>
      changes.some((change) => change.kind === 'move' && change.state.status === 'cancelling'),
    )
    expect(cancelling).toBeGreaterThan(-1)
    expect(store.asked.findIndex(isNote)).toBeGreaterThan(cancelling)
  })

  test('is a line of the log alone, where 10,000 wait for a store that is away', async () => {
    const lines: string[] = []
    const held = new Gate()
    const tether = await openWorld({
      tasks: [quick],
      onLog: (line) => lines.push(line),
      wrapStore: (inner) => {
        const store = new HeldStore(inner)
        store.holdCommits(async (changes) => (isNote(changes) ? held.opened : undefined))
        return store
      },
    })
    const ref = { tenant: 'default', id: parseJobId('job-12345') }
    const caller = { tenant: 'default', subject: 'somebody' }
    for (let n = 0; n < 10_002; n += 1) tether.jobs.noteRefused(ref, 'cancel', caller, 'TETHER_FORBIDDEN')
    expect(lines.filter((line) => line.includes('is not noted'))).toHaveLength(2)
    held.open()
    const { requests } = await tether.jobs.requests(ref, { after: 0, limit: 1 })
    expect(requests).toMatchObject([{ number: 1, by: 'somebody' }])
    await eventually('the others are written', async () => {
      const { requests: last } = await tether.jobs.requests(ref, { after: 9_999, limit: 10 })
      return last.length === 1
    })
  })

  test('is one of many in a commit, where many ask at once', async () => {
    const { tether, store } = await openHeld()
    await startEnded(tether.url, 'job-12345')
    const before = store.asked.length
    const answers = await Promise.all(Array.from({ length: 500 }, () => end(tether.url, 'job-12345', 'cancel')))
    expect(answers.every(({ status }) => status === 409)).toBe(true)
    const { json } = await ask(tether.url, '/jobs/job-12345/requests?after=400&limit=200')
    expect(json['requests']).toHaveLength(100)
    expect(store.asked.slice(before).filter(isNote).length).toBeLessThan(250)
  })
})
