import fc from 'fast-check'
import { pino } from 'pino'
import { describe, expect, onTestFinished, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { readConfig } from '../../src/config.ts'
import { FastifyServer } from '../../src/server/FastifyServer.ts'
import { eventsOf, eventually, openWorld, taskOf } from '../world.ts'
import { RawClient } from './RawClient.ts'
import { ask, startJob } from './requests.ts'

const TOKEN = 'a-token-of-the-test'
const BEARER = { authorization: `Bearer ${TOKEN}` }
const TICKS = { task: 'ticks', input: { count: 1, intervalMs: 0 } }
const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))

/** What comes for these bytes until the connection closes. */
async function send(url: string, text: string): Promise<string> {
  const client = await RawClient.connect(url)
  client.socket.write(text)
  await client.closed
  return client.received
}

async function jobIds(url: string, headers = {}): Promise<string[]> {
  const { json } = await ask(url, '/jobs', { headers })
  const jobs: { id: string }[] = JSON.parse(JSON.stringify(json['jobs']))
  return jobs.map(({ id }) => id)
}

describe('a page behind a name that was rebound to this address', () => {
  test.each([
    '0.0.0.0',
    '0.0.0.0:3000',
    'localhost.',
    '127.0.0.1.evil.example',
    '127.0.0.1%00.evil.example',
    'localhost:80:80',
    'localhost, evil.example',
    '[::]',
    '[::ffff:10.0.0.1]',
    'evil.example:127.0.0.1',
    'ⓛocalhost.evil.example',
  ])('is not let in as %j', async (host) => {
    const { url } = await openWorld()
    const answer = await send(url, `GET /jobs HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`)
    expect(answer).toMatch(/^HTTP\/1\.1 (400|421) /)
  })

  test('is not let in by the address of the request line, nor by two hosts, nor by none', async () => {
    const { url } = await openWorld()
    const absolute = 'GET http://localhost/jobs HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n'
    expect(await send(url, absolute)).toMatch(/^HTTP\/1\.1 (400|404|421) /)
    const two = 'GET /jobs HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\nconnection: close\r\n\r\n'
    // The first is what counts, and no browser sends two.
    expect(await send(url, two.replace('host: localhost\r\n', 'host: evil.example\r\n'))).toMatch(
      /^HTTP\/1\.1 (400|421) /,
    )
    expect(await send(url, 'GET /jobs HTTP/1.0\r\nconnection: close\r\n\r\n')).toMatch(/^HTTP\/1\.1 421 /)
    expect(await send(url, 'GET /jobs HTTP/1.1\r\nconnection: close\r\n\r\n')).toMatch(/^HTTP\/1\.1 (400|421) /)
  })

  test('is not let in by names that proxies set', async () => {
    const { url } = await openWorld({ settings: { TRUST_PROXY: 'on', ALLOWED_HOSTS: 'app.example' } })
    for (const name of ['x-forwarded-host', 'x-host', 'forwarded', 'x-original-host']) {
      const answer = await send(
        url,
        `GET /jobs HTTP/1.1\r\nhost: evil.example\r\n${name}: app.example\r\nconnection: close\r\n\r\n`,
      )
      expect(answer).toMatch(/^HTTP\/1\.1 421 /)
    }
  })
})

