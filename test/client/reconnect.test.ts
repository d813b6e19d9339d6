import { spawn } from 'node:child_process'
import { getEventListeners, once } from 'node:events'
import { expect, onTestFinished, test, vi } from 'vitest'
import { ServerUnreachable, StreamCut, TetherApiError } from '../../src/client/error.ts'
import type { JobStream } from '../../src/client/JobStream.ts'
import type { Loss, Recovery } from '../../src/client/Reconnect.ts'
import { TetherClient } from '../../src/client/TetherClient.ts'
import { openProxy } from './CutProxy.ts'
import { type FakeServer, startFakeServer } from './FakeServer.ts'

// How a stream comes back, and when it does not (docs/protocol.md, section 4, "Attaching").

const TICKS = { task: 'ticks', input: {}, jobId: 'job_chosen' }

interface Watched {
  readonly server: FakeServer
  readonly client: TetherClient
  readonly losses: Loss[]
  readonly recoveries: Recovery[]
  /** Notes both. */
  readonly hooks: { readonly onLost: (loss: Loss) => void; readonly onBack: (recovery: Recovery) => void }
}

async function start(options: { maxSilenceMs?: number } = {}): Promise<Watched> {
  const server = await startFakeServer()
  const client = new TetherClient({ server: server.url, ...options })
  onTestFinished(() => client.close())
  const [losses, recoveries]: [Loss[], Recovery[]] = [[], []]
  return {
    server,
    client,
    losses,
    recoveries,
    hooks: { onLost: (loss) => losses.push(loss), onBack: (recovery) => recoveries.push(recovery) },
  }
}

async function typesOf(stream: JobStream): Promise<string[]> {
  const types: string[] = []
  for await (const event of stream) types.push(event.type)
  return types
}

/** How a loop over the stream ends, in the background. */
function failureOf(stream: JobStream): Promise<unknown> {
  return typesOf(stream).then(
    (types) => new Error(`it ended with ${types.join()}`),
    (error: unknown) => error,
  )
}

function attachesOf(server: FakeServer): string[] {
  return server.requestsTo('GET', /events$/).map(({ query }) => query.toString())
}

/** Refuses attaches while it is on. */
function refuseAttaches(
  server: FakeServer,
  statusCode: number,
  code: string,
  headers: Record<string, string> = {},
): void {
  server.intercept = (request, response) => {
    if (request.method !== 'GET') return false
    server.refuse(response, statusCode, code, headers)
    return true
  }
}

/** Takes attaches and never answers. */
function hangAttaches(server: FakeServer): void {
  server.intercept = (request) => request.method === 'GET'
}

test.each([
  ['is broken', 'cut'],
  ['ends properly', 'endStreamsEarly'],
] as const)('a stream that %s before its terminal event goes on after the last event, as a holder', async (_, how) => {
  const { server, client, losses, recoveries, hooks } = await start()
  const { signal } = new AbortController()
  const stream = await client.stream(TICKS, { signal, reconnect: { ...hooks, signal } })
  const types = typesOf(stream)
  await vi.waitFor(() => expect(stream.lastSeq).toBe(2))
  server.job[how]()
  server.job.output('text', 'missed')
  await vi.waitFor(() => expect(stream.lastSeq).toBe(3))
  server.job.succeed(null)
  expect(await types).toEqual(['job.queued', 'job.started', 'output', 'job.succeeded'])
  expect(attachesOf(server)).toEqual(['after=2&hold=true'])
  expect(losses).toMatchObject([{ jobId: 'job_chosen', lastSeq: 2, tryForMs: 10_000 }])
  expect(recoveries).toEqual([{ jobId: 'job_chosen', lastSeq: 2, afterMs: expect.any(Number) }])
  expect(getEventListeners(signal, 'abort')).toEqual([])
})

test('it is tried for as long as the grace, which a start says itself', async () => {
  const { server, client, losses, hooks } = await start()
  const types = typesOf(await client.stream({ ...TICKS, disconnectGraceMs: 25_000 }, { reconnect: hooks }))
  server.job.cut()
  await vi.waitFor(() => expect(losses).toMatchObject([{ tryForMs: 25_000 }]))
  server.job.succeed(null)
  await types
})

