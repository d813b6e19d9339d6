import { once } from 'node:events'
import { runInNewContext } from 'node:vm'
import { describe, expect, test } from 'vitest'
import { TetherError } from '../../src/job/error.ts'
import type { Authenticate, Scope } from '../../src/server/access/Identity.ts'
import type { Tether } from '../../src/tether.ts'
import { eventually, Gate, openWorld, taskOf } from '../world.ts'
import { RawClient } from './RawClient.ts'
import { type Answer, ask } from './requests.ts'

const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))
const writes = taskOf('writes', async (ctx) => {
  await ctx.workspace()
})
const TICKS = { task: 'ticks', input: { count: 1, intervalMs: 0 } }

/** Believes what the header says: `TENANT SUBJECT SCOPE,SCOPE`. */
const believes: Authenticate = ({ headers }) => {
  const [tenant, subject, scopes] = headers.authorization?.split(' ') ?? []
  if (tenant === undefined || subject === undefined) return undefined
  return { tenant, subject, scopes: (scopes ?? '').split(',').filter((scope): scope is Scope => scope !== '') }
}

function as(tenant: string, subject = 'ann', scopes = 'admin'): { authorization: string } {
  return { authorization: `${tenant} ${subject} ${scopes}` }
}

function openFor(more: Parameters<typeof openWorld>[0] = {}): Promise<Tether> {
  return openWorld({ authenticate: believes, tasks: [waits, writes], ...more })
}

/** What each route needs. */
const ROUTES: [scope: Scope, method: string, path: string, body?: object][] = [
  ['run', 'POST', '/execute/stream', TICKS],
  ['run', 'POST', '/execute', TICKS],
  ['run', 'POST', '/jobs', TICKS],
  ['read', 'GET', '/jobs'],
  ['read', 'GET', '/jobs/events'],
  ['read', 'GET', '/jobs/job-12345'],
  ['read', 'GET', '/jobs/job-12345/events'],
  ['run', 'GET', '/jobs/job-12345/events?hold=true'],
  ['read', 'GET', '/jobs/job-12345/requests'],
  ['read', 'GET', '/jobs/job-12345/files'],
  ['read', 'GET', '/jobs/job-12345/files/a.txt'],
  ['run', 'PATCH', '/jobs/job-12345', { onDisconnect: 'stop' }],
  ['cancel', 'POST', '/jobs/job-12345/cancel'],
  ['cancel', 'POST', '/jobs/job-12345/stop'],
  ['cancel', 'POST', '/groups/group-12345/cancel'],
  ['cancel', 'POST', '/groups/group-12345/stop'],
  ['run', 'POST', '/jobs/job-12345/lease', { holder: 'x' }],
  ['admin', 'DELETE', '/jobs/job-12345'],
  ['read', 'GET', '/tasks'],
  ['read', 'GET', '/openapi.json'],
  ['admin', 'GET', '/metrics'],
  ['read', 'GET', '/docs'],
  ['read', 'GET', '/'],
]

/** What a request is answered with; a stream's head is enough. */
async function statusOf(url: string, method: string, path: string, scopes: string, body?: object): Promise<string> {
  const client = await RawClient.connect(url)
  client.request({ method, path, headers: { ...as('acme', 'ann', scopes), connection: 'close' }, body })
  await client.until(/\r\n\r\n/)
  if (!client.received.includes('text/event-stream')) await client.closed
  client.socket.destroy()
  return /"code":"(\w+)"/.exec(client.received)?.[1] ?? client.received.split(' ', 2)[1] ?? ''
}