describe('bytes that two servers might read in two ways', () => {
  const body = JSON.stringify({ ...TICKS, jobId: 'job-smuggled' })
  const smuggled = `POST /jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`

  test.each([
    ['a length and chunks', `content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`],
    ['two lengths', `content-length: 0\r\ncontent-length: ${smuggled.length}\r\n\r\n`],
    ['a length with a sign', 'content-length: +0\r\n\r\n'],
    ['chunks under another name', 'transfer-encoding: xchunked\r\n\r\n0\r\n\r\n'],
    ['chunks twice', 'transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n'],
    ['a header that goes on in the next line', 'x-one: a\r\n b: c\r\ncontent-length : 0\r\n\r\n'],
    ['a space before the colon', 'content-length : 0\r\n\r\n'],
    ['a chunk of no length', 'transfer-encoding: chunked\r\n\r\nzz\r\n\r\n'],
  ])('are refused with 400 and the connection is closed: %s', async (_, rest) => {
    const { url } = await openWorld()
    const head = 'POST /jobs/job-12345/cancel HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n'
    const answer = await send(url, `${head}${rest}${smuggled}`)
    expect(answer).toMatch(/^HTTP\/1\.1 400 /)
    expect(answer.match(/HTTP\/1\.1 \d/g)).toHaveLength(1)
    expect(await jobIds(url)).toEqual([])
  })

  test.each(['CONNECT localhost:80', 'TRACE /jobs', 'PRI *', 'HEAD /jobs', 'PUT /jobs', 'GARBAGE /jobs', 'get /jobs'])(
    'and methods that there are not do nothing: %s',
    async (line) => {
      const { url } = await openWorld()
      const answer = await send(url, `${line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`)
      expect(answer).toMatch(/^$|^HTTP\/1\.1 (400|404) /)
      expect((await ask(url, '/jobs')).status).toBe(200)
    },
  )

  test('an upgrade to another protocol is none', async () => {
    const { url } = await openWorld()
    const headers = 'connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n'
    const client = await RawClient.connect(url)
    client.socket.write(`GET /jobs HTTP/1.1\r\nhost: localhost\r\n${headers}\r\n`)
    await client.until(/\r\n\r\n/)
    expect(client.received).not.toMatch(/^HTTP\/1\.1 101/)
  })
})

test('any bytes at all are answered in our form, or not at all, and start nothing', async () => {
  const { url } = await openWorld()
  const word = fc.constantFrom(
    'GET',
    'POST',
    ' ',
    '/jobs',
    '/execute/stream',
    ' HTTP/1.1',
    '\r\n',
    '\n',
    '\r',
    ':',
    'host',
    'localhost',
  )
  const more = fc.constantFrom(
    'content-length',
    '5',
    'transfer-encoding',
    'chunked',
    '{"task":"ticks"',
    '}',
    '\u0000',
    'ÿ',
    '%',
    '?',
  )
  const texts = fc.array(fc.oneof(word, word, more, fc.string({ maxLength: 5 })), { maxLength: 40 })
  await fc.assert(
    fc.asyncProperty(texts, async (parts) => {
      const client = await RawClient.connect(url)
      client.socket.end(parts.join(''))
      await client.closed
      const [, status, body] = /^HTTP\/1\.1 (\d+)[^]*?\r\n\r\n([^]*)$/.exec(client.received) ?? []
      if (client.received === '') return
      expect(Number(status)).toBeGreaterThanOrEqual(200)
      if (Number(status) >= 400) expect(body).toContain('"code":"TETHER_')
    }),
    { numRuns: 300 },
  )
  expect(await jobIds(url)).toEqual([])
})

