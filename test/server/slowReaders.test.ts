import { createServer, type ServerResponse } from 'node:http'
import { createServer as createTcpServer, type Socket } from 'node:net'
import { pino } from 'pino'
import { describe, expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { Presence } from '../../src/server/Presence.ts'
import { zeroCounters } from '../../src/server/ServerCounters.ts'
import { StreamQuota } from '../../src/server/StreamQuota.ts'
import { bytesTakenOf } from '../../src/server/sse/kernelProgress.ts'
import { LiveResponse } from '../../src/server/sse/LiveResponse.ts'
import { OpenResponses } from '../../src/server/sse/OpenResponses.ts'
import { ReaderBudget } from '../../src/server/sse/ReaderBudget.ts'
import { SseStream } from '../../src/server/sse/SseStream.ts'
import { eventually, Gate, openWorld, parseFrames, taskOf } from '../world.ts'
import { RawClient } from './RawClient.ts'
import { ask, jobOf, startJob } from './requests.ts'

const ID = 'job-12345'
/** More than the kernel takes on loopback for a client that does not read. */
const MANY = 24
const MEGABYTE = 'x'.repeat(1024 * 1024)

const pours = taskOf('pours', async (ctx) => {
  for (let n = 0; n < MANY; n += 1) await ctx.output(`${n}${MEGABYTE}`)
})

/** Whether this client may open another stream: a start of a task that is not there is refused only after the streams are counted. */
async function hasRoom(url: string): Promise<boolean> {
  return (await ask(url, '/execute', { body: { task: 'nothing' } })).status === 404
}

describe('a silent stream', () => {
  test('carries a comment at least every HEARTBEAT_MS', async () => {
    const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))
    const { url } = await openWorld({ settings: { HEARTBEAT_MS: '400' }, tasks: [waits] })
    const client = await RawClient.connect(url)
    const gapsMs: number[] = []
    let lastMs = performance.now()
    client.socket.on('data', () => {
      gapsMs.push(performance.now() - lastMs)
      lastMs = performance.now()
    })
    client.request({ method: 'POST', path: '/execute/stream', body: { task: 'waits' } })
    await client.until(/(:\n\n[^:]*){5}/)
    expect(client.received.split('event: job.started')[1]).toMatch(/\n:\n\n/)
    // What the loop of a busy machine adds is not the server's.
    expect(Math.max(...gapsMs)).toBeLessThan(400 + 200)
  })

  test('carries no comment while it is not silent', async () => {
    const { url } = await openWorld({ settings: { HEARTBEAT_MS: '400' } })
    const client = await RawClient.connect(url)
    client.request({
      method: 'POST',
      path: '/execute/stream',
      body: { task: 'ticks', input: { count: 60, intervalMs: 10 } },
    })
    await client.until('event: job.succeeded')
    expect(client.received).not.toMatch(/^:$/m)
  })
})