describe('a scope', () => {
  test.each<(typeof ROUTES)[number]>(ROUTES)('%s is needed for %s %s, and does', async (scope, method, path, body) => {
    const { url } = await openFor()
    const others = ['read', 'run', 'cancel'].filter(
      (other) => other !== scope && !(path.includes('hold') && other === 'read'),
    )
    expect(await statusOf(url, method, path, others.join(','), body)).toBe('TETHER_FORBIDDEN')
    expect(await statusOf(url, method, path, '', body)).toBe('TETHER_FORBIDDEN')
    const own = path.includes('hold') ? 'read,run' : scope
    expect(await statusOf(url, method, path, own, body)).not.toMatch(/TETHER_(FORBIDDEN|UNAUTHORIZED)/)
    expect(await statusOf(url, method, path, 'admin', body)).not.toMatch(/TETHER_(FORBIDDEN|UNAUTHORIZED)/)
  })

  test('is looked at on every route that there is', async () => {
    const { url } = await openFor()
    const { json } = await ask(url, '/openapi.json', { headers: as('acme') })
    const paths = Object.entries(json['paths'] ?? {}).flatMap(([path, item]) =>
      Object.keys(Object(item)).map((method) => `${method.toUpperCase()} ${path}`),
    )
    const seen = ROUTES.map(([, method, path]) =>
      `${method} ${path}`
        .replace(/(job|group)-12345/, '{id}')
        .replace('a.txt', '{*}')
        .replace(/\?.*/, ''),
    )
    const open = ['GET /health/live', 'GET /health/ready']
    expect(paths.filter((path) => !seen.includes(path) && !open.includes(path))).toEqual([])
  })

  test('that is missing is said in the answer, and nothing is done', async () => {
    const { url } = await openFor()
    const refused = await ask(url, '/jobs', { body: TICKS, headers: as('acme', 'ann', 'read,cancel') })
    expect(refused.json).toEqual({
      statusCode: 403,
      code: 'TETHER_FORBIDDEN',
      error: 'Forbidden',
      message: 'this needs the scope run, and the request has read, cancel',
    })
    expect((await ask(url, '/jobs', { headers: as('acme') })).json).toMatchObject({ jobs: [] })
  })

  test('admin is what the details of health need', async () => {
    const { url } = await openFor()
    expect((await ask(url, '/health/ready')).json).toEqual({ ready: true })
    expect((await ask(url, '/health/ready', { headers: as('acme', 'ann', 'read') })).json).toEqual({ ready: true })
    expect((await ask(url, '/health/ready', { headers: as('acme') })).json).toMatchObject({ draining: false })
  })
})