describe('what is too long', () => {
  test.each([
    ['one header', `x-long: ${'x'.repeat(20_000)}\r\n`],
    ['many headers', Array.from({ length: 3000 }, (_, n) => `x-${n}: y\r\n`).join('')],
    ['a cookie', `cookie: ${'tether_session=x; '.repeat(2000)}\r\n`],
    ['a token', `authorization: Bearer ${'x'.repeat(20_000)}\r\n`],
  ])('in a head is 400 and closed: %s', async (_, headers) => {
    const { url } = await openWorld({ settings: { API_TOKEN: TOKEN } })
    const answer = await send(url, `GET /jobs HTTP/1.1\r\nhost: localhost\r\n${headers}\r\n`)
    expect(answer).toMatch(/^HTTP\/1\.1 400 /)
    expect(answer).toContain('TETHER_INVALID_REQUEST')
  })

  test('in a path is refused, and shown in part', async () => {
    const { url } = await openWorld()
    const { status, text } = await ask(url, `/jobs/${'x'.repeat(10_000)}`)
    expect(status).toBeGreaterThanOrEqual(400)
    expect(text.length).toBeLessThan(500)
  })

  test('in a body is 413, with a length and without', async () => {
    const { url } = await openWorld()
    const metadata = { task: 'ticks', metadata: { text: 'x'.repeat(2 ** 20) } }
    expect((await ask(url, '/jobs', { body: metadata })).json).toMatchObject({ code: 'TETHER_BODY_TOO_LARGE' })
    const client = await RawClient.connect(url)
    client.socket.write(
      'POST /execute/stream HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n',
    )
    const chunk = `10000\r\n${' '.repeat(0x10000)}\r\n`
    for (let n = 0; n < 17; n += 1) client.socket.write(chunk)
    await client.until('TETHER_BODY_TOO_LARGE')
    expect(await jobIds(url)).toEqual([])
  })

  test('is not read where nobody is known', async () => {
    const { url } = await openWorld({ settings: { API_TOKEN: TOKEN } })
    const client = await RawClient.connect(url)
    client.socket.write(
      'POST /jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1048576\r\n\r\n',
    )
    // Not one byte of the body has come.
    await client.until('TETHER_UNAUTHORIZED')
  })
})

describe('a client that is slow', () => {
  /** With little patience. */
  async function openImpatient(): Promise<{ readonly url: string; readonly server: FastifyServer }> {
    const tether = await openWorld({ tasks: [waits] })
    const server = new FastifyServer({
      config: readConfig({ PORT: '0' }),
      jobs: tether.jobs,
      health: tether.health,
      metrics: tether.metrics,
      logger: pino({ level: 'silent' }),
      clock: systemClock,
      requestTimes: { headersMs: 150, requestMs: 300, checkMs: 20 },
    })
    const { url } = await server.listen()
    onTestFinished(() => server.close())
    return { url, server }
  }

  /** Sends a byte of `text` now and then, for ever. */
  function drip(client: RawClient, text: string): void {
    let at = 0
    const timer = setInterval(() => {
      client.socket.write(text[at % text.length] ?? '')
      at += 1
    }, 10)
    onTestFinished(() => clearInterval(timer))
    void client.closed.then(() => clearInterval(timer))
  }

  test('with its head, or says nothing at all, is cut, a hundred of them and nobody else', async () => {
    const { url } = await openImpatient()
    const silent = await Promise.all(Array.from({ length: 50 }, () => RawClient.connect(url)))
    const slow = await Promise.all(
      Array.from({ length: 50 }, async () => {
        const client = await RawClient.connect(url)
        client.socket.write('GET /jobs HTTP/1.1\r\nhost: localhost\r\n')
        drip(client, 'x-a: b\r\n')
        return client
      }),
    )
    const stream = await RawClient.connect(url)
    stream.request({ path: '/jobs/events' })
    await stream.until('retry: 1000')
    expect((await ask(url, '/jobs')).status).toBe(200)
    await Promise.all([...silent, ...slow].map(({ closed }) => closed))
    for (const { received } of slow) expect(received).toMatch(/^(HTTP\/1\.1 400 |$)/)
    expect(stream.isClosed).toBe(false)
    expect((await ask(url, '/jobs')).status).toBe(200)
  })

  test('with its body is cut, starts nothing, and gives its place back', async () => {
    const { url, server } = await openImpatient()
    const client = await RawClient.connect(url)
    client.socket.write(
      'POST /execute/stream HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{',
    )
    drip(client, ' ')
    await client.closed
    expect(await jobIds(url)).toEqual([])
    expect(server.openCount).toBe(0)
  })

  test('with its answer, or waits for one, is not: a stream stays open however long', async () => {
    const { url } = await openImpatient()
    const client = await RawClient.connect(url)
    client.request({ method: 'POST', path: '/execute/stream', body: { task: 'waits', jobId: 'job-12345' } })
    await client.until('job.started')
    const silent = await RawClient.connect(url)
    // Which is cut later than the stream would be.
    await silent.closed
    expect(client.isClosed).toBe(false)
    await ask(url, '/jobs/job-12345/cancel', { body: {} })
    await client.until('job.cancelled')
  })
})

