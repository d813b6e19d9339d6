import { describe, expect, test } from 'vitest'
import type { JobEvent } from '../../src/job/event.ts'
import { eventually, Gate, openWorld, parseFrames, taskOf, typesOf } from '../world.ts'
import { RawClient } from './RawClient.ts'
import { ask, blocksOf, jobOf, startJob } from './requests.ts'

const TICKS = { task: 'ticks', input: { count: 2, intervalMs: 0 }, jobId: 'job-ticks-1' }
const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))

async function untilEnded(url: string, id: string): Promise<void> {
  await eventually(`${id} has ended`, async () => (await jobOf(url, id)).terminal)
}

describe('a stream (protocol, section 4)', () => {
  test('has its headers, the retry, and frames of id, event and one line of data', async () => {
    const { url } = await openWorld()
    const answer = await ask(url, '/execute/stream', { body: TICKS })
    expect(answer.status).toBe(200)
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store, no-transform',
      'x-accel-buffering': 'no',
      'x-tether-job-id': 'job-ticks-1',
      'x-tether-holder': expect.stringMatching(/^holder_[0-9a-f]{32}$/),
    })
    const [retry, ...frames] = blocksOf(answer.text)
    expect(retry).toBe('retry: 1000')
    for (const [index, frame] of frames.entries()) {
      const [id, event, data = '', ...rest] = frame.split('\n')
      const value: JobEvent = JSON.parse(data.slice('data: '.length))
      expect(rest).toEqual([])
      expect(id).toBe(`id: ${index + 1}`)
      expect(event).toBe(`event: ${value.type}`)
      expect(value).toMatchObject({ jobId: 'job-ticks-1', seq: index + 1, at: expect.stringMatching(/^\d{4}-.*Z$/) })
    }
    const events = parseFrames(answer.text)
    expect(events.at(0)?.type).toBe('job.queued')
    expect(events.at(-1)).toMatchObject({ type: 'job.succeeded', result: { ticks: 2 } })
    const text = events.map((event) => (event.type === 'output' ? event.text : '')).join('')
    expect(text).toBe('tick 1\ntick 2\n')
  })

  test('has its head as soon as the job is recorded, before it starts, whatever Accept says', async () => {
    const { url } = await openWorld({ settings: { CONCURRENCY: '1' }, tasks: [waits] })
    await startJob(url, { task: 'waits' })
    const client = await RawClient.connect(url)
    client.request({
      method: 'POST',
      path: '/execute/stream',
      headers: { accept: 'image/png' },
      body: { task: 'waits' },
    })
    await client.until('event: job.queued\n')
    expect(client.received).toMatch(/^HTTP\/1\.1 200 OK\r\n/)
    expect(client.received).not.toContain('job.started')
  })

  test('of a start that was made before is the same stream, also when the job has finished', async () => {
    const { url } = await openWorld()
    const first = await ask(url, '/execute/stream', { body: TICKS })
    const second = await ask(url, '/execute/stream', { body: TICKS })
    expect(blocksOf(second.text)).toEqual(blocksOf(first.text))
  })

  test('keeps text as it was, whatever is in it', async () => {
    const wild = 'a\r\nb\rc\nd\0e\u2028f "g" \\ é 😀 data: x\n\nid: 7\n\n'
    const says = taskOf('says', async (ctx) => ctx.output(wild))
    const { url } = await openWorld({ tasks: [says] })
    const { text } = await ask(url, '/execute/stream', { body: { task: 'says' } })
    const outputs = parseFrames(text).flatMap((event) => (event.type === 'output' ? [event.text] : []))
    expect(outputs).toEqual([wild])
    expect(text).not.toMatch(/[\r\0]/)
  })

  test('joins what comes in one turn into one write', async () => {
    const bursts = taskOf('bursts', async (ctx) => {
      await Promise.all(Array.from({ length: 200 }, (_, n) => ctx.data('n', n)))
    })
    const { url } = await openWorld({ tasks: [bursts] })
    const client = await RawClient.connect(url)
    client.request({ method: 'POST', path: '/execute/stream', body: { task: 'bursts' } })
    await client.until('event: job.succeeded')
    expect(parseFrames(client.received).filter((event) => event.type === 'data')).toHaveLength(200)
    expect(client.chunks.length).toBeLessThan(15)
  })
})

