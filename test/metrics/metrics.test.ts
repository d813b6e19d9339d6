import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { SharedAnswer } from '../../src/health/SharedAnswer.ts'
import { one } from '../../src/metrics/Family.ts'
import { Metrics } from '../../src/metrics/Metrics.ts'
import { serverFamilies } from '../../src/metrics/serverFamilies.ts'
import { zeroCounters } from '../../src/server/ServerCounters.ts'
import { StoreError } from '../../src/store/JobStore.ts'
import { ManualClock } from '../cancellation/ManualClock.ts'
import { spawnServer } from '../jobs/serverProcess.ts'
import { RawClient } from '../server/RawClient.ts'
import { ask, jobOf, startJob } from '../server/requests.ts'
import { eventually, Gate, HeldStore, openWorld, taskOf, temporaryFolder } from '../world.ts'
import { Exposition } from './Exposition.ts'
import { scrape } from './scrape.ts'

const RETRIED_TASKS = join(import.meta.dirname, '..', 'jobs', 'fixtures', 'retried')
const TICKS = { task: 'ticks', input: { count: 5, intervalMs: 0 } }
const LONG = { task: 'ticks', input: { count: 100_000, intervalMs: 20 } }

async function untilStatus(url: string, id: string, status: string): Promise<void> {
  await eventually(`${id} is ${status}`, async () => (await jobOf(url, id)).status === status)
}

