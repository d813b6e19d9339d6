import { join } from 'node:path'
import { fastifyCors } from '@fastify/cors'
import { fastifyRateLimit } from '@fastify/rate-limit'
import { fastifySSE } from '@fastify/sse'
import { fastifySwagger } from '@fastify/swagger'
import { type FastifyServerOptions } from 'fastify'
import { Agent, request } from 'undici'
import { describe, expect, onTestFinished, test } from 'vitest'
import { tether } from '../../src/index.ts'
import { scrape } from '../metrics/scrape.ts'
import { RawClient } from '../server/RawClient.ts'
import { ask, jobOf, startJob } from '../server/requests.ts'
import { eventually, Gate, parseFrames, taskOf, temporaryFolder } from '../world.ts'
import { addTether, hostApp, listening } from './hostApp.ts'

const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))
const TICKS = { task: 'ticks', input: { count: 2, intervalMs: 0 } }

async function ended(url: string, id: string) {
  return eventually(`${id} has ended`, async () => {
    const view = await jobOf(url, id)
    return view.terminal && view
  })
}

describe('an app with Tether in it', () => {
  test('keeps its own routes, errors, parsers, schemas and hooks as they are', async () => {
    const app = hostApp()
    const requests: string[] = []
    app.addHook('onRequest', async ({ url }) => void requests.push(url))
    app.setErrorHandler((error, _request, reply) => reply.code(418).send({ ours: String(error) }))
    app.setNotFoundHandler((_request, reply) => reply.code(404).send({ ours: 'nothing here' }))
    app.addContentTypeParser('text/upper', { parseAs: 'string' }, async (_: unknown, text: string) =>
      text.toUpperCase(),
    )
    app.post('/say', async ({ body }) => ({ said: body }))
    app.get('/fails', async () => {
      throw new Error('of ours')
    })
    app.get(
      '/typed',
      {
        schema: {
          querystring: { type: 'object', properties: { n: { type: 'integer' } } },
          response: { 200: { type: 'object', properties: { n: { type: 'integer' } } } },
        },
      },
      async ({ query }) => ({ ...Object(query), secret: 1 }),
    )
    await addTether(app, { prefix: '/tether' })
    app.get('/after', async () => 'after')
    const url = await listening(app)

    expect((await ask(url, '/say', { body: 'hello', headers: { 'content-type': 'text/upper' } })).text).toContain(
      'HELLO',
    )
    // Of another site, and with a key that our own parser refuses.
    expect(
      (await ask(url, '/say', { body: { a: [] }, headers: { origin: 'http://evil.example', host: 'evil.example' } }))
        .text,
    ).toBe('{"said":{"a":[]}}')
    expect(await ask(url, '/fails')).toMatchObject({ status: 418, text: '{"ours":"Error: of ours"}' })
    expect((await ask(url, '/typed?n=7')).text).toBe('{"n":7}')
    expect(await ask(url, '/typed?n=x')).toMatchObject({ status: 418 })
    expect(await ask(url, '/nowhere')).toMatchObject({ status: 404, text: '{"ours":"nothing here"}' })
    expect(await ask(url, '/tetherx')).toMatchObject({ status: 404, text: '{"ours":"nothing here"}' })
    expect((await ask(url, '/after', { method: 'HEAD' })).status).toBe(200)
    expect((await ask(url, '/after', { method: 'OPTIONS', headers: { origin: 'http://evil.example' } })).status).toBe(
      404,
    )

    expect((await ask(url, '/tether/nowhere')).json).toMatchObject({ code: 'TETHER_ROUTE_NOT_FOUND' })
    expect(
      (await ask(url, '/tether/jobs', { body: 'x', headers: { 'content-type': 'text/upper' } })).json,
    ).toMatchObject({
      code: 'TETHER_UNSUPPORTED_MEDIA_TYPE',
    })
    expect((await ask(url, '/tether/jobs', { headers: { origin: 'http://evil.example' } })).json).toMatchObject({
      code: 'TETHER_ORIGIN_REFUSED',
    })
    expect(requests).toContain('/tether/jobs')
  })

  test('runs jobs below the prefix, and every link that it gives has it', async () => {
    const app = hostApp()
    await addTether(app, { prefix: '/deep', tasks: [waits] })
    app.get('/', async () => 'ours')
    const root = await listening(app)
    const url = `${root}/deep`
    const started = await ask(url, '/jobs', { body: TICKS })
    expect(started.headers.get('location')).toBe(`/deep/jobs/${String(started.json['id'])}`)
    expect((await ask(root, started.headers.get('location') ?? '')).status).toBe(200)
    const document = await ask(url, '/openapi.json')
    expect(document.json).toMatchObject({ servers: [{ url: '/deep' }] })
    expect(Object.keys(Object(document.json['paths']))).toContain('/jobs/{id}/events')
    const page = await fetch(url)
    expect(page.url).toBe(`${url}/`)
    for (const [, link = ''] of (await page.text()).matchAll(/(?:src|href)="([^"]+)"/g)) {
      expect((await fetch(new URL(link, page.url))).status, link).toBe(200)
    }
    const frames = parseFrames((await ask(url, '/execute/stream', { body: TICKS })).text)
    expect(frames.at(-1)?.type).toBe('job.succeeded')
    expect((await ask(root, '/')).text).toBe('ours')
  })

  test('has no HEAD routes below the prefix, whatever the app exposes', async () => {
    const app = hostApp({ exposeHeadRoutes: true })
    await addTether(app, { prefix: '/tether', tasks: [waits] })
    const url = `${await listening(app)}/tether`
    const { id } = await startJob(url, { task: 'waits' })
    for (const path of ['/jobs', '/tasks', '/health/live', `/jobs/${id}/events?hold=true`, '/jobs/events']) {
      expect((await ask(url, path, { method: 'HEAD' })).status, path).toBe(404)
    }
  })

  test('sees a client leave through the prefix, and the work stops', async () => {
    const app = hostApp()
    await addTether(app, { prefix: '/tether', tasks: [waits] })
    const url = await listening(app)
    const client = await RawClient.connect(url)
    client.request({ method: 'POST', path: '/tether/execute/stream', body: { task: 'waits', jobId: 'job-12345' } })
    await client.until('job.started')
    client.socket.resetAndDestroy()
    expect(await ended(`${url}/tether`, 'job-12345')).toMatchObject({
      status: 'cancelled',
      cancellation: { cause: 'client_disconnected' },
      receipt: { confirmed: true },
    })
  })

  test('has no holder of a client that is gone before the hooks of the app are through', async () => {
    const app = hostApp()
    const [came, goOn] = [new Gate(), new Gate()]
    app.addHook('onRequest', async ({ headers }) => {
      if (headers['x-slow'] === undefined) return
      came.open()
      await goOn.opened
    })
    await addTether(app, { prefix: '/tether', tasks: [waits] })
    const root = await listening(app)
    const url = `${root}/tether`
    const { id } = await startJob(url, { task: 'waits', onDisconnect: 'cancel' })
    const client = await RawClient.connect(root)
    client.request({ path: `/tether/jobs/${id}/events?hold=true`, headers: { 'x-slow': 'yes' } })
    await came.opened
    client.socket.resetAndDestroy()
    await client.closed
    // Another connection is taken after the loop has seen that one close.
    await ask(url, `/jobs/${id}`, { headers: { connection: 'close' } })
    goOn.open()
    const next = await RawClient.connect(root)
    next.request({ path: `/tether/jobs/${id}/events?hold=true` })
    await next.until('job.started')
    next.socket.resetAndDestroy()
    expect(await ended(url, id)).toMatchObject({
      status: 'cancelled',
      cancellation: { cause: 'client_disconnected' },
    })
  })

  test('finds what its own hooks put on a request, below the prefix too', async () => {
    const app = hostApp()
    const found: string[] = []
    // Some of these are what such things are called here too.
    for (const name of ['identity', 'caller', 'trace', 'presence']) {
      app.decorateRequest(name, { getter: () => `${name} of ours` })
      app.addHook('onResponse', async (request) => void found.push(String(Reflect.get(request, name))))
    }
    app.setReplySerializer((data) => JSON.stringify({ ours: data }))
    app.get('/ours', async () => ({ a: 1 }))
    await addTether(app, { prefix: '/tether' })
    const url = await listening(app)
    expect((await ask(url, '/ours')).text).toBe('{"ours":{"a":1}}')
    found.length = 0
    expect((await ask(url, '/tether/execute', { body: TICKS })).json).toMatchObject({ status: 'succeeded' })
    await eventually('the hooks ran', () => found.length === 4)
    expect(found).toEqual(['identity of ours', 'caller of ours', 'trace of ours', 'presence of ours'])
  })

  test('refuses below the prefix what a hook of the app throws, as a refusal of Tether', async () => {
    const app = hostApp()
    app.addHook('onRequest', async ({ headers }) => {
      const statusCode = Number(headers['x-refuse'])
      throw Object.assign(new Error('not so'), { statusCode, code: 'OURS' })
    })
    await addTether(app, { prefix: '/tether' })
    const url = `${await listening(app)}/tether`
    for (const [status, code] of [
      [401, 'TETHER_UNAUTHORIZED'],
      [403, 'TETHER_FORBIDDEN'],
      [404, 'TETHER_ROUTE_NOT_FOUND'],
      [429, 'TETHER_RATE_LIMITED'],
    ] as const) {
      const answer = await ask(url, '/tasks', { headers: { 'x-refuse': String(status) } })
      expect(answer).toMatchObject({ status, json: { statusCode: status, code, message: 'not so' } })
    }
  })

  test('refuses below the prefix what a hook of the app refuses', async () => {
    const app = hostApp()
    app.addHook('onRequest', async (request, reply) => {
      if (request.headers['x-user'] === undefined) return reply.code(401).send({ ours: 'who are you' })
      return undefined
    })
    await addTether(app, { prefix: '/tether' })
    const url = `${await listening(app)}/tether`
    expect(await ask(url, '/jobs', { body: TICKS })).toMatchObject({ status: 401, text: '{"ours":"who are you"}' })
    expect((await ask(url, '/jobs', { body: TICKS, headers: { 'x-user': 'me' } })).status).toBe(202)
  })

  test('takes an address from the proxies that the app trusts, and from no others', async () => {
    for (const trustProxy of [true, false]) {
      const app = hostApp({ trustProxy })
      await addTether(app, { prefix: '/tether', tasks: [waits] })
      const url = `${await listening(app)}/tether`
      const { id } = await startJob(url, { task: 'waits' })
      const headers = { 'x-forwarded-for': '203.0.113.7' }
      await ask(url, `/jobs/${id}/cancel`, { method: 'POST', headers })
      expect((await ended(url, id)).cancellation?.by).toBe(trustProxy ? '203.0.113.7' : '127.0.0.1')
    }
  })

  test('answers only this machine without a token, and others with it', async () => {
    const API_TOKEN = 'a-token-of-enough-length'
    const app = hostApp({ trustProxy: true })
    await addTether(app, { prefix: '/open' })
    await addTether(app, { prefix: '/closed', settings: { API_TOKEN } })
    const from = (remoteAddress: string, url: string, headers = {}) =>
      app.inject({ url, remoteAddress, headers: { host: 'localhost', ...headers } })
    expect((await from('127.0.0.1', '/open/tasks')).statusCode).toBe(200)
    expect((await from('::1', '/open/tasks')).statusCode).toBe(200)
    expect((await from('::ffff:127.0.0.1', '/open/tasks')).statusCode).toBe(200)
    for (const address of ['203.0.113.7', '::ffff:203.0.113.7', '2001:db8::1']) {
      const headers = { 'x-forwarded-for': '127.0.0.1' }
      expect((await from(address, '/open/tasks', headers)).json(), address).toMatchObject({
        code: 'TETHER_UNAUTHORIZED',
      })
    }
    expect((await from('203.0.113.7', '/open/health/live')).statusCode).toBe(200)
    expect((await from('203.0.113.7', '/closed/tasks')).statusCode).toBe(401)
    const authorization = `Bearer ${API_TOKEN}`
    expect((await from('203.0.113.7', '/closed/tasks', { authorization })).statusCode).toBe(200)
  })

  test('says itself who asks, where it gives a hook, and whoever that knows may ask from anywhere', async () => {
    const app = hostApp()
    await addTether(app, {
      prefix: '/tether',
      tasks: [waits],
      authenticate: ({ headers }) => {
        const tenant = headers['x-team']
        return typeof tenant === 'string' ? { tenant, subject: 'somebody', scopes: ['read', 'run'] } : undefined
      },
    })
    const url = `${await listening(app)}/tether`
    expect(await ask(url, '/jobs')).toMatchObject({ status: 401 })
    const ours = { headers: { 'x-team': 'ours' } }
    const { json } = await ask(url, '/jobs', { body: { task: 'waits' }, ...ours })
    const path = `/jobs/${String(json['id'])}`
    expect(await ask(url, path, ours)).toMatchObject({ status: 200 })
    expect(await ask(url, path, { headers: { 'x-team': 'theirs' } })).toMatchObject({ status: 404 })
    expect(await ask(url, `${path}/cancel`, { method: 'POST', ...ours })).toMatchObject({ status: 403 })
    expect((await ask(url, `${path}/requests`, ours)).json).toMatchObject({
      requests: [{ kind: 'cancel', by: 'somebody', outcome: 'TETHER_FORBIDDEN' }],
    })
    const far = { url: '/tether/tasks', remoteAddress: '203.0.113.7' }
    expect((await app.inject({ ...far, headers: { host: 'localhost', 'x-team': 'ours' } })).statusCode).toBe(200)
  })

  test('has a login below the prefix, whose cookie goes no further', async () => {
    const API_TOKEN = 'a-token-of-enough-length'
    const app = hostApp({ trustProxy: true })
    // The same type as that of the form.
    app.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, async () => 'ours')
    await addTether(app, { prefix: '/tether', settings: { API_TOKEN } })
    const page = await app.inject({
      url: '/tether/?a=b',
      headers: { host: 'localhost', accept: 'text/html,*/*' },
    })
    expect(page.statusCode).toBe(303)
    expect(page.headers.location).toBe(`/tether/login?next=${encodeURIComponent('/tether/?a=b')}`)
    const logIn = (headers = {}) =>
      app.inject({
        method: 'POST',
        url: '/tether/login',
        payload: new URLSearchParams({ token: API_TOKEN, next: '/tether/?a=b#/jobs/x' }).toString(),
        headers: { host: 'localhost', 'content-type': 'application/x-www-form-urlencoded', ...headers },
      })
    const answer = await logIn()
    expect(answer.statusCode).toBe(303)
    expect(answer.headers.location).toBe('/tether/?a=b#/jobs/x')
    expect(answer.headers['set-cookie']).toMatch(/^tether_session=[^;]+; Path=\/tether; HttpOnly; SameSite=Strict/)
    // The name that binds it to a host asks for the path of all of it.
    const secure = await logIn({ 'x-forwarded-proto': 'https' })
    expect(secure.headers['set-cookie']).toMatch(/^__Secure-tether_session=[^;]+; Path=\/tether; .*Secure$/)
    const [cookie] = String(answer.headers['set-cookie']).split(';')
    const jobs = await app.inject({ url: '/tether/jobs', headers: { host: 'localhost', cookie: cookie ?? '' } })
    expect(jobs.statusCode).toBe(200)
  })

  test('may have the same plugins as Tether has inside', async () => {
    const app = hostApp()
    await app.register(fastifyRateLimit, { global: false, max: 1, timeWindow: 1 })
    await app.register(fastifyCors, { origin: ['https://ours.example'] })
    await app.register(fastifySSE)
    await app.register(fastifySwagger, { openapi: { info: { title: 'ours', version: '1' } } })
    app.get('/hello', async () => 'hello')
    await addTether(app, {
      prefix: '/tether',
      settings: { ALLOWED_ORIGINS: 'https://ours.example', RATE_LIMIT_PER_MINUTE: '3' },
    })
    const url = await listening(app)
    expect(app.swagger()).toMatchObject({ info: { title: 'ours' } })
    expect((await ask(url, '/tether/openapi.json')).json).toMatchObject({ info: { title: 'Tether' } })
    const answer = await ask(url, '/tether/execute/stream', {
      body: TICKS,
      headers: { origin: 'https://ours.example' },
    })
    expect(answer.headers.get('access-control-allow-origin')).toBe('https://ours.example')
    expect(parseFrames(answer.text).at(-1)?.type).toBe('job.succeeded')
    expect(await ask(url, '/tether/tasks')).toMatchObject({ status: 200 })
    const refused = await ask(url, '/tether/tasks')
    expect(refused).toMatchObject({ status: 429 })
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(1)
  })

  test('bounds logins by their address, whatever limits of its own go by and let through', async () => {
    const app = hostApp()
    await app.register(fastifyRateLimit, {
      global: false,
      allowList: ['127.0.0.1'],
      keyGenerator: ({ headers }) => String(headers['x-key']),
    })
    await addTether(app, { prefix: '/tether', settings: { API_TOKEN: 'a-token-of-enough-length' } })
    const statuses = []
    for (let n = 0; n < 31; n += 1) {
      const { statusCode } = await app.inject({
        method: 'POST',
        url: '/tether/login',
        payload: 'token=wrong',
        headers: { host: 'localhost', 'content-type': 'application/x-www-form-urlencoded', 'x-key': `key ${n}` },
      })
      statuses.push(statusCode)
    }
    expect(statuses.slice(29)).toEqual([401, 429])
  })

  test('may listen on a socket of the file system, where nobody has an address', async () => {
    const app = hostApp()
    const settings = { API_TOKEN: 'a-token-of-enough-length', RATE_LIMIT_PER_MINUTE: '100' }
    await addTether(app, { prefix: '/tether', settings })
    await addTether(app, { prefix: '/open', settings: { RATE_LIMIT_PER_MINUTE: '100' } })
    const socketPath = join(await temporaryFolder(), 'app.sock')
    await app.listen({ path: socketPath })
    const dispatcher = new Agent({ connect: { socketPath } })
    onTestFinished(() => dispatcher.close())
    const form = { method: 'POST', headers: { 'content-type': 'application/x-www-form-urlencoded' } } as const
    const login = await request('http://localhost/tether/login', { dispatcher, ...form, body: 'token=wrong' })
    const stranger = await request('http://localhost/tether/jobs', { dispatcher })
    expect([login.statusCode, stranger.statusCode]).toEqual([401, 401])
    await request('http://localhost/open/jobs/job-12345/cancel', { dispatcher, method: 'POST' })
    const { body } = await request('http://localhost/open/jobs/job-12345/requests', { dispatcher })
    expect(await body.json()).toMatchObject({ requests: [{ by: 'local', outcome: 'TETHER_JOB_NOT_FOUND' }] })
  })

  test('runs jobs that are handed to it without a socket to listen on', async () => {
    const app = hostApp()
    await addTether(app, { prefix: '/tether' })
    const streamed = await app.inject({
      method: 'POST',
      url: '/tether/execute/stream',
      payload: TICKS,
      headers: { host: 'localhost' },
    })
    expect(parseFrames(streamed.payload).at(-1)?.type).toBe('job.succeeded')
    const answer = await app.inject({
      method: 'POST',
      url: '/tether/jobs',
      payload: TICKS,
      headers: { host: 'localhost' },
    })
    const { id } = answer.json()
    await eventually('it has succeeded', async () => {
      const view = await app.inject({ url: `/tether/jobs/${String(id)}`, headers: { host: 'localhost' } })
      return view.json().status === 'succeeded'
    })
  })
})