test('thousands that ask at once, most of them wrongly, leave nothing behind and the rest is served', async () => {
  const tether = await openWorld({ settings: { API_TOKEN: TOKEN }, tasks: [waits] })
  const { url } = tether
  const kinds = [
    'nonsense\r\n\r\n',
    'GET /jobs HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n',
    'GET /jobs HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n',
    'GET /jobs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer wrong\r\nconnection: close\r\n\r\n',
    'GET /jobs HTTP/1.1\r\nhost: localhost\r\norigin: http://evil.example\r\nconnection: close\r\n\r\n',
    'POST /execute/stream HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\nconnection: close\r\n\r\n',
    `GET /jobs HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${TOKEN}\r\nconnection: close\r\n\r\n`,
  ]
  const answers: string[] = []
  let left = 4000
  async function attacker(): Promise<void> {
    for (; left > 0; ) {
      left -= 1
      answers.push((await send(url, kinds[left % kinds.length] ?? '')).slice(9, 12))
    }
  }
  const attackers = Promise.all(Array.from({ length: 250 }, attacker))
  // Whoever is served meanwhile gets what was asked for.
  const { json } = await ask(url, '/execute', { body: TICKS, headers: BEARER })
  expect(json).toMatchObject({ status: 'succeeded' })
  await attackers
  const counts = new Map<string, number>()
  for (const status of answers) counts.set(status, (counts.get(status) ?? 0) + 1)
  expect([...counts.keys()].toSorted()).toEqual(['200', '400', '401', '403', '421'])
  expect(await jobIds(url, BEARER)).toHaveLength(1)
  expect(tether.jobs.activeCount).toBe(0)
})

test('a client that opens 10,000 streams gets as many as it may, and others theirs', { timeout: 120_000 }, async () => {
  const tether = await openWorld({
    tasks: [waits],
    authenticate: ({ headers }) => ({ tenant: 'acme', subject: String(headers.authorization), scopes: ['admin'] }),
  })
  const { url } = tether
  await startJob(url, { task: 'waits', jobId: 'job-12345' })
  const request = 'GET /jobs/job-12345/events?hold=true HTTP/1.1\r\nhost: localhost\r\nauthorization: greedy\r\n\r\n'
  const open: RawClient[] = []
  let refused = 0
  for (let n = 0; n < 10_000; n += 500) {
    await Promise.all(
      Array.from({ length: 500 }, async () => {
        const client = await RawClient.connect(url)
        client.socket.write(request)
        await client.until(/\r\n\r\n/)
        if (client.received.startsWith('HTTP/1.1 200 ')) {
          open.push(client)
          return
        }
        expect(client.received).toMatch(/^HTTP\/1\.1 429 /)
        refused += 1
        client.socket.destroy()
      }),
    )
  }
  expect([open.length, refused]).toEqual([2000, 8000])
  const other = await RawClient.connect(url)
  other.request({ path: '/jobs/job-12345/events', headers: { authorization: 'modest' } })
  await other.until('job.started')
  for (const { socket } of open) socket.destroy()
  // The job goes on: its policy is to continue. And the places are free again.
  await eventually('there is room again', async () => {
    const { status } = await ask(url, '/execute', { body: TICKS, headers: { authorization: 'greedy' } })
    return status === 200
  })
  await ask(url, '/jobs/job-12345/cancel', { body: {}, headers: { authorization: 'modest' } })
  await other.until('job.cancelled')
})