describe('jobs are counted', () => {
  test('by task and outcome, however they end', async () => {
    const deaf = new Gate()
    const tasks = [
      taskOf('deaf', () => deaf.opened),
      taskOf('fails', () => Promise.reject(new Error('it fails'))),
      taskOf('tools', async (ctx) => {
        await ctx.tool(`tool ${Math.random()}`, {}, async () => {
          await ctx.sleep(60_000)
          return ''
        })
      }),
    ]
    const { url } = await openWorld({ tasks, settings: { CONCURRENCY: '1', MAX_ABANDONED: '1' } })
    await ask(url, '/execute', { body: TICKS })
    await ask(url, '/execute', { body: { task: 'fails' } })

    const watcher = await RawClient.connect(url)
    watcher.request({ method: 'POST', path: '/execute/stream', body: { ...LONG, jobId: 'job-left-alone' } })
    await watcher.until('tick 2')
    watcher.socket.destroy()
    await untilStatus(url, 'job-left-alone', 'cancelled')

    await startJob(url, { ...LONG, jobId: 'job-to-stop' })
    await untilStatus(url, 'job-to-stop', 'running')
    await ask(url, '/jobs/job-to-stop/stop?wait=10', { body: {} })

    await startJob(url, { task: 'tools', jobId: 'job-with-tool' })
    await eventually('its tool runs', async () => (await jobOf(url, 'job-with-tool')).lastSeq >= 3)
    // It waits until the slot is free, and longer.
    await startJob(url, { ...TICKS, jobId: 'job-waits-too-long', queueTimeoutMs: 1 })
    await untilStatus(url, 'job-waits-too-long', 'timed_out')
    await startJob(url, { ...TICKS, jobId: 'job-cancelled-early' })
    await ask(url, '/jobs/job-cancelled-early/cancel?wait=10', { body: {} })
    await ask(url, '/jobs/job-with-tool/cancel?wait=10', { body: {} })

    await startJob(url, { task: 'deaf', jobId: 'job-that-is-deaf', settleMs: 100 })
    await untilStatus(url, 'job-that-is-deaf', 'running')
    await ask(url, '/jobs/job-that-is-deaf/cancel?wait=10', { body: {} })

    const read = await scrape(url)
    const outcomes = read.series.filter(({ name }) => name === 'tether_jobs_ended_total')
    expect(outcomes.map(({ labels, value }) => `${labels['task']} ${labels['outcome']} ${value}`).toSorted()).toEqual([
      'deaf abandoned 1',
      'fails failed 1',
      'ticks cancelled 2',
      'ticks stopped 1',
      'ticks succeeded 1',
      'ticks timed_out 1',
      'tools cancelled 1',
    ])
    expect(read.sum('tether_jobs_created_total')).toBe(8)
    const requests = read.series.filter(({ name }) => name === 'tether_cancellations_total')
    expect(
      requests
        .map(({ labels: { cause, phase, confirmed }, value }) => `${cause} ${phase} ${confirmed} ${value}`)
        .toSorted(),
    ).toEqual([
      'cancel_requested queued true 1',
      'cancel_requested running false 1',
      'cancel_requested tool true 1',
      'client_disconnected running true 1',
      'stop_requested running true 1',
      'timed_out queued true 1',
    ])
    // The deaf one has not stopped.
    expect(read.value('tether_stop_seconds_count', { phase: 'running', kind: 'cancel' })).toBe(1)
    expect(read.value('tether_stop_seconds_count', { phase: 'running', kind: 'stop' })).toBe(1)
    expect(read.value('tether_stop_seconds_count', { phase: 'tool', kind: 'cancel' })).toBe(1)
    expect(read.value('tether_stop_seconds_count', { phase: 'queued', kind: 'cancel' })).toBe(2)
    expect(read.value('tether_queue_wait_seconds_count', { left: 'started' })).toBe(6)
    expect(read.value('tether_queue_wait_seconds_count', { left: 'ended' })).toBe(2)
    expect(read.value('tether_jobs_stuck')).toBe(1)
    expect(read.value('tether_jobs_stuck_limit')).toBe(1)
    expect(read.value('tether_jobs_running')).toBe(0)

    deaf.open()
    await eventually('it is not stuck any more', async () => (await scrape(url)).value('tether_jobs_stuck') === 0)
    const after = await scrape(url)
    expect(after.value('tether_stop_seconds_count', { phase: 'running', kind: 'cancel' })).toBe(2)
    expect(after.sum('tether_stop_seconds_sum', { phase: 'running' })).toBeGreaterThanOrEqual(0.1)
  })

  test('that were to end before they came take no longer to stop than from their start', async () => {
    let aheadMs = 0
    const { url } = await openWorld({ clock: { ...systemClock, now: () => Date.now() + aheadMs } })
    const body = { ifUnknown: 'remember' }
    expect((await ask(url, '/jobs/job-to-come/cancel', { body })).status).toBe(202)
    expect((await ask(url, '/groups/group-to-come/stop', { body })).status).toBe(202)
    aheadMs = 3_600_000
    await ask(url, '/execute', { body: { ...TICKS, jobId: 'job-to-come' } })
    await ask(url, '/execute', { body: { ...TICKS, group: 'group-to-come' } })
    const read = await scrape(url)
    for (const kind of ['cancel', 'stop']) {
      expect(read.value('tether_stop_seconds_count', { phase: 'queued', kind }), kind).toBe(1)
      expect(read.value('tether_stop_seconds_bucket', { phase: 'queued', kind, le: '60' }), kind).toBe(1)
    }
  })

  test('by how they stand now', async () => {
    const gate = new Gate()
    const { url } = await openWorld({ tasks: [taskOf('waits', () => gate.opened)], settings: { CONCURRENCY: '2' } })
    for (let n = 0; n < 5; n += 1) await startJob(url, { task: 'waits' })
    await eventually('two run', async () => (await scrape(url)).value('tether_jobs_running') === 2)
    const read = await scrape(url)
    expect(read.value('tether_jobs_queued', { queue: 'own' })).toBe(3)
    expect(read.value('tether_jobs_queued', { queue: 'shared' })).toBeUndefined()
    expect(read.value('tether_slots')).toBe(2)
    gate.open()
    await eventually('all have ended', async () => (await scrape(url)).sum('tether_jobs_ended_total') === 5)
    expect((await scrape(url)).value('tether_jobs_queued', { queue: 'own' })).toBe(0)
  })
})

test('a job that its server died over and that waits again is counted once, as it was the first time', async () => {
  const settings = { DATA_DIR: await temporaryFolder(), CONCURRENCY: '1', TASKS_DIR: RETRIED_TASKS }
  const first = spawnServer(settings)
  const before = await first.url()
  await startJob(before, { task: 'deadly', input: { deaths: 1 }, jobId: 'job-that-kills' })
  await untilStatus(before, 'job-that-kills', 'running')
  // It is in front at the next start.
  await startJob(before, { ...LONG, jobId: 'job-in-front', priority: 1 })
  await first.exited
  const url = await spawnServer(settings).url()
  await untilStatus(url, 'job-in-front', 'running')
  await ask(url, '/jobs/job-that-kills/cancel?wait=10', { body: {} })
  const read = await scrape(url)
  expect(read.value('tether_jobs_requeued_total', { task: 'deadly' })).toBe(1)
  expect(read.value('tether_jobs_ended_total', { task: 'deadly', outcome: 'cancelled' })).toBe(1)
  expect(read.sum('tether_jobs_created_total')).toBe(0)
  expect(read.sum('tether_queue_wait_seconds_count')).toBe(1)
})

