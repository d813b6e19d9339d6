import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { JobEvent } from '../../src/job/event.ts'
import { parseJobId } from '../../src/job/id.ts'
import { DEFAULT_TENANT, type JobRef } from '../../src/job/key.ts'
import type { JobView } from '../../src/job/view.ts'
import type { Tether } from '../../src/tether.ts'
import { RawClient } from '../server/RawClient.ts'
import { ask, jobOf, startJob } from '../server/requests.ts'
import {
  end,
  eventsOf,
  eventually,
  Gate,
  openWorld,
  parseFrames,
  startOf,
  taskOf,
  temporaryFolder,
  typesOf,
  untilRunning,
  type WorldOptions,
} from '../world.ts'
import { openFailingWorld, quick, silent } from './failingWorld.ts'
import { openSmallDisk } from './SmallDisk.ts'

const ID = 'job-12345'

/** Says a number every few milliseconds, and notes how it ended. */
function speaker() {
  const ended: string[] = []
  const task = taskOf('speaks', async (ctx, input) => {
    try {
      for (let n = 0; ; n += 1) {
        await ctx.output(`${n}${'.'.repeat(Number(input ?? 0))}\n`)
        await ctx.sleep(2)
      }
    } finally {
      ended.push(ctx.signal.aborted ? 'aborted' : 'otherwise')
    }
  })
  return { task, ended }
}

async function failingWorld(options: Omit<WorldOptions, 'wrapStore' | 'tasks'> = {}) {
  const { task, ended } = speaker()
  return { ...(await openFailingWorld({ ...options, tasks: [task] })), ended }
}

/** The job once it has ended, also where nobody can follow its log for a while. */
function endOf(tether: Tether, ref: JobRef): Promise<JobView> {
  return eventually('it has ended', async () => {
    const view = await tether.jobs.job(ref)
    return view.terminal && view
  })
}

function textOf(events: readonly JobEvent[]): string {
  return events.map((event) => (event.type === 'output' ? event.text : '')).join('')
}

/** Undefined where the answer is cut. */
async function readAll(url: string): Promise<string | undefined> {
  try {
    return await (await fetch(url)).text()
  } catch (error) {
    if (error instanceof TypeError) return undefined
    throw error
  }
}

async function expectWhole(tether: Tether, ref: JobRef): Promise<readonly JobEvent[]> {
  const events = await eventsOf(tether, ref)
  expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1))
  return events
}