test('the grace of a job that was there before is in its first event, or asked for where that was read before', async () => {
  const { server, client, losses, hooks } = await start()
  await client.start({ ...TICKS, disconnectGraceMs: 25_000 })
  const whole = typesOf(await client.attach('job_chosen', { reconnect: hooks }))
  const rest = typesOf(await client.attach('job_chosen', { after: 1, reconnect: hooks }))
  await vi.waitFor(() => expect(server.requestsTo('GET', /job_chosen$/)).toHaveLength(1))
  // The answer is on its way; the stream itself is not to be hurried on its account.
  await vi.waitFor(() => {
    server.job.cut()
    expect(losses.filter(({ tryForMs }) => tryForMs === 25_000)).toHaveLength(2)
  })
  server.job.succeed(null)
  await Promise.all([whole, rest])
})

test('when the time is up it is the cut that it was, with what failed last', async () => {
  const { server, client, losses, recoveries, hooks } = await start()
  const stream = await client.stream(TICKS, { reconnect: { ...hooks, tryAtLeastMs: 400 } })
  const failure = failureOf(stream)
  await vi.waitFor(() => expect(stream.lastSeq).toBe(2))
  const closing = server.close()
  await vi.waitFor(() => expect(losses).toHaveLength(1))
  const lostAtMs = performance.now()
  expect(await failure).toMatchObject({ name: 'StreamCut', jobId: 'job_chosen', lastSeq: 2 })
  expect(await failure).toHaveProperty('cause', expect.any(ServerUnreachable))
  expect(performance.now() - lostAtMs).toBeGreaterThan(350)
  expect([losses.length, recoveries.length]).toEqual([1, 0])
  await closing
})

test('a server that says when to come again is not asked before', async () => {
  const { server, client, recoveries, hooks } = await start()
  const types = typesOf(await client.stream(TICKS, { reconnect: hooks }))
  const askedAtMs: number[] = []
  server.intercept = (request, response) => {
    if (request.method !== 'GET') return false
    askedAtMs.push(performance.now())
    if (askedAtMs.length > 1) return false
    server.refuse(response, 503, 'TETHER_DRAINING', { 'retry-after': '1' })
    return true
  }
  server.job.cut()
  await vi.waitFor(() => expect(recoveries).toHaveLength(1), 5000)
  const [first = 0, second = 0] = askedAtMs
  expect(second - first).toBeGreaterThan(990)
  server.job.succeed(null)
  await types
})

test('a server that wants to be asked when it is too late is not waited for', async () => {
  const { server, client } = await start()
  const stream = await client.stream(TICKS)
  refuseAttaches(server, 503, 'TETHER_DRAINING', { 'retry-after': '3600' })
  server.job.cut()
  expect(await failureOf(stream)).toMatchObject({ name: 'StreamCut', cause: { code: 'TETHER_DRAINING' } })
  expect(attachesOf(server)).toHaveLength(1)
})

test.each([
  [401, 'TETHER_UNAUTHORIZED'],
  [404, 'TETHER_JOB_NOT_FOUND'],
  [410, 'TETHER_JOB_DELETED'],
])('a refusal that stands (%i) ends it', async (statusCode, code) => {
  const { server, client } = await start()
  const stream = await client.stream(TICKS)
  refuseAttaches(server, statusCode, code)
  server.job.cut()
  const failure = await failureOf(stream)
  expect(failure).toBeInstanceOf(TetherApiError)
  expect(failure).toMatchObject({ statusCode, code })
  expect(attachesOf(server)).toHaveLength(1)
})

test.each([
  ['too many requests', 429, 'TETHER_RATE_LIMITED'],
  ['a fault of the server', 500, 'TETHER_INTERNAL'],
])('%s is a refusal for now', async (_, statusCode, code) => {
  const { server, client } = await start()
  const types = typesOf(await client.stream(TICKS))
  refuseAttaches(server, statusCode, code)
  server.job.cut()
  await vi.waitFor(() => expect(attachesOf(server).length).toBeGreaterThan(1))
  server.intercept = () => false
  server.job.succeed(null)
  expect((await types).at(-1)).toBe('job.succeeded')
})

test("a proxy's page, while the server behind it is away, is no answer", async () => {
  const { server, client } = await start()
  const types = typesOf(await client.stream(TICKS))
  server.intercept = (request, response) => {
    if (request.method !== 'GET' || attachesOf(server).length > 2) return false
    response.writeHead(502, { 'content-type': 'text/html' }).end('<h1>Bad Gateway</h1>')
    return true
  }
  server.job.cut()
  server.job.succeed(null)
  expect((await types).at(-1)).toBe('job.succeeded')
})