describe('a client that reads nothing', () => {
  test('is destroyed after STALL_MS, which looks like no end', async () => {
    const { url } = await openWorld({ settings: { STALL_MS: '200', MAX_STREAMS_PER_CLIENT: '1' }, tasks: [pours] })
    await startJob(url, { task: 'pours', jobId: ID })
    await eventually('the job has ended', async () => (await jobOf(url, ID)).terminal)
    const client = await RawClient.connect(url, { isReading: false })
    client.request({ path: `/jobs/${ID}/events` })
    await eventually('the stream is there', async () => !(await hasRoom(url)))
    await eventually('the stream is gone', () => hasRoom(url))
    client.read()
    await client.closed
    expect(client.received.length).toBeGreaterThan(1000)
    expect(client.received).not.toContain('job.succeeded')
    expect(client.received).not.toMatch(/\r\n0\r\n\r\n$/)
  })

  test('is a holder lost as slow_consumer', async () => {
    const ends = new Gate()
    const poursOn = taskOf('pours-on', async (ctx) => {
      for (let n = 0; n < MANY; n += 1) await ctx.output(MEGABYTE)
      await ctx.sleep(60_000)
      ends.open()
    })
    const { url } = await openWorld({ settings: { STALL_MS: '200' }, tasks: [poursOn] })
    const client = await RawClient.connect(url, { isReading: false })
    client.request({ method: 'POST', path: '/execute/stream', body: { task: 'pours-on', jobId: ID } })
    const job = await eventually('it has ended', async () => {
      const view = await jobOf(url, ID)
      return view.terminal && view
    })
    expect(job).toMatchObject({ status: 'cancelled', cancellation: { cause: 'slow_consumer' } })
  })

  test('holds up neither the job nor another reader', async () => {
    const { url } = await openWorld({ tasks: [pours] })
    const deaf = await RawClient.connect(url, { isReading: false })
    deaf.request({ method: 'POST', path: '/execute/stream', body: { task: 'pours', jobId: ID } })
    await eventually('the job is there', async () => (await jobOf(url, ID)).id === ID)
    const response = await fetch(`${url}/jobs/${ID}/events`)
    const events = parseFrames(await response.text())
    expect(events.at(-1)?.type).toBe('job.succeeded')
    const text = events.map((event) => (event.type === 'output' ? event.text : '')).join('')
    expect(text.length).toBeGreaterThan(MANY * MEGABYTE.length)
    expect(events.map((event) => event.seq)).toEqual(events.map((_, index) => index + 1))
  })

  test('and reads in the end gets everything, without gap or repeat', async () => {
    const { url } = await openWorld({ settings: { MAX_BUFFERED_BYTES: '65536' }, tasks: [pours] })
    const client = await RawClient.connect(url, { isReading: false })
    client.request({ method: 'POST', path: '/execute/stream', body: { task: 'pours', jobId: ID } })
    await eventually('the job has ended', async () => (await jobOf(url, ID)).terminal)
    client.read()
    await client.until('event: job.succeeded')
    await client.until(/\r\n0\r\n\r\n$/)
  })
})

test('a client that reads slowly is not ended, however long it takes', async () => {
  const { url } = await openWorld({ settings: { STALL_MS: '400', MAX_BUFFERED_BYTES: '262144' }, tasks: [pours] })
  await startJob(url, { task: 'pours', jobId: ID })
  await eventually('the job has ended', async () => (await jobOf(url, ID)).terminal)
  const client = await RawClient.connect(url, { isReading: false })
  client.request({ path: `/jobs/${ID}/events` })
  let bytes = 0
  let tail = ''
  client.socket.pause()
  client.socket.on('data', (chunk: Buffer) => {
    bytes += chunk.length
    tail = chunk.toString().slice(-200)
    // One chunk of 64 KiB, then a pause shorter than the stall.
    client.socket.pause()
  })
  const timer = setInterval(() => client.socket.resume(), 4)
  onTestFinished(() => clearInterval(timer))
  await eventually('the log was read', () => bytes > MANY * MEGABYTE.length && tail.endsWith('\r\n0\r\n\r\n'))
  expect(client.isClosed).toBe(false)
})

test('a list that falls behind is cut off, and others go on', async () => {
  const { url, jobs } = await openWorld({ settings: { MAX_BUFFERED_BYTES: '1024' } })
  const deaf = await RawClient.connect(url, { isReading: false })
  deaf.request({ path: '/jobs/events' })
  const other = await RawClient.connect(url)
  other.request({ path: '/jobs/events?status=failed' })
  await other.until('retry: 1000')
  let isCut = false
  deaf.socket.once('close', () => {
    isCut = true
  })
  const body = { task: 'ticks', input: { count: 0, intervalMs: 0 }, metadata: { long: 'x'.repeat(16_000) } }
  await eventually('it is cut off', async () => {
    await Promise.all(Array.from({ length: 20 }, () => startJob(url, body)))
    // A reset is seen by who tries to write.
    deaf.socket.write(' ')
    return isCut
  })
  expect(other.isClosed).toBe(false)
  await eventually('all have ended', () => jobs.activeCount === 0)
})