describe('another tenant', () => {
  async function askBoth(
    url: string,
    path: string,
    options: Parameters<typeof ask>[2] = {},
  ): Promise<{ readonly own: Answer; readonly other: Answer }> {
    const other = await ask(url, path, { ...options, headers: { ...options.headers, ...as('evil') } })
    return { other, own: await ask(url, path, { ...options, headers: { ...options.headers, ...as('acme') } }) }
  }

  test("has none of a tenant's jobs, on no route, and its refusals look as if there were none", async () => {
    const tether = await openFor()
    const { url } = tether
    const job = { task: 'waits', jobId: 'job-12345', group: 'group-12345' }
    expect((await ask(url, '/jobs', { body: job, headers: as('acme') })).status).toBe(202)
    await eventually('it runs', () => tether.orchestrator.getActiveExecutionCount() === 1)
    for (const [, method, path, body] of ROUTES) {
      if (!path.includes('12345')) continue
      const there = await ask(url, path, { method, headers: as('evil'), ...(body === undefined ? {} : { body }) })
      const nowhere = await ask(url, path.replace('12345', '99999'), {
        method,
        headers: as('evil'),
        ...(body === undefined ? {} : { body }),
      })
      expect([method, path, there.status]).toEqual([method, path, 404])
      expect(there.text.replaceAll('12345', '99999')).toBe(nowhere.text)
      expect(there.headers.get('x-tether-delivery')).toBeNull()
    }
    expect((await ask(url, '/jobs/job-12345', { headers: as('acme') })).json).toMatchObject({ status: 'running' })
  })

  test('may have a job of the same id, the same key and the same group', async () => {
    const { url } = await openFor()
    const body = { task: 'waits', jobId: 'job-12345', group: 'group-12345' }
    const { own, other } = await askBoth(url, '/jobs', { body, headers: { 'idempotency-key': 'key-1' } })
    expect([own.status, other.status]).toEqual([202, 202])
    const changed = { ...body, priority: 1 }
    const { own: ownAgain } = await askBoth(url, '/jobs', { body: changed, headers: { 'idempotency-key': 'key-1' } })
    expect(ownAgain.json).toMatchObject({ code: 'TETHER_IDEMPOTENCY_CONFLICT' })
    await ask(url, '/groups/group-12345/cancel', { method: 'POST', headers: as('evil') })
    await eventually('that of the one is cancelled', async () => {
      const { json } = await ask(url, '/jobs/job-12345', { headers: as('evil') })
      return json['status'] === 'cancelled'
    })
    expect((await ask(url, '/jobs/job-12345', { headers: as('acme') })).json['terminal']).toBe(false)
  })

  test('is in no list and no feed', async () => {
    const { url } = await openFor()
    const feeds = await Promise.all(
      ['acme', 'evil'].map(async (tenant) => {
        const client = await RawClient.connect(url)
        client.request({ path: '/jobs/events', headers: as(tenant) })
        await client.until('retry: 1000')
        return client
      }),
    )
    await ask(url, '/execute', { body: { ...TICKS, jobId: 'job-of-acme' }, headers: as('acme') })
    await ask(url, '/execute', { body: { ...TICKS, jobId: 'job-of-evil' }, headers: as('evil') })
    const [acme, evil] = feeds
    await acme?.until('job-of-acme')
    await evil?.until(/job\.succeeded/)
    expect(evil?.received).not.toContain('job-of-acme')
    expect((await ask(url, '/jobs', { headers: as('evil') })).text).not.toContain('job-of-acme')
    expect((await ask(url, '/jobs?group=group-12345', { headers: as('evil') })).json).toMatchObject({ jobs: [] })
  })

  test('is not ended by what was remembered for the same id or group', async () => {
    const { url } = await openFor()
    const body = { ifUnknown: 'remember' }
    for (const path of ['/jobs/job-12345/cancel', '/groups/group-12345/cancel']) {
      expect((await ask(url, path, { body, headers: as('evil') })).status).toBe(202)
    }
    const job = { ...TICKS, jobId: 'job-12345', group: 'group-12345' }
    const { own, other } = await askBoth(url, '/execute', { body: job })
    expect(own.json).toMatchObject({ status: 'succeeded' })
    expect(other.json).toMatchObject({ status: 'cancelled' })
  })

  test('is not named to the admin of another where it is stuck; how many are is told', async () => {
    const letGo = new Gate()
    const { url } = await openFor({ tasks: [taskOf('deaf', async () => letGo.opened)] })
    const body = { task: 'deaf', jobId: 'job-12345', settleMs: 100 }
    await ask(url, '/jobs', { body, headers: as('acme') })
    await ask(url, '/jobs/job-12345/cancel?wait=60', { body: {}, headers: as('acme') })
    const { own, other } = await askBoth(url, '/health/ready')
    letGo.open()
    expect(own.json['stuck']).toEqual([{ id: 'job-12345', task: 'deaf', since: expect.stringMatching(/Z$/) }])
    expect(other.json['stuck']).toEqual([])
    expect(other.json['checks']).toContainEqual(expect.objectContaining({ name: 'stuck', stuck: 1 }))
  })

  test('keeps the files of its job to itself, also after a restart', async () => {
    const first = await openFor()
    const body = { task: 'writes', jobId: 'job-12345' }
    await ask(first.url, '/execute', { body, headers: as('acme') })
    const { own, other } = await askBoth(first.url, '/jobs/job-12345/files')
    expect([own.status, other.status]).toEqual([200, 404])
  })
})

