import { mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { JumpingClock } from '../JumpingClock.ts'
import { ask, jobOf, startJob } from '../server/requests.ts'
import {
  eventsOf,
  eventually,
  openWorld,
  parseFrames,
  startOf,
  taskOf,
  temporaryFolder,
  untilRunning,
} from '../world.ts'

const HOUR_MS = 3_600_000
const waits = taskOf('waits', async (ctx) => ctx.sleep(2 ** 31 - 1))
const quick = taskOf('quick', async () => 'done')
const writes = taskOf('writes', async (ctx) => {
  await writeFile(join(await ctx.workspace(), 'kept.txt'), 'text')
})
const pours = taskOf('pours', async (ctx, input) => {
  for (let n = 0; n < Number(input); n += 1) await ctx.output(`${n} ${'x'.repeat(9_000)}\n`)
})

describe('a finished job', () => {
  test('is forgotten after RETAIN_JOBS_HOURS, with its log and its files, and one that runs is not', async () => {
    const dataDir = await temporaryFolder()
    const clock = new JumpingClock()
    const settings = { RETAIN_JOBS_HOURS: '2', MAX_RUN_MS: String(2 ** 31 - 1) }
    const { url, jobs } = await openWorld({ dataDir, clock, settings, tasks: [waits, quick, writes] })
    const old = await startJob(url, { task: 'writes' })
    const runs = await startJob(url, { task: 'waits' })
    await eventually('it has ended', async () => (await jobOf(url, old.id)).terminal)
    const workspaces = join(dataDir, 'workspaces')
    expect(await readdir(workspaces)).toContain(old.id)
    clock.jump(1.5 * HOUR_MS)
    const young = await startJob(url, { task: 'quick' })
    await eventually('it has ended', async () => (await jobOf(url, young.id)).terminal)
    expect((await ask(url, `/jobs/${old.id}`)).status).toBe(200)
    clock.jump(0.6 * HOUR_MS)
    await eventually('the old one is gone', async () => (await ask(url, `/jobs/${old.id}`)).status === 404)
    expect((await ask(url, `/jobs/${old.id}/events`)).status).toBe(404)
    await eventually('its files are gone', async () => !(await readdir(workspaces)).includes(old.id))
    expect((await ask(url, `/jobs/${young.id}`)).status).toBe(200)
    expect((await jobOf(url, runs.id)).status).toBe('running')
    expect((await ask(url, '/jobs', { body: { task: 'quick', jobId: old.id } })).status).toBe(410)
    clock.jump(30 * HOUR_MS)
    await eventually('the young one is gone too', async () => (await ask(url, `/jobs/${young.id}`)).status === 404)
    expect(jobs.activeCount).toBe(1)
  })

  test('has an id that cannot be used again until a day after its end', async () => {
    const clock = new JumpingClock()
    const { url } = await openWorld({ clock, settings: { RETAIN_JOBS_HOURS: '30' }, tasks: [quick] })
    const { id } = await startJob(url, { task: 'quick' })
    await eventually('it has ended', async () => (await jobOf(url, id)).terminal)
    clock.jump(31 * HOUR_MS)
    await eventually('it is gone', async () => (await ask(url, `/jobs/${id}`)).status === 404)
    expect((await ask(url, '/jobs', { body: { task: 'quick', jobId: id } })).status).toBe(202)
  })

  test('that an earlier process left is forgotten too, hundreds of them', async () => {
    const dataDir = await temporaryFolder()
    const clock = new JumpingClock()
    const before = await openWorld({ dataDir, clock, tasks: [quick] })
    await Promise.all(Array.from({ length: 320 }, (_, n) => before.jobs.start(startOf('quick', n))))
    await eventually('they have ended', () => before.jobs.activeCount === 0)
    await before.stop()
    const later = new JumpingClock()
    later.jump(200 * HOUR_MS)
    const after = await openWorld({ dataDir, clock: later, tasks: [quick] })
    await eventually('all are gone', async () => {
      // The first look comes after the files of the start were looked through, whenever that is.
      later.jump(60_000)
      const { jobs } = await after.jobs.list({ tenant: 'default', limit: 10 })
      return jobs.length === 0
    })
  })

  test('stays where RETAIN_JOBS_HOURS is 0', async () => {
    const clock = new JumpingClock()
    const { url, jobs } = await openWorld({ clock, settings: { RETAIN_JOBS_HOURS: '0' }, tasks: [quick] })
    const { id } = await startJob(url, { task: 'quick' })
    await eventually('it has ended', () => jobs.activeCount === 0)
    clock.jump(1_000_000 * HOUR_MS)
    await startJob(url, { task: 'quick' })
    await eventually('that has ended', () => jobs.activeCount === 0)
    expect((await ask(url, `/jobs/${id}`)).status).toBe(200)
  })
})

test('files of jobs that are not known are removed at the next start, and nothing else', async () => {
  const dataDir = await temporaryFolder()
  const before = await openWorld({ dataDir, tasks: [writes] })
  const { ref } = await before.jobs.start(startOf('writes', null))
  await before.jobs.outcome(ref)
  await before.stop()
  const workspaces = join(dataDir, 'workspaces')
  for (const name of ['job_of_nobody', 'other:job_of_nobody', 'not a job']) {
    await mkdir(join(workspaces, name, 'deep'), { recursive: true })
  }
  const after = await openWorld({ dataDir, tasks: [writes] })
  await eventually('they are gone', async () => (await readdir(workspaces)).length === 2)
  expect((await readdir(workspaces)).toSorted()).toEqual([ref.id, 'not a job'].toSorted())
  expect(await after.jobs.files(ref)).toMatchObject([{ path: 'kept.txt' }])
})

describe('a log over MAX_LOG_BYTES', () => {
  test('gives its readers a gap where output is gone, and the rest', async () => {
    const tether = await openWorld({ settings: { MAX_LOG_BYTES: '100000' }, tasks: [pours] })
    const { ref } = await tether.jobs.start(startOf('pours', 200))
    const { lastSeq } = await tether.jobs.outcome(ref)
    const events = await eventsOf(tether, ref)
    expect(events.slice(0, 3).map(({ type }) => type)).toEqual(['job.queued', 'job.started', 'gap'])
    expect(events.at(-1)).toMatchObject({ type: 'job.succeeded', seq: lastSeq })
    const [gap] = events.filter(({ type }) => type === 'gap')
    const firstKept = events[3]?.seq ?? 0
    expect(gap).toMatchObject({ from: 3, to: firstKept - 1, reason: 'log_limit', seq: firstKept - 1, jobId: ref.id })
    expect(events.slice(3).map(({ seq }) => seq)).toEqual(events.slice(3).map((_, index) => firstKept + index))
    // From inside the gap, also as an EventSource that listens for messages asks.
    const url = `${tether.url}/jobs/${ref.id}/events?named=false`
    const headers = { 'last-event-id': '10' }
    const rest = parseFrames(await (await fetch(url, { headers })).text())
    expect(rest[0]).toMatchObject({ type: 'gap', from: 11, to: firstKept - 1 })
    expect(rest.slice(1)).toEqual(events.slice(3))
    const after = parseFrames(await (await fetch(`${tether.url}/jobs/${ref.id}/events?after=${firstKept}`)).text())
    expect(after).toEqual(events.slice(4))
  })

  test('gives a reader that is too slow a gap, and never the same event twice', async () => {
    const tether = await openWorld({ settings: { MAX_LOG_BYTES: '100000' }, tasks: [pours, waits] })
    const { ref } = await tether.jobs.start(startOf('pours', 400))
    let isFull = false
    let frames = ''
    const over = Promise.withResolvers<void>()
    const write = (chunk: string | Buffer): boolean => {
      frames += chunk.toString()
      isFull = !isFull
      return isFull
    }
    const sink = { write, writePage: write, pageBytes: 20_000, end: over.resolve, fail: over.reject }
    const { reader } = await tether.jobs.attach(ref, { after: 0, named: true, sink })
    reader.start()
    const resuming = setInterval(() => reader.resume(), 5)
    await over.promise
    clearInterval(resuming)
    const events = parseFrames(frames)
    let seq = 0
    for (const event of events) {
      if (event.type === 'gap') expect(event.from).toBe(seq + 1)
      else expect(event.seq).toBe(seq + 1)
      seq = event.seq
    }
    expect(events.at(-1)?.type).toBe('job.succeeded')
  })

  test('takes no more of the disk than that, and the file shrinks when the job is deleted', async () => {
    const dataDir = await temporaryFolder()
    const tether = await openWorld({ dataDir, settings: { MAX_LOG_BYTES: '1000000' }, tasks: [pours, quick] })
    const sizeOf = async (): Promise<number> => (await stat(join(dataDir, 'tether.db'))).size
    const { ref } = await tether.jobs.start(startOf('pours', 6_000))
    await tether.jobs.outcome(ref)
    await tether.health.ready()
    // 54 MB went through it; what the write-ahead file has not given back yet is not in this file.
    expect(await sizeOf()).toBeLessThan(24_000_000)
    await tether.jobs.forget(ref)
    await eventually('the file has shrunk', async () => {
      const small = await tether.jobs.start(startOf('quick', null))
      await tether.jobs.outcome(small.ref)
      return (await sizeOf()) < 3_000_000
    })
  })
})

test('a job that is deleted while it is read has its readers cut off, and is gone for good', async () => {
  const tether = await openWorld({ tasks: [quick, waits] })
  const { ref } = await tether.jobs.start(startOf('quick', null))
  await tether.jobs.outcome(ref)
  const other = await tether.jobs.start(startOf('waits', null))
  await untilRunning(tether, other.ref)
  await Promise.all([tether.jobs.forget(ref), tether.jobs.forget(ref).catch(() => undefined)])
  await expect(tether.jobs.job(ref)).rejects.toMatchObject({ code: 'TETHER_JOB_NOT_FOUND' })
})
