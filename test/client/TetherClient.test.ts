import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import fc from 'fast-check'
import { expect, onTestFinished, test, vi } from 'vitest'
import { ConnectionLost, ServerUnreachable, StreamCut, TetherApiError } from '../../src/client/error.ts'
import type { JobStream } from '../../src/client/JobStream.ts'
import { TetherClient } from '../../src/client/TetherClient.ts'
import { type FakeServer, startFakeServer } from './FakeServer.ts'

const TICKS = { task: 'ticks', input: { count: 2, intervalMs: 0 } }

async function start(options: { token?: string } = {}): Promise<{ server: FakeServer; client: TetherClient }> {
  const server = await startFakeServer()
  return { server, client: clientOf(server.url, options) }
}

function clientOf(server: string, options: { token?: string } = {}): TetherClient {
  const client = new TetherClient({ server, ...options })
  onTestFinished(() => client.close())
  return client
}

async function typesOf(stream: JobStream): Promise<string[]> {
  const types: string[] = []
  for await (const event of stream) types.push(event.type)
  return types
}

test('a stream gives every event of its job and ends after the terminal one', async () => {
  const { server, client } = await start()
  server.play = (job) => {
    job.begin()
    job.output('text', 'tick 1\n')
    job.succeed({ ticks: 1 })
  }
  const stream = await client.stream({ ...TICKS, jobId: 'job_chosen', settleMs: 500 }, { idempotencyKey: 'k1' })
  expect(stream.jobId).toBe('job_chosen')
  expect(stream.holder).toBe('holder-1')
  expect(await typesOf(stream)).toEqual(['job.queued', 'job.started', 'output', 'job.succeeded'])
  expect(stream.lastSeq).toBe(4)
  expect(server.seen[0]?.body).toEqual({ ...TICKS, jobId: 'job_chosen', settleMs: 500 })
  expect(server.seen[0]?.headers['idempotency-key']).toBe('k1')
})

test('the id of a job that the server named is known from the head', async () => {
  const { client } = await start()
  const stream = await client.stream(TICKS)
  expect(stream.jobId).toBe('job_fake0')
  stream.close()
})

test('leaving the loop closes the socket', async () => {
  const { server, client } = await start()
  for await (const event of await client.stream(TICKS)) if (event.type === 'job.started') break
  await vi.waitFor(() => expect(server.job.disconnects).toBe(1))
})

test('closing a stream that nobody reads closes the socket', async () => {
  const { server, client } = await start()
  const stream = await client.stream(TICKS)
  stream.close()
  await vi.waitFor(() => expect(server.job.disconnects).toBe(1))
})

test('closing a stream ends the loop that waits on it, without an error', async () => {
  const { server, client } = await start()
  const stream = await client.stream(TICKS)
  const types = typesOf(stream)
  await vi.waitFor(() => expect(stream.lastSeq).toBe(2))
  stream.close()
  expect(await types).toEqual(['job.queued', 'job.started'])
  await vi.waitFor(() => expect(server.job.disconnects).toBe(1))
})

test('an abort closes the socket and throws its reason, before the head and after it', async () => {
  const { server, client } = await start()
  const reason = new Error('enough')
  const early = new AbortController()
  server.gate = new Promise(() => {})
  const waiting = client.stream(TICKS, { signal: early.signal })
  await vi.waitFor(() => expect(server.seen).toHaveLength(1))
  early.abort(reason)
  await expect(waiting).rejects.toBe(reason)

  server.gate = Promise.resolve()
  const late = new AbortController()
  const stream = await client.stream(TICKS, { signal: late.signal })
  const types = typesOf(stream)
  late.abort(reason)
  await expect(types).rejects.toBe(reason)
  await vi.waitFor(() => expect(server.job.disconnects).toBe(1))
})

test.each([
  ['is broken', 'cut'],
  ['ends properly', 'endStreamsEarly'],
] as const)('a stream that %s before its terminal event is cut, never a quiet end', async (_, how) => {
  const { server, client } = await start()
  const stream = await client.stream(TICKS, { reconnect: false })
  const types = typesOf(stream)
  await vi.waitFor(() => expect(stream.lastSeq).toBe(2))
  server.job[how]()
  const error = await types.catch((caught: unknown) => caught)
  expect(error).toBeInstanceOf(StreamCut)
  expect(error).toMatchObject({ jobId: 'job_fake0', lastSeq: 2 })
})