describe('two of them in one process', () => {
  test.each(['group', 'auto'])('have nothing to do with each other (containment %s)', async (CONTAINMENT) => {
    const app = hostApp()
    const both = { CONTAINMENT }
    await addTether(app, { prefix: '/a', tasks: [taskOf('only-a', async () => 'a')], settings: both })
    await addTether(app, { prefix: '/b/c', tasks: [taskOf('only-b', async () => 'b')], settings: both })
    const root = await listening(app)
    const [a, b] = [`${root}/a`, `${root}/b/c`]
    expect((await ask(a, '/jobs', { body: { task: 'only-b' } })).json).toMatchObject({ code: 'TETHER_TASK_NOT_FOUND' })
    const run = { task: 'command', input: { command: 'sleep 60 & sleep 60' } }
    const [ofA, ofB, again] = await Promise.all([startJob(a, run), startJob(b, run), startJob(b, run)])
    await Promise.all(
      [[a, ofA] as const, [b, ofB] as const, [b, again] as const].map(([url, { id }]) =>
        eventually('it runs', async () => (await jobOf(url, id)).status === 'running'),
      ),
    )
    expect((await ask(b, `/jobs/${ofA.id}`)).status).toBe(404)
    await ask(a, `/jobs/${ofA.id}/cancel`, { method: 'POST' })
    expect(await ended(a, ofA.id)).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
    expect((await jobOf(b, ofB.id)).status).toBe('running')
    await ask(b, `/jobs/${ofB.id}/cancel`, { method: 'POST' })
    expect(await ended(b, ofB.id)).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
    expect((await jobOf(b, again.id)).status).toBe('running')
    await ask(b, `/jobs/${again.id}/cancel`, { method: 'POST' })
    expect(await ended(b, again.id)).toMatchObject({ status: 'cancelled', receipt: { confirmed: true, survivors: [] } })
    const [figuresOfA, figuresOfB] = [await scrape(a), await scrape(b)]
    expect(figuresOfA.sum('tether_jobs_ended_total')).toBe(1)
    expect(figuresOfB.sum('tether_jobs_ended_total')).toBe(2)
  })
})