describe('a job whose log cannot be written', () => {
  test('is cancelled hard, its stream is destroyed, and it ends failed once that can be written', async () => {
    const { tether, outage, ended } = await failingWorld()
    const client = await RawClient.connect(tether.url)
    client.request({ method: 'POST', path: '/execute/stream', body: { task: 'speaks', jobId: ID } })
    await client.until('event: output')
    outage.isFailing = true
    await client.closed
    expect(client.received).not.toMatch(/\r\n0\r\n\r\n$/)
    expect(client.received).not.toContain('job.failed')
    await eventually('its function was aborted', () => ended.length === 1)
    expect(ended).toEqual(['aborted'])
    expect((await ask(tether.url, '/health/ready')).status).toBe(503)
    outage.isFailing = false
    const view = await eventually('it has ended', async () => {
      const now = await jobOf(tether.url, ID)
      return now.terminal && now
    })
    expect(view).toMatchObject({ status: 'failed', failure: { code: 'TETHER_STORE_FAILED', retryable: true } })
    expect(view.cancellation).toBeUndefined()
    const events = await expectWhole(tether, { tenant: DEFAULT_TENANT, id: parseJobId(ID) })
    expect(typesOf(events).slice(0, 2)).toEqual(['job.queued', 'job.started'])
    expect(
      typesOf(events)
        .slice(2, -1)
        .every((type) => type === 'output'),
    ).toBe(true)
    expect(events.at(-1)?.type).toBe('job.failed')
    // What the reader had seen is in it.
    const seen = textOf(parseFrames(client.received.replaceAll(/\r\n[0-9a-f]+\r\n/g, '')))
    expect(textOf(events).startsWith(seen)).toBe(true)
    await eventually('it is ready again', async () => (await tether.health.ready()).isReady)
  })

  test('has a reader that comes meanwhile cut off after what is written, and lets it have the rest afterwards', async () => {
    const { tether, outage, ended } = await failingWorld()
    const { id } = await startJob(tether.url, { task: 'speaks', jobId: ID })
    await eventually('it has said something', async () => (await jobOf(tether.url, id)).lastSeq > 5)
    outage.isFailing = true
    await eventually('its function was aborted', () => ended.length === 1)
    const reader = await RawClient.connect(tether.url)
    reader.request({ path: `/jobs/${id}/events` })
    await reader.closed
    expect(reader.received).toContain('event: job.started')
    expect(reader.received).not.toMatch(/\r\n0\r\n\r\n$/)
    outage.isFailing = false
    const events = await eventually('the log can be read to its end', async () => {
      const text = await readAll(`${tether.url}/jobs/${id}/events`)
      return text?.includes('event: job.failed') === true && parseFrames(text)
    })
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1))
  })

  test('cuts off the request that waits for its outcome', async () => {
    const { tether, outage } = await failingWorld()
    const client = await RawClient.connect(tether.url)
    client.request({ method: 'POST', path: '/execute', body: { task: 'speaks', jobId: ID } })
    await client.until('x-tether-job-id')
    outage.isFailing = true
    await client.closed
    expect(client.received).not.toMatch(/\r\n0\r\n\r\n$/)
    outage.isFailing = false
    await eventually('it has ended', async () => (await jobOf(tether.url, ID)).terminal)
  })

  test('that was being cancelled before ends as it was asked to', async () => {
    const { tether, outage } = await failingWorld()
    const { id } = await startJob(tether.url, { task: 'silent', jobId: ID })
    await eventually('it runs', async () => (await jobOf(tether.url, id)).status === 'running')
    const stream = await RawClient.connect(tether.url)
    stream.request({ path: `/jobs/${id}/events` })
    await stream.until('event: job.started')
    outage.isFailing = true
    const answer = await ask(tether.url, `/jobs/${id}/cancel`, { body: {} })
    expect(answer).toMatchObject({ status: 202, json: { receipt: { recorded: false } } })
    await stream.closed
    expect(stream.received).not.toContain('job.cancelled')
    outage.isFailing = false
    const view = await eventually('it has ended', async () => {
      const now = await jobOf(tether.url, id)
      return now.terminal && now
    })
    expect(view).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
  })

  test('that said nothing since goes on, and ends as it is asked to', async () => {
    const { tether, outage, ended } = await failingWorld()
    const go = new Gate()
    const slow = taskOf('slow', async (ctx) => {
      await ctx.output('said')
      await ctx.shield(() => go.opened)
    })
    tether.jobs.tasks.register(slow)
    const { ref } = await tether.jobs.start(startOf('slow', null))
    await untilRunning(tether, ref)
    const spoken = await tether.jobs.start(startOf('speaks', null))
    await untilRunning(tether, spoken.ref)
    outage.isFailing = true
    await eventually('the one that speaks was given up', () => ended.length === 1)
    const answered = end(tether, ref, 'cancel')
    go.open()
    await answered
    outage.isFailing = false
    expect(await endOf(tether, spoken.ref)).toMatchObject({ status: 'failed' })
    expect(await endOf(tether, ref)).toMatchObject({ status: 'cancelled' })
  })

  test('ends its children with it', async () => {
    const { tether, outage, ended } = await failingWorld()
    const parent = taskOf('parent', async (ctx) => {
      const child = ctx.run('speaks', null)
      await child
    })
    tether.jobs.tasks.register(parent)
    const { ref } = await tether.jobs.start(startOf('parent', null))
    await eventually('the child speaks', async () => {
      const { jobs } = await tether.jobs.list({ tenant: 'default', limit: 9 })
      const child = jobs.find(({ task }) => task === 'speaks')
      return (
        child !== undefined && (await tether.jobs.job({ tenant: DEFAULT_TENANT, id: parseJobId(child.id) })).lastSeq > 5
      )
    })
    outage.isFailing = true
    await eventually('the child was aborted', () => ended.length === 1)
    outage.isFailing = false
    await eventually('both have ended', () => tether.jobs.activeCount === 0)
    const { jobs } = await tether.jobs.list({ tenant: 'default', limit: 9 })
    expect(jobs.every(({ terminal }) => terminal)).toBe(true)
    expect(jobs.find(({ task }) => task === 'speaks')?.status).toBe('failed')
    await expectWhole(tether, ref)
  })

  test('is interrupted by the next start where the server dies first', async () => {
    const dataDir = await temporaryFolder()
    const { tether, outage, ended } = await failingWorld({ dataDir })
    const { ref } = await tether.jobs.start(startOf('speaks', null))
    await untilRunning(tether, ref)
    outage.isFailing = true
    await eventually('its function was aborted', () => ended.length === 1)
    await tether.stop()
    const after = await openWorld({ dataDir, tasks: [speaker().task] })
    expect(await after.jobs.job(ref)).toMatchObject({
      status: 'interrupted',
      failure: { code: 'TETHER_SERVER_CRASHED' },
    })
    await expectWhole(after, ref)
  })
})