test('a server that takes connections and breaks them at once is asked more and more rarely', async () => {
  const longest = vi.spyOn(Math, 'random').mockReturnValue(0.99)
  onTestFinished(() => longest.mockRestore())
  const { server, client, recoveries, hooks } = await start()
  const stream = await client.stream(TICKS, { reconnect: hooks })
  const types = typesOf(stream)
  await vi.waitFor(() => expect(stream.lastSeq).toBe(2))
  server.intercept = (request, response) => {
    if (request.method !== 'GET') return false
    response.writeHead(200, { 'content-type': 'text/event-stream', 'x-tether-job-id': 'job_chosen' })
    response.write('retry: 1000\n\n')
    setImmediate(() => response.destroy())
    return true
  }
  server.job.cut()
  await vi.waitFor(() => expect(recoveries).toHaveLength(4), 8000)
  for (const [index, leastMs] of [90, 190, 390, 780].entries()) {
    expect(recoveries[index]?.afterMs).toBeGreaterThan(leastMs)
  }
  server.intercept = () => false
  server.job.succeed(null)
  expect((await types).at(-1)).toBe('job.succeeded')
})

test('a network that breaks again and again is kept up with, as long as events come through', async () => {
  const { server, client, recoveries, hooks } = await start()
  const stream = await client.stream(TICKS, { reconnect: hooks })
  const types = typesOf(stream)
  for (let round = 1; round <= 8; round += 1) {
    await vi.waitFor(() => expect(stream.lastSeq).toBe(1 + round))
    server.job.cut()
    server.job.output('text', `${round}`)
    await vi.waitFor(() => expect(recoveries).toHaveLength(round), 5000)
  }
  server.job.succeed(null)
  await types
  // Eight waits of 50 ms on average; were each longer than the one before, they would take 4500.
  expect(recoveries.reduce((sumMs, { afterMs }) => sumMs + afterMs, 0)).toBeLessThan(2000)
})

test('events that came together come once, also where the connection breaks while the reader has got to some of them', async () => {
  const { server, client, losses, recoveries, hooks } = await start()
  await client.start(TICKS)
  for (let part = 3; part <= 6; part += 1) server.job.output('text', `${part}`)
  const stream = await client.attach('job_chosen', { reconnect: hooks })
  const seqs: number[] = []
  for await (const { seq } of stream) {
    seqs.push(seq)
    if (seq !== 4 || recoveries.length > 0) continue
    server.job.cut()
    await vi.waitFor(() => expect(recoveries).toHaveLength(1))
    server.job.succeed(null)
  }
  expect(seqs).toEqual([1, 2, 3, 4, 5, 6, 7])
  expect(losses).toMatchObject([{ lastSeq: 6 }])
})

test('events that the log has lost are given again, after the gap that says so', async () => {
  const { server, client } = await start()
  const stream = await client.stream(TICKS)
  const seen: [number, string][] = []
  const reading = (async () => {
    for await (const event of stream) seen.push([event.seq, event.type])
  })()
  server.job.output('text', 'kept')
  server.job.output('text', 'lost')
  await vi.waitFor(() => expect(stream.lastSeq).toBe(4))
  server.job.loseTail(3)
  server.job.cut()
  await vi.waitFor(() => expect(seen.at(-1)).toEqual([3, 'gap']))
  server.job.output('text', 'said again')
  server.job.succeed(null)
  await reading
  expect(seen.slice(3)).toEqual([
    [4, 'output'],
    [3, 'gap'],
    [4, 'output'],
    [5, 'job.succeeded'],
  ])
})

test('a job whose last event took the number of one that was lost still ends with that event', async () => {
  const { server, client } = await start()
  const stream = await client.stream(TICKS)
  const types = typesOf(stream)
  server.job.output('text', 'lost')
  await vi.waitFor(() => expect(stream.lastSeq).toBe(3))
  const failure = { code: 'TETHER_SERVER_CRASHED', message: 'it died', retryable: true }
  server.job.loseTail(2)
  server.intercept = (request) => {
    server.intercept = () => false
    if (request.method === 'GET') server.job.end('interrupted', { failure })
    return false
  }
  server.job.cut()
  expect(await types).toEqual(['job.queued', 'job.started', 'output', 'job.interrupted'])
})

