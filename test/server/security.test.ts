import { describe, expect, test } from 'vitest'
import { openWorld, taskOf } from '../world.ts'
import { RawClient, type RawRequest } from './RawClient.ts'
import { ask } from './requests.ts'

const TOKEN = 'a-token-of-the-test'
const BEARER = { authorization: `Bearer ${TOKEN}` }
const TICKS = { task: 'ticks', input: { count: 1, intervalMs: 0 } }
const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))

/** What one request over a socket of its own is answered with: fetch would not let a test set these headers. */
async function raw(
  url: string,
  request: RawRequest,
): Promise<{ readonly status: number; readonly code: string | undefined; readonly text: string }> {
  const client = await RawClient.connect(url)
  client.request({ ...request, headers: { connection: 'close', ...request.headers } })
  await client.until(/\r\n\r\n/)
  if (!client.received.includes('text/event-stream')) await client.closed
  const status = Number(client.received.split(' ', 2)[1])
  return { status, code: /"code":"(\w+)"/.exec(client.received)?.[1], text: client.received }
}

const EVERY_KIND: readonly RawRequest[] = [
  { path: '/' },
  { path: '/docs' },
  { path: '/jobs' },
  { path: '/jobs/events' },
  { path: '/jobs/job-12345/events' },
  { path: '/nothing' },
  { method: 'POST', path: '/execute/stream', body: TICKS },
  { method: 'POST', path: '/jobs', body: TICKS },
  { method: 'OPTIONS', path: '/jobs' },
]

describe('the Host of a request (protocol, section 6)', () => {
  test.each([
    'localhost',
    'localhost:1234',
    '127.0.0.1:80',
    '127.8.9.1',
    '[::1]:3000',
    'LOCALHOST',
    'app.example',
    'app.example:8443',
  ])('%s is known', async (host) => {
    const { url } = await openWorld({ settings: { ALLOWED_HOSTS: 'app.example' } })
    expect((await raw(url, { path: '/jobs', headers: { host } })).status).toBe(200)
  })

  test.each([
    'evil.example',
    'localhost.evil.example',
    'localhost@evil.example',
    'evil.example#localhost',
    '10.0.0.1',
    'x.localhost',
    '',
    'localhost/x',
  ])('%j is refused with 421', async (host) => {
    const { url } = await openWorld({ settings: { ALLOWED_HOSTS: 'app.example' } })
    expect(await raw(url, { path: '/jobs', headers: { host } })).toMatchObject({
      status: 421,
      code: 'TETHER_HOST_REFUSED',
    })
  })

  test('is looked at on every route, and the job is not started', async () => {
    const { url } = await openWorld()
    for (const request of EVERY_KIND) {
      expect(await raw(url, { ...request, headers: { host: 'evil.example' } })).toMatchObject({ status: 421 })
    }
    expect((await ask(url, '/jobs')).json).toMatchObject({ jobs: [] })
  })

  test('does not matter to health, nor with a valid token', async () => {
    const { url } = await openWorld({ settings: { API_TOKEN: TOKEN } })
    const host = 'evil.example'
    expect((await raw(url, { path: '/health/live', headers: { host } })).status).toBe(200)
    expect((await raw(url, { path: '/jobs', headers: { host, ...BEARER } })).status).toBe(200)
    expect((await raw(url, { path: '/jobs', headers: { host, authorization: 'Bearer wrong' } })).status).toBe(421)
  })

  test('is not taken from X-Forwarded-Host, also with TRUST_PROXY', async () => {
    const { url } = await openWorld({ settings: { TRUST_PROXY: 'on' } })
    const headers = { host: 'evil.example', 'x-forwarded-host': 'localhost' }
    expect((await raw(url, { path: '/jobs', headers })).status).toBe(421)
  })

  test('unknown gets no details of health', async () => {
    const { url } = await openWorld()
    const { text } = await raw(url, { path: '/health/ready', headers: { host: 'evil.example' } })
    expect(text).toMatch(/\r\n\r\n\{"ready":true\}$/)
  })
})

describe('the origin of a request', () => {
  test.each([
    { origin: 'http://localhost:3000', host: 'localhost:3000' },
    { origin: 'http://localhost', host: 'localhost:80' },
    { origin: 'https://app.example', host: 'localhost' },
    { origin: 'https://app.example', host: 'localhost', 'sec-fetch-site': 'cross-site' },
    { host: 'localhost', 'sec-fetch-site': 'same-origin' },
    { host: 'localhost', 'sec-fetch-site': 'none' },
  ])('%j is let in', async (headers) => {
    const { url } = await openWorld({ settings: { ALLOWED_ORIGINS: 'https://app.example' } })
    expect((await raw(url, { path: '/jobs', headers })).status).toBe(200)
  })

  test.each([
    { origin: 'http://evil.example' },
    { origin: 'null' },
    { origin: 'http://localhost:4000', host: 'localhost:3000' },
    { origin: 'https://app.example.evil.example' },
    { origin: 'http://app.example' },
    { origin: 'file://localhost', host: 'localhost' },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
    { origin: 'http://localhost', 'sec-fetch-site': 'cross-site' },
  ])('%j is refused with 403 on every route, health too', async (headers) => {
    const { url } = await openWorld({ settings: { ALLOWED_ORIGINS: 'https://app.example' } })
    for (const request of [...EVERY_KIND, { path: '/health/ready' }]) {
      expect(await raw(url, { ...request, headers })).toMatchObject({ status: 403, code: 'TETHER_ORIGIN_REFUSED' })
    }
    expect((await ask(url, '/jobs')).json).toMatchObject({ jobs: [] })
  })

  test('of a page behind a trusted proxy is compared with the name that the proxy was asked for', async () => {
    const { url } = await openWorld({ settings: { TRUST_PROXY: 'on' } })
    const headers = { host: '127.0.0.1', origin: 'https://app.example', 'x-forwarded-host': 'app.example' }
    expect((await raw(url, { path: '/jobs', headers })).status).toBe(200)
  })
})