describe('while nothing can be written', () => {
  test('a job that says nothing runs on, and one that waits in the queue runs afterwards', async () => {
    const { tether, outage, ended } = await failingWorld({ settings: { CONCURRENCY: '2' } })
    const still = await tether.jobs.start(startOf('silent', null))
    const speaks = await tether.jobs.start(startOf('speaks', null))
    await untilRunning(tether, still.ref)
    const waits = await tether.jobs.start(startOf('quick', 'later'))
    outage.isFailing = true
    await eventually('the one that speaks was aborted', () => ended.length === 1)
    expect((await tether.jobs.job(waits.ref)).status).toBe('queued')
    outage.isFailing = false
    expect(await tether.jobs.outcome(waits.ref)).toMatchObject({ status: 'succeeded', result: 'later' })
    expect((await tether.jobs.job(still.ref)).status).toBe('running')
    expect(await endOf(tether, speaks.ref)).toMatchObject({ status: 'failed' })
    await end(tether, still.ref, 'cancel', { waitMs: 5000 })
  })

  test('a start that was on its way is refused, and so is its repetition: there is no such job', async () => {
    const { tether, outage, store } = await failingWorld()
    outage.isFailing = true
    const asked = store.asked.length
    const body = { task: 'quick', input: 1, jobId: ID, group: 'group_of_it', onDisconnect: 'cancel' }
    const headers = { 'idempotency-key': 'key-of-it' }
    const first = ask(tether.url, '/execute/stream', { body, headers })
    await eventually('it is being written', () => store.asked.length > asked)
    const second = ask(tether.url, '/jobs', { body, headers })
    for (const answer of await Promise.all([first, second])) {
      expect(answer).toMatchObject({ status: 503, json: { code: 'TETHER_STORE_UNAVAILABLE' } })
      expect(answer.headers.get('retry-after')).toMatch(/^\d+$/)
    }
    outage.isFailing = false
    await eventually('it is ready again', async () => (await tether.health.ready()).isReady)
    expect((await ask(tether.url, `/jobs/${ID}`)).status).toBe(404)
    expect(tether.jobs.activeCount).toBe(0)
    // And the same start goes through now.
    expect((await ask(tether.url, '/jobs', { body: { ...body, onDisconnect: 'continue' }, headers })).status).toBe(202)
    await eventually('it has run', async () => (await jobOf(tether.url, ID)).status === 'succeeded')
  })

  test('a change of policy and a deletion are refused, and nothing has changed', async () => {
    const { tether, outage } = await failingWorld()
    const running = await startJob(tether.url, { task: 'silent' })
    const done = await startJob(tether.url, { task: 'quick' })
    await eventually('it has run', async () => (await jobOf(tether.url, done.id)).terminal)
    outage.isFailing = true
    const answers = await Promise.all([
      ask(tether.url, `/jobs/${running.id}`, { method: 'PATCH', body: { onDisconnect: 'cancel' } }),
      ask(tether.url, `/jobs/${done.id}`, { method: 'DELETE' }),
    ])
    for (const answer of answers) {
      expect(answer).toMatchObject({ status: 503, json: { code: 'TETHER_STORE_UNAVAILABLE' } })
    }
    outage.isFailing = false
    await eventually('it is ready again', async () => (await tether.health.ready()).isReady)
    expect((await jobOf(tether.url, running.id)).policy.onDisconnect).toBe('continue')
    expect((await ask(tether.url, `/jobs/${done.id}`)).status).toBe(200)
    expect((await ask(tether.url, `/jobs/${done.id}`, { method: 'DELETE' })).status).toBe(204)
  })

  test('a group is cancelled, and the answer does not wait for the store', async () => {
    const { tether, outage } = await failingWorld({ storePatienceMs: 60_000 })
    const members = await Promise.all([1, 2].map(() => startJob(tether.url, { task: 'silent', group: 'group_of_two' })))
    await eventually('they run', () => tether.orchestrator.getActiveExecutionCount() === 2)
    outage.isFailing = true
    expect(await ask(tether.url, '/groups/group_of_two/cancel', { body: {} })).toMatchObject({
      status: 202,
      json: { accepted: 2, ended: 0 },
    })
    expect(tether.orchestrator.getActiveExecutionCount()).toBe(0)
    outage.isFailing = false
    for (const { id } of members) {
      await eventually('it was cancelled', async () => (await jobOf(tether.url, id)).status === 'cancelled')
    }
  })
})