test('a connection that breaks before the head is a cut as well, since the job may have been started', async () => {
  const { server, client } = await start()
  server.intercept = (request) => {
    request.socket.destroy()
    return true
  }
  await expect(client.stream({ ...TICKS, jobId: 'job_chosen' }, { reconnect: false })).rejects.toMatchObject({
    name: 'StreamCut',
    jobId: 'job_chosen',
    lastSeq: 0,
  })
  await expect(client.start(TICKS)).rejects.toBeInstanceOf(ConnectionLost)
})

test('events and statuses that the client does not know are passed on and end nothing', async () => {
  const { server, client } = await start()
  server.play = (job) => {
    job.begin()
    job.send('job.waiting', { until: 'later' })
    job.send('weather', { value: 'rain' })
    job.succeed(null)
  }
  const types = await typesOf(await client.stream(TICKS))
  expect(types).toEqual(['job.queued', 'job.started', 'job.waiting', 'weather', 'job.succeeded'])
})

test('a stream is read right wherever its bytes are cut on the way', async () => {
  const { server, client } = await start()
  const text = 'grün €😀'
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 8 }), async (sizes) => {
      server.play = (job) => {
        const line = JSON.stringify({ type: 'output', jobId: job.id, seq: 2, at: '', channel: 'text', text })
        const bytes = Buffer.from(`id: 2\r\nevent: output\r\ndata: ${line}\r\n\r\n: beat\r\n\r\n`)
        let start = 0
        const next = (index: number): void => {
          const size = sizes[index % sizes.length] ?? 1
          job.write(bytes.subarray(start, start + size))
          start += size
          if (start < bytes.length) setImmediate(next, index + 1)
          else job.succeed(null)
        }
        next(0)
      }
      const texts: string[] = []
      for await (const event of await client.stream(TICKS)) if (event.type === 'output') texts.push(event.text)
      expect(texts).toEqual([text])
    }),
    { numRuns: 30 },
  )
})

test('what is no event makes the stream a cut one, with the reason', async () => {
  const { server, client } = await start()
  server.play = (job) => job.write('data: {"no":"type"}\n\n')
  await expect(typesOf(await client.stream(TICKS))).rejects.toThrow('an event must be a JSON object with a type')
  // It would come again.
  expect(server.requestsTo('GET', /events$/)).toEqual([])
})

test('attaching reads on after a place and does not hold unless asked to', async () => {
  const { server, client } = await start()
  await client.start({ ...TICKS, jobId: 'job_background' })
  const stream = await client.attach('job_background', { after: 1 })
  server.job.succeed('done')
  expect(await typesOf(stream)).toEqual(['job.started', 'job.succeeded'])
  expect(server.requestsTo('GET', /events$/)[0]?.query.toString()).toBe('after=1')
  ;(await client.attach('job_background', { hold: true })).close()
  expect(server.requestsTo('GET', /events$/)[1]?.query.toString()).toBe('hold=true')
})

test('attaching where everything was read gives a stream with nothing in it', async () => {
  const { server, client } = await start()
  server.play = (job) => job.succeed(1)
  await client.start({ ...TICKS, jobId: 'job_background' })
  expect(await typesOf(await client.attach('job_background', { after: 2 }))).toEqual([])
})

test('a cancel says whether the job has ended, was asked to end, or is remembered', async () => {
  const { server, client } = await start()
  await client.start({ ...TICKS, jobId: 'job_one_' })
  server.onEnd = (job, kind) => job.committed(kind)
  expect(await client.stop('job_one_')).toMatchObject({
    kind: 'accepted',
    delivery: 'local',
    job: { status: 'stopping' },
  })
  server.onEnd = (job, kind) => job.released(kind)
  expect(await client.cancel('job_one_', { reason: 'enough', waitSeconds: 3 })).toMatchObject({
    kind: 'ended',
    job: { status: 'cancelled' },
  })
  expect(server.seen.at(-1)).toMatchObject({ body: { reason: 'enough' } })
  expect(server.seen.at(-1)?.query.get('wait')).toBe('3')
  expect(await client.cancel('job_unknown', { ifUnknown: 'remember' })).toMatchObject({
    kind: 'remembered',
    request: 'cancel',
    delivery: 'remembered',
  })
  await expect(client.cancel('job_unheard')).rejects.toMatchObject({ statusCode: 404, code: 'TETHER_JOB_NOT_FOUND' })
})