describe('a path', () => {
  test.each([
    '/jobs/../../etc/passwd',
    '/jobs/job-12345/files/../../../../etc/passwd',
    '/jobs/job-12345/files/..%2f..%2f..%2f..%2fetc%2fpasswd',
    '/jobs/job-12345/files/%2e%2e/%2e%2e/%2e%2e/etc/passwd',
    '/jobs/job-12345/files/..%252f..%252fetc%252fpasswd',
    '/jobs/job-12345/files//etc/passwd',
    '/jobs/job-12345/files/%2fetc%2fpasswd',
    '/jobs/job-12345/files/a%00.txt',
    '/jobs/job-12345/files/..\\..\\etc\\passwd',
    '/jobs/job-12345/files/~root/.profile',
    '/jobs/%2e%2e%2f%2e%2e%2fetc/files/passwd',
    '/jobs/default:job-12345/files/a.txt',
    '//etc/passwd',
    '/./../docs/start.js',
    '/docs/start.js%00',
    '/%',
    '/%c0%ae%c0%ae/',
    '/jobs/job-12345%0d%0aset-cookie:x=y',
    '/src/main.ts',
    '/package.json',
  ])('%s gives nothing', async (path) => {
    const writes = taskOf('writes', async (ctx) => {
      await ctx.workspace()
    })
    const { url } = await openWorld({ tasks: [writes] })
    await ask(url, '/execute', { body: { task: 'writes', jobId: 'job-12345' } })
    const answer = await send(url, `GET ${path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n`)
    expect(answer).toMatch(/^HTTP\/1\.1 (400|404) /)
    expect(answer).not.toMatch(/root:|\r\nset-cookie|"scripts"/)
    expect(JSON.parse(answer.split('\r\n\r\n')[1] ?? '')).toMatchObject({ code: expect.stringMatching(/^TETHER_/) })
  })
})

describe('what clients write', () => {
  const NASTY =
    'a\r\nset-cookie: evil=1\r\n\r\n<script>alert(1)</script>\u001b[2J\u2028\u0000event: job.succeeded\n\ndata: {}'

  test('into reasons, names and metadata comes into no header and no other line of a stream', async () => {
    const { url } = await openWorld({ tasks: [waits] })
    const stream = await RawClient.connect(url)
    const body = {
      task: 'waits',
      jobId: 'job-12345',
      metadata: { [NASTY]: NASTY },
      concurrencyKey: NASTY,
      concurrencyLimit: 1,
    }
    stream.request({ method: 'POST', path: '/execute/stream', body })
    await stream.until('job.started')
    const cancelled = await RawClient.connect(url)
    cancelled.request({
      method: 'POST',
      path: '/jobs/job-12345/cancel?wait=10',
      headers: { connection: 'close' },
      body: { reason: NASTY },
    })
    await cancelled.closed
    await stream.until('job.cancelled')
    for (const text of [stream.received, cancelled.received]) {
      expect(text.split('\r\n\r\n')[0]).not.toMatch(/set-cookie|script/i)
    }
    const lines = stream.received.split('\n').filter((line) => /^(event|data|id):/.test(line))
    expect(lines.filter((line) => line.startsWith('event:')).map((line) => line.slice(7))).toEqual([
      'job.queued',
      'job.started',
      'job.cancelling',
      'job.cancelled',
    ])
    const { json } = await ask(url, '/jobs/job-12345/requests')
    expect(json).toMatchObject({ requests: [{ reason: NASTY }] })
  })

  test.each(['idempotency-key', 'last-event-id', 'x-request-id', 'content-type', 'accept', 'cookie', 'user-agent'])(
    'into %s comes back in no header',
    async (name) => {
      const { url } = await openWorld({ settings: { API_TOKEN: TOKEN } })
      const value = 'evil\tset-cookie: evil=1;<script>'
      for (const path of ['/jobs', '/login', '/jobs/job-12345/events', '/nothing']) {
        const answer = await send(
          url,
          `GET ${path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${TOKEN}\r\n${name}: ${value}\r\nconnection: close\r\n\r\n`,
        )
        expect(answer.split('\r\n\r\n')[0]).not.toMatch(/evil/)
      }
    },
  )
})