describe('a disk that is full', async () => {
  const probe = await openSmallDiskForProbe()

  test.skipIf(!probe)('fails the jobs that write, and nothing else; what fits again is written', async () => {
    const disk = await openSmallDisk(16)
    if (disk === undefined) throw new Error('the disk must be there: it was a moment ago')
    const { task, ended } = speaker()
    const tether = await openWorld({ dataDir: disk.folder, tasks: [task, silent, quick], storePatienceMs: 300 })
    const still = await tether.jobs.start(startOf('silent', null))
    await untilRunning(tether, still.ref)
    const { ref } = await tether.jobs.start(startOf('speaks', 4000))
    await eventually('it has said something', async () => (await tether.jobs.job(ref)).lastSeq > 5)
    disk.fill()
    await eventually('it was aborted', () => ended.length === 1)
    const { checks } = await tether.health.ready()
    expect(checks.find(({ name }) => name === 'store')?.ok).toBe(false)
    disk.empty()
    expect(await endOf(tether, ref)).toMatchObject({ status: 'failed', failure: { code: 'TETHER_STORE_FAILED' } })
    const events = await expectWhole(tether, ref)
    const numbers = textOf(events)
      .split('\n')
      .slice(0, -1)
      .map((line) => Number.parseInt(line, 10))
    expect(numbers).toEqual(numbers.map((_, index) => index))
    expect((await tether.jobs.job(still.ref)).status).toBe('running')
    const again = await tether.jobs.start(startOf('quick', 1))
    expect((await tether.jobs.outcome(again.ref)).status).toBe('succeeded')
  })

  test.skipIf(!probe)('ends a start with one line that names the folder', async () => {
    const disk = await openSmallDisk(1)
    if (disk === undefined) throw new Error('the disk must be there: it was a moment ago')
    for (const freeBytes of [0, 4096, 8192, 32_768, 65_536]) {
      disk.fill(freeBytes)
      await expect(openWorld({ dataDir: disk.folder })).rejects.toThrow(disk.folder)
      disk.empty()
    }
    const tether = await openWorld({ dataDir: disk.folder })
    expect((await ask(tether.url, '/health/ready')).status).toBe(200)
  })
})

/** Whether this user may make disks. */
async function openSmallDiskForProbe(): Promise<boolean> {
  return process.getuid?.() === 0 && process.platform === 'linux'
}

describe('a database that another process has locked', () => {
  test('for a moment is waited for: nothing is lost and nothing fails', async () => {
    const dataDir = await temporaryFolder()
    const { task } = speaker()
    const tether = await openWorld({ dataDir, tasks: [task] })
    const { ref } = await tether.jobs.start(startOf('speaks', null))
    await untilRunning(tether, ref)
    using outside = lock(dataDir)
    await eventually(
      'the lock shows',
      async () => !(await tether.health.ready()).checks.find(({ name }) => name === 'store')?.ok,
    )
    outside.exec('ROLLBACK')
    await eventually('it is well again', async () => (await tether.health.ready()).isReady)
    const before = (await tether.jobs.job(ref)).lastSeq
    await eventually('it goes on', async () => (await tether.jobs.job(ref)).lastSeq > before)
    await end(tether, ref, 'cancel', { waitMs: 5000 })
    await expectWhole(tether, ref)
  })

  test('ends a start with one line that says so', async () => {
    const dataDir = await temporaryFolder()
    const before = await openWorld({ dataDir })
    await before.stop()
    using outside = lock(dataDir)
    await expect(openWorld({ dataDir, storePatienceMs: 300 })).rejects.toThrow(
      /tether\.db is locked by another process/,
    )
    outside.exec('ROLLBACK')
  })
})

/** Another connection that holds the write lock of the server's database, as an operator's tool might. */
function lock(dataDir: string): DatabaseSync {
  const outside = new DatabaseSync(join(dataDir, 'tether.db'), { timeout: 1000 })
  onTestFinished(() => {
    if (outside.isOpen) outside.close()
  })
  outside.exec('BEGIN IMMEDIATE')
  return outside
}