describe('streams are counted', () => {
  test('while they are open and afterwards, to the byte and the event, and never backwards', async () => {
    const gate = new Gate()
    const speaks = taskOf('speaks', async (ctx) => {
      await ctx.data('first', { text: 'ü€😀' })
      await gate.opened
      await ctx.data('second', 2)
    })
    const { url } = await openWorld({ tasks: [speaks] })
    const feed = await RawClient.connect(url)
    feed.request({ path: '/jobs/events' })
    await feed.until('retry:')
    const client = await RawClient.connect(url)
    client.request({ method: 'POST', path: '/execute/stream', body: { task: 'speaks', jobId: 'job-speaks' } })
    await client.until('"name":"first"')
    const during = await scrape(url)
    expect(during.value('tether_streams_open', { kind: 'job' })).toBe(1)
    expect(during.value('tether_streams_open', { kind: 'all_jobs' })).toBe(1)
    expect(during.value('tether_streams_open', { kind: 'outcome' })).toBe(0)
    expect(during.value('tether_sent_events_total', { kind: 'job' })).toBe(3)
    expect(during.value('tether_sent_bytes_total', { kind: 'job' })).toBe(Buffer.byteLength(client.received))
    // The stored log, as a page, on a connection that had another answer before.
    const reader = await RawClient.connect(url)
    reader.request({ path: '/tasks' })
    await reader.until('"tasks"')
    gate.open()
    await client.until('event: job.succeeded')
    await feed.until('event: job.succeeded')
    const before = reader.received.length
    reader.request({ path: '/jobs/job-speaks/events' })
    await reader.until('event: job.succeeded')
    await eventually(
      'both are over',
      async () => (await scrape(url)).value('tether_streams_open', { kind: 'job' }) === 0,
    )
    const after = await scrape(url)
    const bytes = Buffer.byteLength(client.received) + Buffer.byteLength(reader.received.slice(before))
    expect(after.value('tether_sent_events_total', { kind: 'job' })).toBe(10)
    expect(after.value('tether_sent_bytes_total', { kind: 'job' })).toBe(bytes)
    expect(after.value('tether_sent_events_total', { kind: 'all_jobs' })).toBe(3)
    expect(after.value('tether_readers_slow')).toBe(0)
  })

  test('of a client that does not read, as a slow one, and of one too many as refused', async () => {
    const settings = { MAX_STREAMS_PER_CLIENT: '1', STALL_MS: '600000' }
    const { url } = await openWorld({ settings })
    const client = await RawClient.connect(url, { isReading: false })
    const body = { task: 'ticks', input: { count: 100_000, intervalMs: 0, bytes: 10_000 } }
    client.request({ method: 'POST', path: '/execute/stream', body })
    await eventually('it is slow', async () => (await scrape(url)).value('tether_readers_slow') === 1)
    expect((await ask(url, '/jobs/events')).status).toBe(429)
    const read = await scrape(url)
    expect(read.value('tether_streams_refused_total')).toBe(1)
    expect(read.value('tether_streams_cut_total', { why: 'stalled' })).toBe(0)
    client.socket.destroy()
    await eventually('it is gone', async () => (await scrape(url)).value('tether_readers_slow') === 0)
  })
})

test('streams are asked once a scrape, however many figures there are of them, and anew by the next', async () => {
  let asked = 0
  const metrics = new Metrics(
    systemClock,
    serverFamilies(() => {
      asked += 1
      const sent = { bytes: 0, events: 0 }
      return {
        counters: zeroCounters(),
        open: { job: asked, all_jobs: 0, outcome: 0 },
        sent: { job: sent, all_jobs: sent, outcome: sent },
        slow: 0,
      }
    }),
  )
  for (const scrapes of [1, 2]) {
    const read = new Exposition((await metrics.scrape()).text)
    expect(read.value('tether_streams_open', { kind: 'job' })).toBe(scrapes)
    expect(asked).toBe(scrapes)
  }
})