describe('every answer', () => {
  test('is taken for nothing but what it is, and framed and loaded by nobody', async () => {
    const { url } = await openWorld({ settings: { API_TOKEN: TOKEN } })
    const paths = [
      '/jobs',
      '/nothing',
      '/health/live',
      '/jobs/events',
      '/jobs/job-12345',
      '/login',
      '/',
      '/docs/start.js',
    ]
    for (const path of paths) {
      for (const headers of [{}, BEARER]) {
        const client = await RawClient.connect(url)
        client.request({ path, headers: { ...headers, connection: 'close' } })
        await client.until(/\r\n\r\n/)
        const head = client.received.split('\r\n\r\n')[0] ?? ''
        client.socket.destroy()
        expect([path, head]).toEqual([path, expect.stringContaining('x-content-type-options: nosniff')])
        expect(head).toMatch(/x-frame-options: DENY/)
        expect(head).toMatch(/referrer-policy: (no-referrer|same-origin)/)
        expect(head).toMatch(/cross-origin-resource-policy: same-origin/)
        expect(head).toMatch(/content-security-policy: default-src 'none'; .*frame-ancestors 'none'/)
        expect(head).not.toMatch(/unsafe|\r\nserver:|x-powered-by/)
      }
    }
  })
})

test('secrets stand in no line of the log, in no event and in no error', async () => {
  const lines: string[] = []
  const wrong = 'a-wrong-token-of-somebody'
  const tether = await openWorld({ settings: { API_TOKEN: TOKEN }, onLog: (line) => lines.push(line) })
  const { url } = tether
  const seen: string[] = []
  async function look(path: string, options: Parameters<typeof ask>[2] = {}): Promise<void> {
    const { text, headers } = await ask(url, path, options)
    seen.push(text, ...headers.values())
  }
  const login = await fetch(`${url}/login`, {
    method: 'POST',
    body: new URLSearchParams({ token: TOKEN }),
    redirect: 'manual',
  })
  const cookie = login.headers.get('set-cookie')?.split(';')[0] ?? ''
  const session = cookie.split('=')[1] ?? ''
  await fetch(`${url}/login`, {
    method: 'POST',
    body: new URLSearchParams({ token: wrong, next: `/?t=${wrong}` }),
  }).then(async (response) => seen.push((await response.text()).replace(/name="next" value="[^"]*"/, '')))
  const secret = 'a-secret-of-the-command'
  const body = {
    task: 'command',
    jobId: 'job-12345',
    input: { command: 'env; cat; echo done', env: { SECRET: secret }, stdin: '' },
  }
  await look('/execute', { body: { ...body, input: { ...body.input, command: 'echo done' } }, headers: BEARER })
  for (const headers of [{ authorization: `Bearer ${wrong}` }, { cookie: `tether_session=${wrong}` }, { cookie }]) {
    for (const path of ['/jobs', `/nothing?token=${wrong}`, `/jobs/${wrong}`, '/jobs/job-12345/requests']) {
      await look(path, { headers: { ...headers, origin: new URL(url).origin } })
      if (path.includes(wrong)) seen.pop()
    }
  }
  await look('/jobs/job-12345/cancel', { body: {}, headers: BEARER })
  await look('/jobs/job-12345', { headers: BEARER })
  const events = await eventsOf(tether, { tenant: 'default', id: JSON.parse('"job-12345"') })
  const logged = lines.join('\n')
  expect(logged).toContain('a login with a wrong token was refused')
  for (const text of [logged, JSON.stringify(events), seen.join('\n')]) {
    expect(text).not.toContain(TOKEN)
    expect(text).not.toContain(session)
    expect(text).not.toContain(secret)
  }
  expect(logged).not.toContain(wrong)
})