describe('attaching', () => {
  test('gives what comes after the place, then the end; Last-Event-ID wins over ?after', async () => {
    const { url } = await openWorld()
    const whole = parseFrames((await ask(url, '/execute/stream', { body: TICKS })).text)
    for (let after = 0; after < whole.length; after += 1) {
      const byQuery = await ask(url, `/jobs/${TICKS.jobId}/events?after=${after}`)
      expect(parseFrames(byQuery.text)).toEqual(whole.slice(after))
      const headers = { 'last-event-id': String(after) }
      const byHeader = await ask(url, `/jobs/${TICKS.jobId}/events?after=${whole.length}`, { headers })
      expect(parseFrames(byHeader.text)).toEqual(whole.slice(after))
    }
    expect((await ask(url, `/jobs/${TICKS.jobId}/events`)).headers.get('x-tether-holder')).toBeNull()
  })

  test('is 204 where a cursor was given, the job has ended and the reader has all of it', async () => {
    const { url } = await openWorld()
    const last = parseFrames((await ask(url, '/execute/stream', { body: TICKS })).text).at(-1)?.seq
    const all = await ask(url, `/jobs/${TICKS.jobId}/events?after=${last}`)
    expect(all).toMatchObject({ status: 204, text: '' })
    const headers = { 'last-event-id': String(last) }
    expect((await ask(url, `/jobs/${TICKS.jobId}/events`, { headers })).status).toBe(204)
    expect((await ask(url, `/jobs/${TICKS.jobId}/events`)).status).toBe(200)
  })

  test('with a cursor at the end of a job that goes on is a stream', async () => {
    const goesOn = new Gate()
    const says = taskOf('says', async (ctx) => {
      await ctx.output('one')
      await goesOn.opened
      await ctx.output('two')
    })
    const { url } = await openWorld({ tasks: [says] })
    const { id } = await startJob(url, { task: 'says' })
    await eventually('it said one', async () => (await jobOf(url, id)).lastSeq === 3)
    const client = await RawClient.connect(url)
    client.request({ path: `/jobs/${id}/events?after=3` })
    await client.until('retry: 1000')
    goesOn.open()
    await client.until('event: job.succeeded')
    expect(parseFrames(client.received).map((event) => event.seq)).toEqual([4, 5])
  })

  test.each(['-1', '1.5', 'x', '1e3', ' ', '99999999999999999999'])(
    'with the cursor %j is TETHER_INVALID_CURSOR',
    async (cursor) => {
      const { url } = await openWorld()
      await ask(url, '/execute/stream', { body: TICKS })
      const byQuery = await ask(url, `/jobs/${TICKS.jobId}/events?after=${encodeURIComponent(cursor)}`)
      expect(byQuery.json).toMatchObject({ statusCode: 400, code: 'TETHER_INVALID_CURSOR' })
      if (cursor.trim() === '') return
      const byHeader = await ask(url, `/jobs/${TICKS.jobId}/events`, { headers: { 'last-event-id': cursor } })
      expect(byHeader.json).toMatchObject({ statusCode: 400, code: 'TETHER_INVALID_CURSOR' })
    },
  )

  test('with a cursor past the end is told of the gap, and goes on from there', async () => {
    const ends = new Gate()
    const slow = taskOf('slow', async () => ends.opened)
    const { url } = await openWorld({ tasks: [slow] })
    const { id } = await startJob(url, { task: 'slow' })
    await eventually('it runs', async () => (await jobOf(url, id)).lastSeq === 2)
    const client = await RawClient.connect(url)
    client.request({ path: `/jobs/${id}/events`, headers: { 'last-event-id': '50' } })
    await client.until('id: 2\nevent: gap\n')
    ends.open()
    await client.until('event: job.succeeded')
    expect(parseFrames(client.received)).toMatchObject([
      { type: 'gap', seq: 2, from: 2, to: 2, reason: 'log_lost', jobId: id },
      { type: 'job.succeeded', seq: 3 },
    ])
  })

  test('with a cursor past the end of a job that has ended is told of the gap, and gets the end', async () => {
    const { url } = await openWorld()
    await ask(url, '/execute', { body: TICKS })
    const { lastSeq } = await jobOf(url, TICKS.jobId)
    const { text } = await ask(url, `/jobs/${TICKS.jobId}/events?after=${lastSeq + 7}`)
    expect(parseFrames(text)).toMatchObject([
      { type: 'gap', seq: lastSeq, from: lastSeq, to: lastSeq, reason: 'log_lost' },
      { type: 'job.succeeded', seq: lastSeq },
    ])
  })

  test('with ?named=false leaves event: out', async () => {
    const { url } = await openWorld()
    const named = await ask(url, '/execute/stream', { body: TICKS })
    const unnamed = await ask(url, `/jobs/${TICKS.jobId}/events?named=false`)
    expect(unnamed.text).toBe(named.text.replaceAll(/^event: .*\n/gm, ''))
  })

  test.each(['hold=yes', 'named=0', 'holds=true', 'hold=true&hold=false'])('with ?%s is 400', async (query) => {
    const { url } = await openWorld()
    const answer = await ask(url, `/jobs/job-12345/events?${query}`)
    expect(answer.json).toMatchObject({ statusCode: 400, code: 'TETHER_INVALID_REQUEST' })
  })

  test('with ?hold=true is a holder, and an observer once the job is being cancelled', async () => {
    const ends = new Gate()
    const stubborn = taskOf('stubborn', async () => ends.opened)
    const { url } = await openWorld({ tasks: [stubborn] })
    const { id } = await startJob(url, { task: 'stubborn', onDisconnect: 'cancel' })
    await eventually('it runs', async () => (await jobOf(url, id)).status === 'running')
    const holder = await RawClient.connect(url)
    holder.request({ path: `/jobs/${id}/events?hold=true` })
    await holder.until('job.started')
    expect(holder.received).toMatch(/x-tether-holder: holder_/)
    await ask(url, `/jobs/${id}/cancel`, { method: 'POST' })
    const observer = await RawClient.connect(url)
    observer.request({ path: `/jobs/${id}/events?hold=true` })
    await observer.until('job.cancelling')
    expect(observer.received).not.toMatch(/x-tether-holder/)
    ends.open()
    await holder.until('event: job.cancelled')
  })

  test('renews the lease of its holder, and of no other', async () => {
    const { url } = await openWorld({ tasks: [waits] })
    const client = await RawClient.connect(url)
    client.request({
      method: 'POST',
      path: '/execute/stream',
      body: { task: 'waits', jobId: 'job-leased', leaseMs: 300 },
    })
    await client.until('job.started')
    const [, holder] = /x-tether-holder: (\S+)/.exec(client.received) ?? []
    for (let n = 0; n < 5; n += 1) {
      expect((await ask(url, '/jobs/job-leased/lease', { body: { holder } })).status).toBe(204)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    expect((await ask(url, '/jobs/job-leased/lease', { body: { holder: 'holder_x' } })).json).toMatchObject({
      statusCode: 400,
      code: 'TETHER_INVALID_REQUEST',
    })
    await client.until('event: job.cancelled')
    expect(client.received).toContain('"cause":"lease_missed"')
  })
})

describe('the stream of all jobs', () => {
  test('carries every change of status with its row and without an id, and leaves out what was not asked for', async () => {
    const { url } = await openWorld({ tasks: [waits] })
    const [all, ticks, ended] = await Promise.all(
      ['', '?task=ticks&group=group-aa', '?status=succeeded,cancelled'].map(async (query) => {
        const client = await RawClient.connect(url)
        client.request({ path: `/jobs/events${query}` })
        await client.until('retry: 1000')
        return client
      }),
    )
    if (all === undefined || ticks === undefined || ended === undefined) throw new Error('no clients')
    const { id } = await startJob(url, { task: 'waits' })
    await ask(url, `/jobs/${id}/cancel?wait=10`, { method: 'POST' })
    await ask(url, '/execute', { body: { ...TICKS, group: 'group-aa' } })
    await all.until('event: job.succeeded')
    expect(typesOf(parseFrames(all.received))).toEqual([
      'job.queued',
      'job.started',
      'job.cancelling',
      'job.cancelled',
      'job.queued',
      'job.started',
      'job.succeeded',
    ])
    expect(all.received).not.toMatch(/^id:/m)
    expect(all.received).toMatch(/^event: job\.cancelled\ndata: \{.*\}$/m)
    expect(parseFrames(all.received).at(-1)).toEqual({
      type: 'job.succeeded',
      jobId: TICKS.jobId,
      seq: expect.any(Number),
      at: expect.stringMatching(/Z$/),
      job: expect.objectContaining({ id: TICKS.jobId, status: 'succeeded', terminal: true }),
    })
    await ticks.until('event: job.succeeded')
    expect(new Set(parseFrames(ticks.received).map((event) => event.jobId))).toEqual(new Set([TICKS.jobId]))
    await ended.until('event: job.succeeded')
    expect(typesOf(parseFrames(ended.received))).toEqual(['job.cancelled', 'job.succeeded'])
  })

  test('refuses a status that there is not', async () => {
    const { url } = await openWorld()
    expect((await ask(url, '/jobs/events?status=done')).json).toMatchObject({ code: 'TETHER_INVALID_REQUEST' })
  })
})

describe('the streams of one client', () => {
  test('are limited, and one that closes makes room', async () => {
    const { url } = await openWorld({ settings: { MAX_STREAMS_PER_CLIENT: '2' }, tasks: [waits] })
    const clients = await Promise.all(
      [1, 2].map(async () => {
        const client = await RawClient.connect(url)
        client.request({ path: '/jobs/events' })
        await client.until('retry: 1000')
        return client
      }),
    )
    const refused = await ask(url, '/execute/stream', { body: { task: 'waits', jobId: 'job-refused' } })
    expect(refused.json).toMatchObject({ statusCode: 429, code: 'TETHER_QUOTA', error: 'Too Many Requests' })
    expect((await ask(url, '/jobs/job-refused')).status).toBe(404)
    expect((await ask(url, '/jobs')).status).toBe(200)
    clients[0]?.socket.destroy()
    const answer = await eventually('there is room again', async () => {
      const tried = await ask(url, '/execute', { body: TICKS })
      return tried.status === 200 && tried
    })
    expect(answer.json).toMatchObject({ status: 'succeeded' })
    await untilEnded(url, TICKS.jobId)
  })
})