test('what the log writes is counted, and what it could not', async () => {
  let store: HeldStore | undefined
  const { url } = await openWorld({
    storePatienceMs: 100,
    wrapStore: (own) => {
      store = new HeldStore(own)
      return store
    },
  })
  await ask(url, '/execute', { body: TICKS })
  const read = await scrape(url)
  const commits = read.value('tether_log_commit_seconds_count') ?? 0
  expect(commits).toBe(store?.asked.length)
  expect(read.value('tether_log_changes_total')).toBe(store?.asked.flat().length)
  expect(read.value('tether_log_commit_failures_total')).toBe(0)
  expect(read.value('tether_log_failing')).toBe(0)

  store?.holdCommits(() => Promise.reject(new StoreError('the disk is full')))
  await ask(url, '/jobs', { body: TICKS })
  const failing = await scrape(url)
  expect(failing.value('tether_log_commit_failures_total')).toBeGreaterThan(0)
  expect(failing.value('tether_log_failing')).toBe(1)
  store?.holdCommits(undefined)
  await eventually('it writes again', async () => (await scrape(url)).value('tether_log_failing') === 0)
})

test('the process says who it is and how it does', async () => {
  const { url } = await openWorld()
  const read = await scrape(url)
  const info = read.series.find(({ name }) => name === 'tether_info')
  expect(info).toMatchObject({ value: 1, labels: { containment: 'group', complete: 'false', node: process.version } })
  for (const name of ['process_cpu_seconds_total', 'process_resident_memory_bytes', 'tether_disk_free_bytes']) {
    expect(read.value(name), name).toBeGreaterThan(0)
  }
  await eventually('the loop was measured', async () => {
    return ((await scrape(url)).value('tether_event_loop_delay_seconds_count') ?? 0) > 0
  })
})

test('of a folder that cannot be looked at there is no figure, and no 0 that would pass for a full disk', async () => {
  const dataDir = await temporaryFolder()
  const { url } = await openWorld({ dataDir })
  await rename(dataDir, `${dataDir}-elsewhere`)
  const read = await scrape(url)
  await rename(`${dataDir}-elsewhere`, dataDir)
  expect(read.value('tether_disk_free_bytes')).toBeUndefined()
  expect(read.value('tether_disk_size_bytes')).toBeUndefined()
  expect(read.value('tether_jobs_running')).toBe(0)
  await eventually('it is looked at again', async () => (await scrape(url)).value('tether_disk_free_bytes'))
})

test('what does not answer has no figure, is asked once, and keeps no scrape from the others', async () => {
  const clock = new ManualClock()
  let asked = 0
  const stuck = new SharedAnswer(clock, () => {
    asked += 1
    return new Promise<number>(() => undefined)
  })
  const metrics = new Metrics(clock, [
    { kind: 'gauge', name: 'stuck', help: 'Never read.', read: async () => one(await stuck.get()) },
    { kind: 'gauge', name: 'known', help: 'Read.', read: () => one(1) },
  ])
  for (let scrapes = 1; scrapes <= 3; scrapes += 1) {
    const scraping = metrics.scrape()
    await eventually('it waits', () => clock.timers === 1)
    clock.advance(5000)
    expect(new Exposition((await scraping).text).series).toEqual([{ name: 'known', labels: {}, value: 1 }])
  }
  expect(asked).toBe(1)
  expect(clock.timers).toBe(0)
})

test('the task of a job goes by its name only where there is such a task', async () => {
  const { url } = await openWorld()
  for (let n = 0; n < 3; n += 1) expect((await ask(url, '/jobs', { body: { task: `none-${n}` } })).status).toBe(404)
  expect((await scrape(url)).sum('tether_jobs_created_total')).toBe(0)
})

describe('who may scrape', () => {
  const API_TOKEN = 'a-token-of-thirty-two-characters'

  test('is who has the token', async () => {
    const { url } = await openWorld({ settings: { API_TOKEN } })
    expect((await ask(url, '/metrics')).status).toBe(401)
    const headers = { authorization: `Bearer ${API_TOKEN}` }
    expect((await scrape(url, headers)).value('tether_jobs_running')).toBe(0)
  })

  test('is nobody under a name that is not known', async () => {
    const { url } = await openWorld()
    const client = await RawClient.connect(url)
    client.request({ path: '/metrics', headers: { host: 'evil.example' } })
    await client.until('421')
    expect(client.received).not.toContain('tether_jobs')
  })
})