test('jobs and tasks can be looked at', async () => {
  const { server, client } = await start()
  await client.start({ ...TICKS, jobId: 'job_background' })
  expect((await client.job('job_background')).status).toBe('running')
  expect(await client.list({ status: 'running', limit: 5 })).toMatchObject({ jobs: [{ id: 'job_background' }] })
  expect(server.seen.at(-1)?.query.toString()).toBe('status=running&limit=5')
  expect((await client.tasks()).map(({ name }) => name)).toEqual(['agent', 'command', 'ticks'])
  expect((await client.changePolicy('job_background', { onDisconnect: 'stop' })).policy.onDisconnect).toBe('stop')
})

test('a refusal has the status, the code and the message of the server', async () => {
  const { server, client } = await start({ token: 'wrong' })
  server.token = 'right'
  const refusal = await client.tasks().catch((caught: unknown) => caught)
  expect(refusal).toBeInstanceOf(TetherApiError)
  expect(refusal).toMatchObject({
    statusCode: 401,
    code: 'TETHER_UNAUTHORIZED',
    message: 'the token is missing or wrong',
  })
  expect((await clientOf(server.url, { token: 'right' }).tasks()).length).toBe(3)
})

test('a refusal that says when to come again is passed on with that', async () => {
  const { server, client } = await start()
  server.intercept = (_, response) => {
    response.writeHead(503, { 'content-type': 'application/json', 'retry-after': '7' })
    response.end(JSON.stringify({ statusCode: 503, code: 'TETHER_DRAINING', error: 'x', message: 'going down' }))
    return true
  }
  await expect(client.stream(TICKS)).rejects.toMatchObject({ code: 'TETHER_DRAINING', retryAfterSeconds: 7 })
})

test('where nothing listens there is no server', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  for (const name of ['127.0.0.1', 'localhost', 'no-such-host.invalid']) {
    await expect(clientOf(`http://${name}:${port}`).stream(TICKS)).rejects.toBeInstanceOf(ServerUnreachable)
  }
})

test('what answers and is no Tether server counts as none', async () => {
  const { server, client } = await start()
  server.intercept = (_, response) => {
    response.writeHead(200, { 'content-type': 'text/html' }).end('<h1>It works!</h1>')
    return true
  }
  await expect(client.stream({ ...TICKS, jobId: 'job_chosen' })).rejects.toBeInstanceOf(ServerUnreachable)
  await expect(client.tasks()).rejects.toBeInstanceOf(ServerUnreachable)
  server.intercept = (_, response) => {
    response.writeHead(502).end('Bad Gateway')
    return true
  }
  await expect(client.tasks()).rejects.toBeInstanceOf(ServerUnreachable)

  const other = createServer((socket) => socket.end('220 mail.example ESMTP\r\n')).listen(0, '127.0.0.1')
  await once(other, 'listening')
  onTestFinished(() => void other.close())
  await expect(clientOf(`http://127.0.0.1:${(other.address() as AddressInfo).port}`).tasks()).rejects.toBeInstanceOf(
    ServerUnreachable,
  )
})

test('a server behind a path is reached there', async () => {
  const { server } = await start()
  server.intercept = (request, response) => {
    response.end(JSON.stringify([{ name: request.url }]))
    return true
  }
  expect(await clientOf(`${server.url}/behind/proxy`).tasks()).toEqual([{ name: '/behind/proxy/tasks' }])
})

test('an id that no job can have is never sent', async () => {
  const { server, client } = await start()
  for (const id of ['', '..', 'a/b', 'job_x?y=1']) await expect(client.cancel(id)).rejects.toThrow(TypeError)
  expect(server.seen).toEqual([])
})

test.each(['localhost:3000', 'ftp://x', ''])('a server must be an http URL, which %j is not', (server) => {
  expect(() => new TetherClient({ server })).toThrow('server must be an http or https URL')
})