describe('when the app closes', () => {
  test('jobs are interrupted, streams end with their last event, and the folder is free', async () => {
    const dataDir = await temporaryFolder()
    const app = hostApp()
    await addTether(app, { prefix: '/tether', tasks: [waits], settings: { DATA_DIR: dataDir } })
    const url = await listening(app)
    const clients = await Promise.all([1, 2, 3].map(() => RawClient.connect(url)))
    const [holder, feed, idle] = clients
    if (!holder || !feed || !idle) throw new Error('no clients')
    holder.request({ method: 'POST', path: '/tether/execute/stream', body: { task: 'waits' } })
    feed.request({ path: '/tether/jobs/events' })
    idle.request({ path: '/tether/tasks' })
    await Promise.all([holder.until('job.started'), feed.until('retry'), idle.until('ticks')])
    await app.close()
    await Promise.all(clients.map((client) => client.closed))
    expect(parseFrames(holder.received).at(-1)).toMatchObject({
      type: 'job.interrupted',
      cancellation: { cause: 'server_shutdown' },
    })
    expect(holder.received).toMatch(/\r\n0\r\n\r\n$/)
    const next = hostApp()
    await addTether(next, { prefix: '/tether', settings: { DATA_DIR: dataDir } })
    await next.ready()
  })

  test('running jobs may finish for as long as DRAIN_MS says', async () => {
    const app = hostApp()
    const goOn = new Gate()
    const patient = taskOf('patient', async () => {
      await goOn.opened
      return 'done'
    })
    await addTether(app, { prefix: '/tether', tasks: [patient], settings: { DRAIN_MS: '20000' } })
    const url = await listening(app)
    const client = await RawClient.connect(url)
    client.request({ method: 'POST', path: '/tether/execute/stream', body: { task: 'patient' } })
    await client.until('job.started')
    const closed = app.close()
    goOn.open()
    await closed
    expect(parseFrames(client.received).at(-1)).toMatchObject({ type: 'job.succeeded', result: 'done' })
  })

  test('a job can be cancelled while it may finish, where the app answers meanwhile', async () => {
    const app = hostApp({ return503OnClosing: false })
    await addTether(app, { prefix: '/tether', tasks: [waits], settings: { DRAIN_MS: '20000' } })
    const root = await listening(app)
    const url = `${root}/tether`
    const client = await RawClient.connect(root)
    client.request({ method: 'POST', path: '/tether/execute/stream', body: { task: 'waits', jobId: 'job-12345' } })
    await client.until('job.started')
    const closed = app.close()
    await eventually('it drains', async () => (await ask(url, '/health/ready')).json['draining'] === true)
    expect((await ask(url, '/jobs', { body: TICKS })).json).toMatchObject({ code: 'TETHER_DRAINING' })
    expect([200, 202]).toContain((await ask(url, '/jobs/job-12345/cancel', { method: 'POST' })).status)
    await closed
    expect(parseFrames(client.received).at(-1)).toMatchObject({ type: 'job.cancelled' })
  })

  test('they may for longer than the app waits for a hook, and another one ends meanwhile', async () => {
    const settings = { DATA_DIR: await temporaryFolder(), DRAIN_MS: '60000' }
    const goOn = new Gate()
    const patient = taskOf('patient', async () => {
      await goOn.opened
      return 'done'
    })
    const app = hostApp({ pluginTimeout: 2000 })
    await addTether(app, { prefix: '/slow', tasks: [patient], settings })
    await addTether(app, { prefix: '/fast', tasks: [waits] })
    const root = await listening(app)
    const { id } = await startJob(`${root}/slow`, { task: 'patient' })
    const client = await RawClient.connect(root)
    client.request({ method: 'POST', path: '/fast/execute/stream', body: { task: 'waits' } })
    await client.until('job.started')
    const closed = app.close()
    await eventually('the app waits for its connections', () => !app.server.listening)
    goOn.open()
    await closed
    expect(parseFrames(client.received).at(-1)).toMatchObject({ type: 'job.interrupted' })
    const next = hostApp()
    await addTether(next, { prefix: '/slow', settings })
    expect(await jobOf(`${await listening(next)}/slow`, id)).toMatchObject({ status: 'succeeded', result: 'done' })
  })

  test('a store that is not there is not waited for any more', async () => {
    const settings = { DATA_DIR: await temporaryFolder() }
    const app = hostApp({ pluginTimeout: 500 })
    await addTether(app, { prefix: '/tether', settings: { ...settings, REDIS_URL: 'redis://127.0.0.1:1' } })
    await expect(app.ready()).rejects.toThrow('did not start in time')
    await app.close()
    await eventually('the folder is free', async () => {
      const next = hostApp()
      await addTether(next, { prefix: '/tether', settings })
      return next.ready().then(
        () => true,
        () => false,
      )
    })
  })

  test('jobs of an earlier process are not started by an app that cannot listen', async () => {
    const dataDir = await temporaryFolder()
    const ran = new Gate()
    let isRun = false
    const notes = taskOf('notes', async () => {
      isRun = true
      ran.open()
    })
    const options = { prefix: '/tether', tasks: [waits, notes], settings: { DATA_DIR: dataDir, CONCURRENCY: '1' } }
    const first = hostApp()
    await addTether(first, options)
    const url = `${await listening(first)}/tether`
    await startJob(url, { task: 'waits' })
    await startJob(url, { task: 'notes' })
    await first.close()
    const taken = hostApp()
    const port = Number(new URL(await listening(taken)).port)
    const second = hostApp()
    await addTether(second, options)
    await expect(second.listen({ host: '127.0.0.1', port })).rejects.toThrow('EADDRINUSE')
    expect(isRun).toBe(false)
    await second.close()
    const third = hostApp()
    await addTether(third, options)
    await listening(third)
    await ran.opened
  })
})