describe('another origin that is allowed', () => {
  const settings = { ALLOWED_ORIGINS: 'https://app.example', API_TOKEN: TOKEN }
  const origin = 'https://app.example'

  test('gets its preflight answered without a token', async () => {
    const { url } = await openWorld({ settings })
    const headers = {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization',
    }
    const { status, text } = await raw(url, { method: 'OPTIONS', path: '/execute/stream', headers })
    expect(status).toBe(204)
    expect(text).toContain('access-control-allow-origin: https://app.example')
    expect(text).toContain('access-control-allow-headers: Authorization, Content-Type, Idempotency-Key, Last-Event-ID')
  })

  test.each([
    ['POST', '/execute/stream', TICKS],
    ['POST', '/execute', TICKS],
    ['GET', '/jobs/events', undefined],
    ['GET', '/jobs', undefined],
  ])('may read the answer of %s %s', async (method, path, body) => {
    const { url } = await openWorld({ settings })
    const { status, text } = await raw(url, { method, path, headers: { origin, ...BEARER }, body })
    expect(status).toBe(200)
    expect(text).toContain('access-control-allow-origin: https://app.example')
    expect(text).toContain(
      'access-control-expose-headers: X-Tether-Job-Id, X-Tether-Holder, X-Tether-Delivery, Location, Retry-After',
    )
    expect(text).toMatch(/vary: Origin/i)
  })
})

describe('the token', () => {
  test.each([undefined, 'Bearer', 'Bearer wrong', `Basic ${TOKEN}`, `Bearer ${TOKEN}x`, TOKEN])(
    '%j is refused with 401',
    async (authorization) => {
      const { url } = await openWorld({ settings: { API_TOKEN: TOKEN } })
      const answer = await ask(url, '/jobs', { headers: authorization === undefined ? {} : { authorization } })
      expect(answer.json).toMatchObject({ statusCode: 401, code: 'TETHER_UNAUTHORIZED' })
      expect(answer.headers.get('www-authenticate')).toBe('Bearer realm="tether"')
    },
  )

  test('is needed for everything but health, and lets everything through', async () => {
    const { url } = await openWorld({ settings: { API_TOKEN: TOKEN } })
    for (const path of ['/', '/docs', '/openapi.json', '/jobs', '/jobs/events', '/tasks', '/nothing']) {
      expect([path, (await ask(url, path)).status]).toEqual([path, 401])
    }
    expect((await ask(url, `/jobs?token=${TOKEN}`)).status).toBe(401)
    const { json } = await ask(url, '/execute', { body: TICKS, headers: BEARER })
    expect(json).toMatchObject({ status: 'succeeded' })
    expect((await ask(url, '/execute', { body: TICKS, headers: { authorization: `bearer ${TOKEN}` } })).status).toBe(
      200,
    )
  })

  test('is what the details of health need', async () => {
    const { url } = await openWorld({ settings: { API_TOKEN: TOKEN } })
    expect((await ask(url, '/health/ready')).json).toEqual({ ready: true })
    expect((await ask(url, '/health/live')).json).toEqual({ live: true })
    expect((await ask(url, '/health/ready', { headers: BEARER })).json).toMatchObject({
      containment: { level: 'group' },
    })
  })

  test('stands as the subject in what it asked for', async () => {
    const { url } = await openWorld({ settings: { API_TOKEN: TOKEN }, tasks: [waits] })
    await ask(url, '/jobs', { body: { task: 'waits', jobId: 'job-12345' }, headers: BEARER })
    const { json } = await ask(url, '/jobs/job-12345/cancel?wait=10', { method: 'POST', headers: BEARER })
    expect(json).toMatchObject({ cancellation: { by: 'token' } })
  })
})

describe('what is not HTTP', () => {
  test.each(['nonsense\r\n\r\n', 'GET / HTTP/1.1\r\nhost: localhost\r\nbad header\r\n\r\n'])(
    '%j is 400 in the shape of every error',
    async (text) => {
      const { url } = await openWorld()
      const client = await RawClient.connect(url)
      client.socket.write(text)
      await client.closed
      expect(client.received).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/)
      expect(JSON.parse(client.received.split('\r\n\r\n')[1] ?? '')).toMatchObject({
        statusCode: 400,
        code: 'TETHER_INVALID_REQUEST',
      })
    },
  )
})