test('a list whose reader keeps up has everything, however much happens at once', async () => {
  const { url, jobs } = await openWorld({
    settings: { CONCURRENCY: '1', MAX_QUEUED: '10000', MAX_BUFFERED_BYTES: '1048576' },
    tasks: [taskOf('waits', async (ctx) => ctx.sleep(60_000))],
  })
  const group = 'group_of_many'
  const metadata = { long: 'x'.repeat(15_000) }
  const body = { task: 'waits', group, metadata }
  for (let n = 0; n < 4; n += 1) await Promise.all(Array.from({ length: 50 }, () => startJob(url, body)))
  const reader = await RawClient.connect(url)
  reader.request({ path: '/jobs/events?status=cancelled' })
  await reader.until('retry: 1000')
  // Two hundred views of 15 kB, three times what may wait for one reader.
  const answer = await ask(url, `/groups/${group}/cancel`, { body: {} })
  expect(answer.status).toBe(202)
  await eventually('all have ended', () => jobs.activeCount === 0)
  await eventually('all are told', () => reader.received.split('"status":"cancelled"').length > 200)
  expect(reader.isClosed).toBe(false)
})

/** A response to a client that does not read, without anything behind it. */
async function deafResponse(): Promise<ServerResponse> {
  const opened = Promise.withResolvers<ServerResponse>()
  const server = createServer((_request, response) => opened.resolve(response))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the server has no port')
  const client = await RawClient.connect(`http://127.0.0.1:${address.port}`, { isReading: false })
  client.request({ path: '/' })
  return opened.promise
}

describe('the memory of one stream', () => {
  async function deafStream(maxBufferedBytes: number): Promise<{ raw: ServerResponse; stream: SseStream }> {
    const raw = await deafResponse()
    const context = {
      budget: new ReaderBudget(maxBufferedBytes),
      logger: pino({ level: 'silent' }),
      counters: zeroCounters(),
      open: new OpenResponses(systemClock, { heartbeatMs: 15_000, stallMs: 60_000 }),
    }
    return { raw, stream: new SseStream(new Presence(raw, 'test', new StreamQuota(1), undefined), context) }
  }

  test.each([1024, 65_536, 1024 * 1024])(
    'stays within a budget of %i and what one write is long',
    async (maxBufferedBytes) => {
      const { raw, stream } = await deafStream(maxBufferedBytes)
      const frame = Buffer.from('x'.repeat(10_000))
      let written = 0
      while (stream.write(frame)) {
        written += 1
        if (written % 16 === 0) await new Promise((resolve) => setImmediate(resolve))
        if (written > 100_000) throw new Error('it never said that it is full')
      }
      expect(raw.writableLength).toBeLessThan(Math.max(maxBufferedBytes, raw.writableHighWaterMark) + 30_000)
    },
  )

  test('counts text that waits to be joined', async () => {
    const { stream } = await deafStream(1024)
    let written = 0
    while (stream.write('x'.repeat(1000))) {
      written += 1
      if (written > 100_000) throw new Error('it never said that it is full')
    }
    expect(written).toBeGreaterThan(0)
  })
})

class LongAnswer extends LiveResponse {
  readonly kind = 'outcome'
  protected readonly sentEvents = 0
  protected readonly heartbeat = ''
  begin(): void {
    this.noteBegin()
    this.raw.write(Buffer.alloc(64 * MEGABYTE.length))
  }
  override onClosed(): void {}
  override shutDown(): void {}
}

test('what a response was sent does not go back when it is destroyed in the middle of a write', async () => {
  const raw = await deafResponse()
  const answer = new LongAnswer(new Presence(raw, 'test', new StreamQuota(1), undefined), zeroCounters())
  answer.begin()
  const before = await eventually('the kernel took some of it', () => answer.sent.bytes > 0 && answer.sent.bytes)
  raw.destroy()
  expect(answer.sent.bytes).toBeGreaterThanOrEqual(before)
})

test('what the kernel takes of one long write is seen before the whole of it is gone', async () => {
  const accepted = Promise.withResolvers<Socket>()
  const server = createTcpServer((socket) => accepted.resolve(socket))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the server has no port')
  const client = await RawClient.connect(`http://127.0.0.1:${address.port}`, { isReading: false })
  const socket = await accepted.promise
  // The test ends with the client gone and most of the write not taken.
  socket.on('error', () => undefined)
  const length = 64 * MEGABYTE.length
  let isWritten = false
  socket.write(Buffer.alloc(length), () => {
    isWritten = true
  })
  const first = bytesTakenOf(socket)
  expect(first).toBeLessThan(length)
  client.socket.on('data', () => client.socket.pause())
  await eventually('the kernel took more', () => {
    client.socket.resume()
    return bytesTakenOf(socket) > first
  })
  expect(isWritten).toBe(false)
  expect(socket.writableLength).toBe(length)
})