test.each([
  ['before the connection breaks', 'before'],
  ['in the middle of a wait', 'waiting'],
  ['while an answer is waited for', 'asking'],
] as const)('who says %s that enough is enough gets the cut at once', async (_, when) => {
  const { server, client, losses, recoveries, hooks } = await start()
  const enough = new AbortController()
  const stream = await client.stream(TICKS, { reconnect: { ...hooks, signal: enough.signal } })
  const failure = failureOf(stream)
  await vi.waitFor(() => expect(stream.lastSeq).toBe(2))
  if (when === 'waiting') refuseAttaches(server, 503, 'TETHER_DRAINING', { 'retry-after': '9' })
  if (when === 'asking') hangAttaches(server)
  if (when === 'before') enough.abort()
  server.job.cut()
  if (when !== 'before') await vi.waitFor(() => expect(attachesOf(server)).toHaveLength(1))
  const saidAtMs = performance.now()
  enough.abort()
  expect(await failure).toMatchObject({ name: 'StreamCut', jobId: 'job_chosen', lastSeq: 2 })
  expect(performance.now() - saidAtMs).toBeLessThan(1000)
  expect(attachesOf(server)).toHaveLength(when === 'before' ? 0 : 1)
  expect([losses.length, recoveries.length]).toEqual([when === 'before' ? 0 : 1, 0])
  expect(getEventListeners(enough.signal, 'abort')).toEqual([])
})

test('who says so leaves a connection that stands, also one that was made anew', async () => {
  const { server, client, recoveries, hooks } = await start()
  const enough = new AbortController()
  const types = typesOf(await client.stream(TICKS, { reconnect: { ...hooks, signal: enough.signal } }))
  server.job.cut()
  await vi.waitFor(() => expect(recoveries).toHaveLength(1))
  enough.abort()
  server.job.succeed(null)
  expect((await types).at(-1)).toBe('job.succeeded')
})

test.each([
  ['wait', 'waiting'],
  ['answer that does not come', 'asking'],
] as const)('an abort in the middle of a %s throws its reason, and closing ends the loop', async (_, when) => {
  const { server, client } = await start()
  const [reason, abort] = [new Error('enough'), new AbortController()]
  const [aborted, closed] = await Promise.all([client.stream(TICKS, { signal: abort.signal }), client.stream(TICKS)])
  const [failure, types] = [failureOf(aborted), typesOf(closed)]
  await vi.waitFor(() => expect([aborted.lastSeq, closed.lastSeq]).toEqual([2, 2]))
  if (when === 'asking') hangAttaches(server)
  else refuseAttaches(server, 503, 'TETHER_DRAINING', { 'retry-after': '9' })
  server.job.cut()
  await vi.waitFor(() => expect(attachesOf(server)).toHaveLength(2))
  abort.abort(reason)
  closed.close()
  expect(await failure).toBe(reason)
  expect(await types).toEqual(['job.queued', 'job.started'])
  expect(getEventListeners(abort.signal, 'abort')).toEqual([])
})

test('a client that is closed does not come back', async () => {
  const { client, losses, hooks } = await start()
  const stream = await client.stream(TICKS, { reconnect: hooks })
  const failure = failureOf(stream)
  await vi.waitFor(() => expect(stream.lastSeq).toBe(2))
  await client.close()
  expect(await failure).toBeInstanceOf(StreamCut)
  expect(losses).toEqual([])
})

test('where it is not wanted, a cut is the end', async () => {
  const { server, client } = await start()
  const stream = await client.stream(TICKS, { reconnect: false })
  server.job.cut()
  expect(await failureOf(stream)).toBeInstanceOf(StreamCut)
  expect(attachesOf(server)).toEqual([])
})

test('an attach whose answer was cut off is sent again', async () => {
  const { server, client, losses, hooks } = await start()
  await client.start(TICKS)
  const proxy = await openProxy(server.url)
  const behind = new TetherClient({ server: proxy.url })
  onTestFinished(() => behind.close())
  proxy.cuts.push(0, 20)
  const stream = await behind.attach('job_chosen', { hold: true, reconnect: hooks })
  expect(losses).toMatchObject([{ jobId: 'job_chosen', lastSeq: 0 }])
  server.job.succeed(null)
  expect(await typesOf(stream)).toEqual(['job.queued', 'job.started', 'job.succeeded'])
  expect(attachesOf(server)).toEqual(['hold=true', 'hold=true', 'hold=true'])
})