describe('the app does not load', () => {
  const http2: FastifyServerOptions & { http2?: boolean } = { http2: true }
  test.each([
    ['without a prefix', {}, {}, { prefix: '' }, /registered with a prefix/],
    [
      'with a prefix that ends in a slash',
      {},
      {},
      { prefix: '/a/' },
      /without parameters, .* and a slash at its end, got "\/a\/"/,
    ],
    ['with a prefix that is no one path', {}, {}, { prefix: '/:team/tether' }, /without parameters/],
    ['with a prefix that a browser takes for another', {}, {}, { prefix: '/a/../tether' }, /got "\/a\/..\/tether"/],
    ['with HTTP/2', http2, {}, {}, /HTTP\/1\.1/],
    [
      'where it would cut silent streams',
      { connectionTimeout: 10_000 },
      {},
      {},
      /connectionTimeout must be 0 or more than/,
    ],
    ['where it would cut all streams', { handlerTimeout: 1000 }, {}, {}, /handlerTimeout must be 0, got 1000/],
    ['with a setting that is its own', {}, { PORT: '1' }, {}, /^PORT is the app's to say/],
    ['with a setting that is none', {}, { DATA_DRI: '/tmp' }, {}, /^DATA_DRI is not a setting/],
    ['with a setting that is not allowed', {}, { CONCURRENCY: 'many' }, {}, /^CONCURRENCY must be a whole number/],
  ] as const)('%s', async (_, appOptions, settings, options, message) => {
    const app = hostApp(appOptions)
    app.register(tether, {
      prefix: '/tether',
      settings: { DATA_DIR: await temporaryFolder(), ...settings },
      ...options,
    })
    await expect(app.ready()).rejects.toThrow(message)
  })

  test('but does with a connectionTimeout that is longer than a heartbeat', async () => {
    const app = hostApp({ connectionTimeout: 10_000 })
    await addTether(app, { prefix: '/tether', settings: { HEARTBEAT_MS: '1000' } })
    await app.ready()
  })

  test('where a task that is to be built in is none', async () => {
    const app = hostApp()
    // As a program in JavaScript may say it.
    const builtInTasks = JSON.parse('["tick"]')
    await addTether(app, { prefix: '/tether', builtInTasks })
    await expect(app.ready()).rejects.toThrow('builtInTasks must name some of ticks, command, agent, got "tick"')
  })

  test('where two tasks have one name, and leaves the folder free', async () => {
    const settings = { DATA_DIR: await temporaryFolder() }
    const app = hostApp()
    await addTether(app, { prefix: '/tether', tasks: [waits, waits], settings })
    await expect(app.ready()).rejects.toThrow('waits')
    const next = hostApp()
    await addTether(next, { prefix: '/tether', tasks: [waits], builtInTasks: [], settings })
    const url = `${await listening(next)}/tether`
    const { tasks } = (await ask(url, '/tasks')).json
    expect(Object(tasks).map(({ name }: { name: string }) => name)).toEqual(['waits'])
  })
})