describe('the hook', () => {
  test('that knows nobody is answered with 401, and one that fails with 500', async () => {
    const authenticate: Authenticate = ({ headers }) => {
      if (headers.authorization === 'fails') throw new Error('the directory is away: secret-of-it')
      return undefined
    }
    const { url } = await openFor({ authenticate })
    expect((await ask(url, '/jobs')).json).toMatchObject({ code: 'TETHER_UNAUTHORIZED' })
    const failed = await ask(url, '/jobs', { headers: { authorization: 'fails' } })
    expect(failed.json).toMatchObject({ code: 'TETHER_INTERNAL' })
    expect(failed.text).not.toContain('secret')
  })

  test.each([
    { tenant: '../other', subject: 'ann', scopes: ['read'] },
    { tenant: 'a/b', subject: 'ann', scopes: ['read'] },
    { tenant: 'a:b', subject: 'ann', scopes: ['read'] },
    { tenant: '', subject: 'ann', scopes: ['read'] },
    { tenant: '..', subject: 'ann', scopes: ['read'] },
    { tenant: 'acme', subject: '', scopes: ['read'] },
    { tenant: 'acme', subject: 'a\r\nset-cookie: x', scopes: ['read'] },
    { tenant: 'acme', subject: '\u001b[31mann', scopes: ['read'] },
    { tenant: 'acme', subject: 'ann', scopes: ['root'] },
    { tenant: 'acme', subject: 'ann', scopes: 'admin' },
    { tenant: 'acme', subject: 'ann' },
    { tenant: 'acme', subject: null, scopes: ['read'] },
    { tenant: null, subject: 'ann', scopes: ['read'] },
    { tenant: 42, subject: 'ann', scopes: ['read'] },
    { tenant: ['acme'], subject: 'ann', scopes: ['read'] },
    { subject: 'ann', scopes: ['read'] },
    true,
  ])('may not give %j', async (identity) => {
    const { url } = await openFor({ authenticate: () => JSON.parse(JSON.stringify(identity)) })
    expect((await ask(url, '/jobs')).json).toMatchObject({ code: 'TETHER_INTERNAL' })
  })

  test('that gives no tenant keeps nobody else from anything', async () => {
    const nobodys = JSON.parse('{ "tenant": null, "subject": "bob", "scopes": ["admin"] }')
    const authenticate: Authenticate = (request) => (request.headers.authorization ? believes(request) : nobodys)
    const { url } = await openFor({ authenticate, storePatienceMs: 50 })
    expect((await ask(url, '/jobs/job-12345/cancel', { body: {} })).status).toBe(500)
    expect((await ask(url, '/execute', { body: TICKS, headers: as('acme') })).json).toMatchObject({
      status: 'succeeded',
    })
    expect((await ask(url, '/health/ready')).json).toEqual({ ready: true })
  })

  test('may say null for nobody, and give any promise', async () => {
    const authenticate: Authenticate = (request) => {
      const found = JSON.parse(JSON.stringify(believes(request) ?? null))
      // Of another make: not an instance of `Promise` here.
      return runInNewContext('Promise.resolve(found)', { found })
    }
    const { url } = await openFor({ authenticate })
    expect((await ask(url, '/jobs')).json).toMatchObject({ code: 'TETHER_UNAUTHORIZED' })
    expect((await ask(url, '/jobs', { headers: as('acme', 'ann', 'read') })).status).toBe(200)
  })

  const withStatus = Object.assign(new Error('no password secret-of-it'), { statusCode: 401, code: 'FST_JWT' })
  // As of a request to another server of ours that the hook made.
  const ofOurs = new TetherError('TETHER_JOB_NOT_FOUND', 'no job secret-of-it')
  const refuseWith = (error: Error): never => {
    throw error
  }
  const unreadable = {
    tenant: 'acme',
    scopes: [],
    get subject(): string {
      return refuseWith(withStatus)
    },
  }

  test.each<[string, Authenticate]>([
    ['throws', () => refuseWith(withStatus)],
    ['rejects', () => Promise.reject(withStatus)],
    ['throws an error of ours', () => refuseWith(ofOurs)],
    ['rejects with an error of ours', () => Promise.reject(ofOurs)],
    ['gives what throws when it is read,', () => unreadable],
    ['resolves with what throws when it is read,', async () => unreadable],
  ])('that %s with a status of its own is answered with 500, and tells nothing', async (_, authenticate) => {
    const lines: string[] = []
    const { url } = await openFor({ authenticate, onLog: (line) => lines.push(line) })
    const failed = await ask(url, '/jobs')
    expect(failed.json).toMatchObject({ statusCode: 500, code: 'TETHER_INTERNAL' })
    expect(failed.text).not.toContain('secret')
    expect(lines.join('')).toContain('secret-of-it')
  })

  test('may take its time, and a client that is gone by then starts nothing that lasts', async () => {
    const asked = new Gate()
    const authenticate: Authenticate = async (request) => {
      if (request.headers.authorization !== undefined) return believes(request)
      asked.open()
      // The server has seen it leave.
      await once(request.raw.socket, 'close')
      return { tenant: 'acme', subject: 'ann', scopes: ['admin'] }
    }
    const tether = await openFor({ authenticate, settings: { MAX_STREAMS_PER_CLIENT: '1' } })
    const client = await RawClient.connect(tether.url)
    client.request({ method: 'POST', path: '/execute/stream', body: { task: 'waits', jobId: 'job-12345' } })
    await asked.opened
    client.socket.destroy()
    await client.closed
    // Its place is free again, and if its job came to be, it ended.
    await eventually('a stream has room', async () => {
      const { status } = await ask(tether.url, '/execute', { body: TICKS, headers: as('acme') })
      return status === 200
    })
    await eventually('nothing runs', () => tether.jobs.activeCount === 0)
  })

  test('is asked about no preflight, and about health only where something is shown', async () => {
    const authenticate: Authenticate = () => {
      throw new Error('the directory is away')
    }
    const { url } = await openFor({ authenticate, settings: { ALLOWED_ORIGINS: 'https://app.example' } })
    const headers = { origin: 'https://app.example', 'access-control-request-method': 'POST', connection: 'close' }
    const client = await RawClient.connect(url)
    client.request({ method: 'OPTIONS', path: '/jobs', headers })
    await client.closed
    expect(client.received).toMatch(/^HTTP\/1\.1 204 /)
    expect((await ask(url, '/health/ready')).json).toEqual({ ready: true })
    expect((await ask(url, '/jobs')).status).toBe(500)
  })

  test('does not lift the check of Host, whatever it is shown', async () => {
    const { url } = await openFor()
    for (const headers of [as('acme'), {}]) {
      const client = await RawClient.connect(url)
      client.request({ path: '/jobs', headers: { host: 'evil.example', connection: 'close', ...headers } })
      await client.closed
      expect(client.received).toContain('TETHER_HOST_REFUSED')
    }
  })

  test.each([
    [{}, 403],
    [{ 'sec-fetch-site': 'none' }, 403],
    [{ 'sec-fetch-site': 'same-origin' }, 202],
    [{ origin: 'http://localhost' }, 202],
    [{ origin: 'https://app.example' }, 403],
  ])('that goes by a cookie gets a change from a page of ours alone: %j is %i', async (headers, status) => {
    const authenticate: Authenticate = (request) =>
      request.headers.cookie === undefined ? undefined : { tenant: 'acme', subject: 'ann', scopes: ['admin'] }
    const { url } = await openFor({ authenticate, settings: { ALLOWED_ORIGINS: 'https://app.example' } })
    const client = await RawClient.connect(url)
    const sent = { cookie: 'login=ann', connection: 'close', ...headers }
    client.request({ method: 'POST', path: '/jobs', headers: sent, body: TICKS })
    await client.closed
    expect(Number(client.received.split(' ', 2)[1])).toBe(status)
  })

  test('gives what quotas count by, a tenant at a time', async () => {
    const tether = await openFor({ settings: { MAX_STREAMS_PER_CLIENT: '1' } })
    const { url } = tether
    const stream = await RawClient.connect(url)
    stream.request({ path: '/jobs/events', headers: as('acme', 'ann') })
    await stream.until('retry: 1000')
    expect((await ask(url, '/execute', { body: TICKS, headers: as('acme', 'ann') })).json).toMatchObject({
      code: 'TETHER_QUOTA',
    })
    for (const headers of [as('acme', 'bob'), as('evil', 'ann')]) {
      expect((await ask(url, '/execute', { body: TICKS, headers })).status).toBe(200)
    }
  })
})

test('a route that changes something and says no scope is not served', async () => {
  const { fastify } = await import('fastify')
  const { addAccess } = await import('../../src/server/access/addAccess.ts')
  const { Access } = await import('../../src/server/access/Access.ts')
  const { systemClock } = await import('../../src/clock.ts')
  const { readConfig } = await import('../../src/config.ts')
  const tether = await openWorld()
  const config = readConfig({})
  const access = new Access({ config, clock: systemClock })
  const logger = { error: () => undefined, warn: () => undefined, info: () => undefined }
  const app = fastify()
  await addAccess(app, { access, config, jobs: tether.jobs, logger, isClosing: () => false })
  expect(() => app.post('/new', async () => 'done')).toThrow('the route /new must say which scope it needs')
})