test('a start that nobody could send twice is not, nor one that met no server at all', async () => {
  const { server, client, losses, hooks } = await start()
  server.intercept = (request) => {
    request.socket.destroy()
    return true
  }
  await expect(client.stream({ task: 'ticks', input: {} }, { reconnect: hooks })).rejects.toBeInstanceOf(StreamCut)
  expect(server.requestsTo('POST', /stream$/)).toHaveLength(1)
  await server.close()
  await expect(client.stream(TICKS, { reconnect: hooks })).rejects.toBeInstanceOf(ServerUnreachable)
  await expect(client.attach('job_chosen', { reconnect: hooks })).rejects.toBeInstanceOf(ServerUnreachable)
  expect(losses).toEqual([])
})

test('a start that cannot be sent again within the time is the cut that it was', async () => {
  const { server, client, losses, hooks } = await start()
  server.intercept = (request) => {
    request.socket.destroy()
    return true
  }
  const sent = client.stream(TICKS, { reconnect: { ...hooks, tryAtLeastMs: 300 } })
  await expect(sent).rejects.toMatchObject({ name: 'StreamCut', jobId: 'job_chosen', lastSeq: 0 })
  expect(server.requestsTo('POST', /stream$/).length).toBeGreaterThan(1)
  expect(losses).toMatchObject([{ tryForMs: 300 }])
})

test('a stream on which nothing comes for too long, not even a heartbeat, counts as broken', async () => {
  const { server, client, losses, hooks } = await start({ maxSilenceMs: 600 })
  const stream = await client.stream(TICKS, { reconnect: hooks })
  const types = typesOf(stream)
  await vi.waitFor(() => expect(stream.lastSeq).toBe(2))
  let beats = 0
  const beating = setInterval(() => {
    server.job.write(':\n\n')
    beats += 1
  }, 100)
  onTestFinished(() => clearInterval(beating))
  await vi.waitFor(() => expect(beats).toBe(20), 8000)
  expect(losses).toEqual([])
  clearInterval(beating)
  await vi.waitFor(() => expect(losses).toMatchObject([{ cause: { name: 'BodyTimeoutError' } }]), 5000)
  server.job.succeed(null)
  expect((await types).at(-1)).toBe('job.succeeded')
})

test('a stream that is closed keeps no process alive, wherever it was just then', async () => {
  const { server } = await start()
  server.intercept = (request, response) => {
    if (request.url?.startsWith('/jobs/job_cut_off/events') !== true) return false
    server.refuse(response, 503, 'TETHER_DRAINING', { 'retry-after': '9' })
    return true
  }
  const script = `
    import { TetherClient } from ${JSON.stringify(new URL('../../src/client/TetherClient.ts', import.meta.url).href)}
    const client = new TetherClient({ server: ${JSON.stringify(server.url)} })
    const spec = { task: 'ticks', input: {}, leaseMs: 9000 }
    const told = () => console.log('told')
    const streams = [
      await client.stream({ ...spec, jobId: 'job_standing' }),
      await client.stream({ ...spec, jobId: 'job_cut_off' }, { reconnect: { onLost: told } }),
      await client.stream({ ...spec, jobId: 'job_is_back' }, { reconnect: { onBack: told } }),
    ]
    process.stdin.on('end', () => streams.forEach((stream) => stream.close())).resume()
  `
  const program = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] })
  onTestFinished(() => void program.kill('SIGKILL'))
  let told = ''
  program.stdout.setEncoding('utf8').on('data', (text: string) => (told += text))
  await vi.waitFor(() => expect(server.jobs.size).toBe(3), 5000)
  server.jobs.get('job_cut_off')?.cut()
  server.jobs.get('job_is_back')?.cut()
  await vi.waitFor(() => expect(told).toBe('told\ntold\n'), 5000)
  await vi.waitFor(() => expect(attachesOf(server)).toHaveLength(2))
  const closedAtMs = performance.now()
  program.stdin.end()
  expect(await once(program, 'exit')).toEqual([0, null])
  expect(performance.now() - closedAtMs).toBeLessThan(2500)
})
