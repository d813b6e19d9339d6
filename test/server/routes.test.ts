import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { eventually, Gate, openWorld, taskOf } from '../world.ts'
import { ask, jobOf, startJob } from './requests.ts'

const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))
const TICKS = { task: 'ticks', input: { count: 1, intervalMs: 0 } }

async function untilEnded(url: string, id: string): Promise<void> {
  await eventually(`${id} has ended`, async () => (await jobOf(url, id)).terminal)
}

describe('a start in the background (protocol, section 3)', () => {
  test('is answered with 202, the job and where it is', async () => {
    const { url } = await openWorld()
    const answer = await ask(url, '/jobs', { body: { ...TICKS, jobId: 'job-12345', metadata: { a: [1] }, group: '' } })
    expect(answer.status).toBe(202)
    expect(answer.headers.get('location')).toBe('/jobs/job-12345')
    expect(answer.json).toMatchObject({
      id: 'job-12345',
      task: 'ticks',
      status: 'queued',
      terminal: false,
      metadata: { a: [1] },
      input: TICKS.input,
      policy: { onDisconnect: 'continue', settleMs: 2000, priority: 0 },
    })
    expect(answer.json).not.toHaveProperty('group')
  })

  test('with an id that exists is the same job for the same body, whatever the order of keys and the route', async () => {
    const { url } = await openWorld()
    await ask(url, '/jobs', { body: { task: 'ticks', input: { count: 1, intervalMs: 0 }, jobId: 'job-12345' } })
    const again = await ask(url, '/execute', {
      body: { jobId: 'job-12345', input: { intervalMs: 0, count: 1 }, task: 'ticks' },
    })
    expect(again.status).toBe(200)
    expect(again.json).toMatchObject({ id: 'job-12345', status: 'succeeded', policy: { onDisconnect: 'continue' } })
    const other = await ask(url, '/jobs', { body: { ...TICKS, jobId: 'job-12345', priority: 1 } })
    expect(other.json).toMatchObject({ statusCode: 409, code: 'TETHER_JOB_EXISTS', error: 'Conflict' })
  })

  test('with an Idempotency-Key that was used gives the same job for the same body, and 409 for another', async () => {
    const { url } = await openWorld()
    const headers = { 'idempotency-key': 'key-1' }
    const first = await ask(url, '/jobs', { body: TICKS, headers })
    const second = await ask(url, '/jobs', { body: TICKS, headers })
    expect(second.json['id']).toBe(first.json['id'])
    const other = await ask(url, '/jobs', { body: { ...TICKS, priority: 1 }, headers })
    expect(other.json).toMatchObject({ statusCode: 409, code: 'TETHER_IDEMPOTENCY_CONFLICT' })
  })

  test.each([
    ['an unknown field', { ...TICKS, colour: 1 }, /^colour is not a known field$/],
    ['no task', { input: {} }, /^task is missing$/],
    ['a task that is a number', { task: 5 }, /^task must be string, got 5$/],
    ['a time as a text', { ...TICKS, timeoutMs: '5' }, /^timeoutMs must be integer, got "5"$/],
    ['a time that is no whole number', { ...TICKS, leaseMs: 1.5 }, /^leaseMs must be integer, got 1.5$/],
    ['a time below 0', { ...TICKS, disconnectGraceMs: -5 }, /^disconnectGraceMs must be >= 0, got -5$/],
    ['a grace above an hour', { ...TICKS, disconnectGraceMs: 3_600_001 }, /^disconnectGraceMs must be <= 3600000/],
    ['a time above what timers take', { ...TICKS, timeoutMs: 2 ** 31 }, /^timeoutMs must be <= 2147483647/],
    ['settleMs below 100', { ...TICKS, settleMs: 99 }, /^settleMs must be >= 100, got 99$/],
    ['settleMs above a minute', { ...TICKS, settleMs: 60_001 }, /^settleMs must be <= 60000/],
    ['a priority above 100', { ...TICKS, priority: 101 }, /^priority must be <= 100, got 101$/],
    [
      'an unknown policy',
      { ...TICKS, onDisconnect: 'die' },
      /^onDisconnect must be one of "cancel", "stop", "continue", got "die"$/,
    ],
    ['an unknown onRestart', { ...TICKS, onRestart: 'x' }, /^onRestart must be one of "run", "interrupt", got "x"$/],
    ['metadata that is a list', { ...TICKS, metadata: [] }, /^metadata must be object, got \[\]$/],
    [
      'metadata above 16 KiB',
      { ...TICKS, metadata: { a: 'x'.repeat(16 * 1024) } },
      /^metadata must be at most 16384 bytes as JSON, got 16392$/,
    ],
    ['a limit without a key', { ...TICKS, concurrencyLimit: 2 }, /^concurrencyLimit needs a concurrencyKey, got none$/],
    [
      'input that the task refuses',
      { task: 'ticks', input: { count: -1, intervalMs: 0 } },
      /^input\.count must be >= 0, got -1$/,
    ],
    ['a list', [], /^the body must be object, got \[\]$/],
  ])('with %s is 400, and the message names it', async (_what, body, message) => {
    const { url } = await openWorld()
    const answer = await ask(url, '/jobs', { body })
    expect(answer.json).toEqual({
      statusCode: 400,
      code: 'TETHER_INVALID_REQUEST',
      error: 'Bad Request',
      message: expect.stringMatching(message),
    })
  })

  test.each([
    ['jobId', { ...TICKS, jobId: 'short' }],
    ['jobId', { ...TICKS, jobId: '' }],
    ['group', { ...TICKS, group: 'white space' }],
  ])('with a malformed %s is TETHER_INVALID_JOB_ID', async (_field, body) => {
    const { url } = await openWorld()
    expect((await ask(url, '/jobs', { body })).json).toMatchObject({ statusCode: 400, code: 'TETHER_INVALID_JOB_ID' })
  })

  test.each(['', ' ', 'white space', 'é', 'x'.repeat(201)])('with the Idempotency-Key %j is 400', async (key) => {
    const { url } = await openWorld()
    const answer = await ask(url, '/jobs', { body: TICKS, headers: { 'idempotency-key': key } })
    expect(answer.json).toMatchObject({ statusCode: 400, code: 'TETHER_INVALID_REQUEST' })
  })

  test('of a task that is not registered is TETHER_TASK_NOT_FOUND', async () => {
    const { url } = await openWorld()
    const answer = await ask(url, '/jobs', { body: { task: 'nothing' } })
    expect(answer.json).toMatchObject({ statusCode: 404, code: 'TETHER_TASK_NOT_FOUND' })
  })

  test('past MAX_QUEUED is 503 with Retry-After', async () => {
    const { url } = await openWorld({ settings: { CONCURRENCY: '1', MAX_QUEUED: '0' }, tasks: [waits] })
    await startJob(url, { task: 'waits' })
    const answer = await ask(url, '/jobs', { body: { task: 'waits' } })
    expect(answer.json).toMatchObject({ statusCode: 503, code: 'TETHER_QUEUE_FULL', error: 'Service Unavailable' })
    expect(answer.headers.get('retry-after')).toBe('1')
  })

  test('while the server drains is 503 with Retry-After, and ready says so', async () => {
    const ends = new Gate()
    const slow = taskOf('slow', async () => ends.opened)
    const { url, jobs } = await openWorld({ tasks: [slow] })
    const { id } = await startJob(url, { task: 'slow' })
    await eventually('it runs', async () => (await jobOf(url, id)).status === 'running')
    const drained = jobs.drain({ finishWithinMs: 10_000 })
    const answer = await ask(url, '/jobs', { body: TICKS })
    expect(answer.json).toMatchObject({ statusCode: 503, code: 'TETHER_DRAINING' })
    expect(answer.headers.get('retry-after')).toBe('5')
    expect((await ask(url, '/health/ready')).status).toBe(503)
    ends.open()
    await drained
  })
})

describe('a body', () => {
  test.each([
    ['that is no JSON', '{', /^the body must be JSON: /],
    [
      'with a key __proto__',
      '{"task":"ticks","input":{"a":{"__proto__":{"x":1}}}}',
      /^the body must have no key __proto__$/,
    ],
    [
      'that is deep',
      `{"task":"ticks","input":${'['.repeat(400_000)}${']'.repeat(400_000)}}`,
      /^the body must be nested no deeper than 100/,
    ],
    ['that is empty', '', /^the body must be object/],
  ])('%s is 400', async (_what, body, message) => {
    const { url } = await openWorld()
    const answer = await ask(url, '/jobs', { body })
    expect(answer.json).toMatchObject({
      statusCode: 400,
      code: 'TETHER_INVALID_REQUEST',
      message: expect.stringMatching(message),
    })
  })

  test('of another type is 415, also of none', async () => {
    const { url } = await openWorld()
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'nonsense']) {
      const answer = await ask(url, '/jobs', { body: JSON.stringify(TICKS), headers: { 'content-type': type } })
      expect(answer.json).toMatchObject({ statusCode: 415, code: 'TETHER_UNSUPPORTED_MEDIA_TYPE' })
    }
  })

  test('above 1 MiB is 413', async () => {
    const { url } = await openWorld()
    const body = { task: 'ticks', input: { text: 'x'.repeat(1024 * 1024) } }
    expect((await ask(url, '/jobs', { body })).json).toMatchObject({ statusCode: 413, code: 'TETHER_BODY_TOO_LARGE' })
  })
})

describe('an execution that is waited for', () => {
  test('is answered with the job once it has ended', async () => {
    const { url } = await openWorld()
    const answer = await ask(url, '/execute', { body: TICKS })
    expect(answer.status).toBe(200)
    expect(answer.headers.get('content-type')).toBe('application/json; charset=utf-8')
    expect(answer.headers.get('x-tether-job-id')).toBe(answer.json['id'])
    expect(answer.headers.get('x-tether-holder')).toMatch(/^holder_/)
    expect(answer.json).toMatchObject({ status: 'succeeded', result: { ticks: 1 }, policy: { onDisconnect: 'cancel' } })
  })

  test('carries newlines before the JSON while it is silent', async () => {
    const ends = new Gate()
    const slow = taskOf('slow', async () => {
      await ends.opened
      return 'done'
    })
    const { url } = await openWorld({ settings: { HEARTBEAT_MS: '20' }, tasks: [slow] })
    const response = await fetch(`${url}/execute`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ task: 'slow' }),
    })
    expect(response.status).toBe(200)
    let text = ''
    for await (const chunk of response.body ?? []) {
      text += Buffer.from(chunk).toString()
      if (text === '\n\n') ends.open()
    }
    expect(text).toMatch(/^\n\n+\{/)
    expect(JSON.parse(text)).toMatchObject({ status: 'succeeded', result: 'done' })
  })
})

describe('the list of jobs', () => {
  test('is newest first, a page at a time, without input and result', async () => {
    const { url } = await openWorld()
    const ids: string[] = []
    for (let n = 0; n < 5; n += 1) {
      const { id } = await startJob(url, TICKS)
      await untilEnded(url, id)
      ids.unshift(id)
    }
    const first = await ask(url, '/jobs?limit=3')
    const second = await ask(url, `/jobs?limit=3&cursor=${String(first.json['nextCursor'])}`)
    const rows = [first, second].flatMap(({ json }) => (Array.isArray(json['jobs']) ? json['jobs'] : []))
    expect(rows.map((row) => row.id)).toEqual(ids)
    expect(rows[0]).not.toHaveProperty('input')
    expect(rows[0]).not.toHaveProperty('result')
    expect(second.json['nextCursor']).toBeNull()
  })

  test('is filtered by status, task and group', async () => {
    const { url } = await openWorld({ tasks: [waits] })
    const a = await startJob(url, { task: 'waits', group: 'group-aa' })
    const b = await startJob(url, { ...TICKS, group: 'group-bb' })
    await untilEnded(url, b.id)
    const idsOf = async (query: string): Promise<unknown> => {
      const { json } = await ask(url, `/jobs?${query}`)
      return Array.isArray(json['jobs']) ? json['jobs'].map((job) => job.id) : json
    }
    expect(await idsOf('status=succeeded,failed')).toEqual([b.id])
    expect(await idsOf('task=waits')).toEqual([a.id])
    expect(await idsOf('group=group-bb')).toEqual([b.id])
    expect(await idsOf(`parent=${a.id}`)).toEqual([])
  })

  test.each([
    ['limit=0', 'TETHER_INVALID_REQUEST'],
    ['limit=201', 'TETHER_INVALID_REQUEST'],
    ['limit=0x10', 'TETHER_INVALID_REQUEST'],
    ['limit=5&limit=6', 'TETHER_INVALID_REQUEST'],
    ['status=done', 'TETHER_INVALID_REQUEST'],
    ['colour=red', 'TETHER_INVALID_REQUEST'],
    ['cursor=nonsense', 'TETHER_INVALID_CURSOR'],
    ['cursor=', 'TETHER_INVALID_CURSOR'],
    ['group=x', 'TETHER_INVALID_JOB_ID'],
    ['parent=x', 'TETHER_INVALID_JOB_ID'],
  ])('asked with %s is 400 %s', async (query, code) => {
    const { url } = await openWorld()
    expect((await ask(url, `/jobs?${query}`)).json).toMatchObject({ statusCode: 400, code })
  })
})

describe('one job', () => {
  test('that is not there is TETHER_JOB_NOT_FOUND on every route, and a malformed id is 400', async () => {
    const { url } = await openWorld()
    const routes = [
      ['GET', '', undefined],
      ['PATCH', '', { onDisconnect: 'stop' }],
      ['DELETE', '', undefined],
      ['GET', '/events', undefined],
      ['GET', '/files', undefined],
      ['GET', '/files/a.txt', undefined],
      ['POST', '/cancel', {}],
      ['POST', '/stop', {}],
      ['POST', '/lease', { holder: 'x' }],
    ] as const
    for (const [method, path, body] of routes) {
      const missing = await ask(url, `/jobs/job-nothing${path}`, { method, body })
      expect([method, path, missing.json]).toMatchObject([
        method,
        path,
        { statusCode: 404, code: 'TETHER_JOB_NOT_FOUND' },
      ])
      const malformed = await ask(url, `/jobs/${'x'.repeat(300)}${path}`, { method, body })
      expect([method, path, malformed.json]).toMatchObject([
        method,
        path,
        { statusCode: 400, code: 'TETHER_INVALID_JOB_ID' },
      ])
    }
  })

  test('gets another policy by PATCH, and none once it has ended', async () => {
    const { url } = await openWorld({ tasks: [waits] })
    const { id } = await startJob(url, { task: 'waits' })
    const changed = await ask(url, `/jobs/${id}`, {
      method: 'PATCH',
      body: { onDisconnect: 'stop', disconnectGraceMs: 5 },
    })
    expect(changed).toMatchObject({ status: 200, json: { policy: { onDisconnect: 'stop', disconnectGraceMs: 5 } } })
    expect((await ask(url, `/jobs/${id}`, { method: 'PATCH', body: {} })).status).toBe(400)
    expect((await ask(url, `/jobs/${id}`, { method: 'PATCH', body: { timeoutMs: 5 } })).status).toBe(400)
    await ask(url, `/jobs/${id}/cancel?wait=10`, { method: 'POST' })
    const late = await ask(url, `/jobs/${id}`, { method: 'PATCH', body: { onDisconnect: 'stop' } })
    expect(late.json).toMatchObject({ statusCode: 409, code: 'TETHER_JOB_FINISHED' })
  })

  test('is forgotten by DELETE once it has ended, and its id is spent', async () => {
    const { url } = await openWorld({ tasks: [waits] })
    const { id } = await startJob(url, { task: 'waits', jobId: 'job-12345' })
    expect((await ask(url, `/jobs/${id}`, { method: 'DELETE' })).json).toMatchObject({
      statusCode: 409,
      code: 'TETHER_JOB_ACTIVE',
    })
    await ask(url, `/jobs/${id}/cancel?wait=10`, { method: 'POST' })
    expect(await ask(url, `/jobs/${id}`, { method: 'DELETE' })).toMatchObject({ status: 204, text: '' })
    expect((await ask(url, `/jobs/${id}`)).status).toBe(404)
    const again = await ask(url, '/jobs', { body: { task: 'waits', jobId: 'job-12345' } })
    expect(again.json).toMatchObject({ statusCode: 410, code: 'TETHER_JOB_DELETED' })
  })
})

describe('a cancel and a stop', () => {
  test('without a body and without waiting are 202 with the job', async () => {
    const { url } = await openWorld({ tasks: [waits] })
    const { id } = await startJob(url, { task: 'waits' })
    await eventually('it runs', async () => (await jobOf(url, id)).status === 'running')
    const answer = await ask(url, `/jobs/${id}/stop`, { method: 'POST', body: { reason: 'enough' } })
    expect(answer.headers.get('x-tether-delivery')).toBe('local')
    expect(answer.json).toMatchObject({ id, stop: { cause: 'stop_requested', reason: 'enough', by: '127.0.0.1' } })
    await untilEnded(url, id)
    const after = await ask(url, `/jobs/${id}/cancel`, { method: 'POST' })
    expect(after).toMatchObject({ status: 200, json: { status: 'stopped' } })
    expect(after.headers.get('x-tether-delivery')).toBe('none')
  })

  test('that wait are 200 with the receipt', async () => {
    const { url } = await openWorld({ tasks: [waits] })
    const { id } = await startJob(url, { task: 'waits' })
    const answer = await ask(url, `/jobs/${id}/cancel?wait=60`, { method: 'POST' })
    expect(answer).toMatchObject({ status: 200, json: { status: 'cancelled', receipt: { confirmed: true } } })
  })

  test('whose wait runs out are 202', async () => {
    const ends = new Gate()
    const stubborn = taskOf('stubborn', async () => ends.opened)
    const { url } = await openWorld({ tasks: [stubborn] })
    const { id } = await startJob(url, { task: 'stubborn' })
    await eventually('it runs', async () => (await jobOf(url, id)).status === 'running')
    const answer = await ask(url, `/jobs/${id}/cancel?wait=0.05`, { method: 'POST' })
    expect(answer).toMatchObject({ status: 202, json: { status: 'cancelling', terminal: false } })
    expect(await ask(url, `/jobs/${id}/stop`, { method: 'POST' })).toMatchObject({ status: 202 })
    ends.open()
    await untilEnded(url, id)
  })

  test('of a job that succeeded are 409 and name the status', async () => {
    const { url } = await openWorld()
    const { id } = await startJob(url, TICKS)
    await untilEnded(url, id)
    const answer = await ask(url, `/jobs/${id}/cancel`, { method: 'POST', body: {} })
    expect(answer.json).toMatchObject({
      statusCode: 409,
      code: 'TETHER_JOB_FINISHED',
      message: expect.stringMatching(/succeeded/),
    })
  })

  test('of a job that is not known yet can be remembered, and are refused when too many are', async () => {
    const { url } = await openWorld({ settings: { MAX_TOMBSTONES: '1' } })
    const body = { ifUnknown: 'remember' }
    const answer = await ask(url, '/jobs/job-later-1/cancel', { body })
    expect(answer.status).toBe(202)
    expect(answer.headers.get('x-tether-delivery')).toBe('remembered')
    expect(answer.json).toEqual({
      id: 'job-later-1',
      remembered: true,
      kind: 'cancel',
      expiresAt: expect.stringMatching(/Z$/),
    })
    const full = await ask(url, '/jobs/job-later-2/stop', { body })
    expect(full.json).toMatchObject({ statusCode: 503, code: 'TETHER_TOMBSTONES_FULL' })
    expect(full.headers.get('retry-after')).toBe('5')
    const started = await ask(url, '/jobs', { body: { ...TICKS, jobId: 'job-later-1' } })
    expect(started).toMatchObject({ status: 202, json: { status: 'cancelled', terminal: true } })
  })

  test.each([
    ['?wait=61', {}],
    ['?wait=-1', {}],
    ['?wait=soon', {}],
    ['', { reason: 'x'.repeat(501) }],
    ['', { ifUnknown: 'maybe' }],
    ['', { because: 'x' }],
  ])('asked with %j and %j are 400', async (query, body) => {
    const { url } = await openWorld()
    const answer = await ask(url, `/jobs/job-12345/cancel${query}`, { body })
    expect(answer.json).toMatchObject({ statusCode: 400, code: 'TETHER_INVALID_REQUEST' })
  })

  test('of a group reach every job of it, and with remember those that start later', async () => {
    const { url } = await openWorld({ tasks: [waits] })
    const ids = await Promise.all(
      [1, 2].map(async () => (await startJob(url, { task: 'waits', group: 'group-aa' })).id),
    )
    const answer = await ask(url, '/groups/group-aa/cancel', { body: { ifUnknown: 'remember' } })
    expect(answer.status).toBe(202)
    expect(answer.json).toMatchObject({ remembered: true, kind: 'cancel' })
    await Promise.all(ids.map((id) => untilEnded(url, id)))
    expect(await ask(url, '/groups/group-aa/stop', { method: 'POST' })).toMatchObject({
      status: 200,
      json: { accepted: 0, ended: 2 },
    })
    const later = await ask(url, '/jobs', { body: { task: 'waits', group: 'group-aa' } })
    expect(later.json).toMatchObject({ status: 'cancelled' })
    expect((await ask(url, '/groups/group-bb/stop', { method: 'POST' })).json).toMatchObject({
      code: 'TETHER_JOB_NOT_FOUND',
    })
    expect((await ask(url, '/groups/x/stop', { method: 'POST' })).json).toMatchObject({ code: 'TETHER_INVALID_JOB_ID' })
  })
})

describe('what a job left', () => {
  const writes = taskOf('writes', async (ctx) => {
    const { writeFile, mkdir } = await import('node:fs/promises')
    const folder = await ctx.workspace()
    await mkdir(`${folder}/sub folder`)
    await writeFile(`${folder}/sub folder/page.html`, '<script>alert(1)</script>')
  })

  test('is listed, and handed out for saving only', async () => {
    const { url } = await openWorld({ tasks: [writes] })
    const { id } = await startJob(url, { task: 'writes' })
    await untilEnded(url, id)
    const list = await ask(url, `/jobs/${id}/files`)
    expect(list.json).toEqual({ files: [{ path: 'sub folder/page.html', bytes: 25, modifiedAt: expect.any(String) }] })
    const file = await ask(url, `/jobs/${id}/files/sub%20folder/page.html`)
    expect(file).toMatchObject({ status: 200, text: '<script>alert(1)</script>' })
    expect(file.headers.get('content-type')).toBe('application/octet-stream')
    expect(file.headers.get('content-disposition')).toBe('attachment')
    expect(file.headers.get('x-content-type-options')).toBe('nosniff')
    expect(file.headers.get('content-security-policy')).toBe("default-src 'none'; sandbox")
  })

  test.each(['..%2f..%2ftether.db', 'sub%20folder', '%00', 'nothing'])('does not include %s', async (path) => {
    const { url } = await openWorld({ tasks: [writes] })
    const { id } = await startJob(url, { task: 'writes' })
    await untilEnded(url, id)
    const answer = await ask(url, `/jobs/${id}/files/${path}`)
    expect(answer.status).toBe(404)
  })

  test('is there whatever else lies beside it: links, loops, pipes, names that are no text', async () => {
    const leaves = taskOf('leaves', async (ctx) => {
      const folder = await ctx.workspace()
      const odd = Buffer.concat([Buffer.from(`${folder}/`), Buffer.from([0xff, 0x61])])
      writeFileSync(odd, 'odd')
      writeFileSync(`${folder}/empty`, '')
      for (const [to, name] of [
        ['/etc', 'etc'],
        ['loop', 'loop'],
        ['/etc/passwd', 'passwd'],
      ] as const) {
        symlinkSync(to, `${folder}/${name}`)
      }
      mkdirSync(`${folder}/~`)
      writeFileSync(`${folder}/~/t`, 'tilde')
      await ctx.exec(['mkfifo', `${folder}/pipe`])
    })
    const { url } = await openWorld({ tasks: [leaves] })
    const { id } = await startJob(url, { task: 'leaves' })
    await untilEnded(url, id)
    const list = await ask(url, `/jobs/${id}/files`)
    expect(list.json).toEqual({
      files: [
        { path: 'empty', bytes: 0, modifiedAt: expect.any(String) },
        { path: '~/t', bytes: 5, modifiedAt: expect.any(String) },
      ],
    })
    expect(await ask(url, `/jobs/${id}/files/~/t`)).toMatchObject({ status: 200, text: 'tilde' })
    expect(await ask(url, `/jobs/${id}/files/empty`)).toMatchObject({ status: 200, text: '' })
    for (const path of ['etc/passwd', 'passwd', 'loop', 'pipe', 'x'.repeat(300), '%2fetc%2fpasswd']) {
      const answer = await ask(url, `/jobs/${id}/files/${path}`)
      expect(answer).toMatchObject({ status: 404, json: { code: 'TETHER_JOB_NOT_FOUND' } })
    }
  })

  test('is listed and refused by itself, where its size or its time is one that no number or date holds', async () => {
    const huge = taskOf('huge', async (ctx) => {
      const folder = await ctx.workspace()
      await ctx.exec(['truncate', '-s', '9223372036854775807', `${folder}/big`])
      await ctx.exec(['touch', '-d', '@99999999999999', `${folder}/late`])
    })
    // A file system that takes both.
    const dataDir = mkdtempSync('/dev/shm/tether-')
    onTestFinished(() => rmSync(dataDir, { recursive: true, force: true }))
    const { url } = await openWorld({ tasks: [huge], dataDir })
    const { id } = await startJob(url, { task: 'huge' })
    await untilEnded(url, id)
    const { json } = await ask(url, `/jobs/${id}/files`)
    expect(Object(json).files).toHaveLength(2)
    expect((await ask(url, `/jobs/${id}/files/big`)).status).toBe(404)
    expect((await ask(url, `/jobs/${id}/files/late`)).status).toBe(200)
  })

  test('is not what its workspace leads to, where that was replaced by a link', async () => {
    const outside = mkdtempSync(join(tmpdir(), 'tether-outside-'))
    onTestFinished(() => rmSync(outside, { recursive: true, force: true }))
    writeFileSync(join(outside, 'secret'), 'not of the job')
    const codes: string[] = []
    const note = (error: unknown) => codes.push(Object(error).code)
    const replaces = taskOf('replaces', async (ctx) => {
      const folder = await ctx.workspace()
      rmSync(folder, { recursive: true })
      symlinkSync(outside, folder)
      await ctx.workspace().catch(note)
      await ctx.artifact('secret').catch(note)
    })
    const { url } = await openWorld({ tasks: [replaces] })
    const { id } = await startJob(url, { task: 'replaces' })
    await untilEnded(url, id)
    expect(codes).toEqual(['TETHER_INVALID_WORKSPACE', 'TETHER_INVALID_ARTIFACT'])
    expect((await ask(url, `/jobs/${id}/files`)).json).toEqual({ files: [] })
    expect((await ask(url, `/jobs/${id}/files/secret`)).status).toBe(404)
  })
})

describe('the rest', () => {
  test('lists the tasks with what they take', async () => {
    const { url } = await openWorld()
    const { json } = await ask(url, '/tasks')
    expect(json).toMatchObject({
      tasks: [
        { name: 'ticks', input: { type: 'object', required: ['count', 'intervalMs'] } },
        { name: 'command' },
        { name: 'agent', input: { type: 'object', required: ['prompt'] } },
      ],
    })
  })

  test('says whether it lives and is ready', async () => {
    const { url } = await openWorld()
    expect(await ask(url, '/health/live')).toMatchObject({
      status: 200,
      json: {
        live: true,
        checks: [
          { name: 'process', ok: true },
          { name: 'event_loop', ok: true },
        ],
      },
    })
    expect(await ask(url, '/health/ready')).toMatchObject({
      status: 200,
      json: {
        ready: true,
        draining: false,
        stuck: [],
        containment: { level: 'group' },
        checks: ['store', 'disk', 'event_loop', 'containment', 'stuck', 'draining'].map((name) => ({ name, ok: true })),
      },
    })
  })

  test('describes itself in OpenAPI 3.1 and as a page, with every route', async () => {
    const { url } = await openWorld()
    const { json } = await ask(url, '/openapi.json')
    const paths = Object.entries(json['paths'] ?? {}).flatMap(([path, item]) =>
      Object.keys(Object(item)).map((method) => `${method.toUpperCase()} ${path}`),
    )
    expect(json['openapi']).toBe('3.1.0')
    expect(paths.toSorted()).toEqual([
      'DELETE /jobs/{id}',
      'GET /health/live',
      'GET /health/ready',
      'GET /jobs',
      'GET /jobs/events',
      'GET /jobs/{id}',
      'GET /jobs/{id}/events',
      'GET /jobs/{id}/files',
      'GET /jobs/{id}/files/{*}',
      'GET /jobs/{id}/requests',
      'GET /metrics',
      'GET /tasks',
      'PATCH /jobs/{id}',
      'POST /execute',
      'POST /execute/stream',
      'POST /groups/{id}/cancel',
      'POST /groups/{id}/stop',
      'POST /jobs',
      'POST /jobs/{id}/cancel',
      'POST /jobs/{id}/lease',
      'POST /jobs/{id}/stop',
    ])
    const docs = await ask(url, '/docs')
    expect(docs.headers.get('content-type')).toBe('text/html; charset=utf-8')
    expect(docs.text).toContain('openapi.json')
    expect(docs.text).not.toMatch(/https?:|<script>/)
  })

  test.each([
    ['GET', '/nothing'],
    ['PUT', '/jobs'],
    ['GET', '/execute/stream'],
    ['HEAD', '/jobs'],
    ['POST', '/'],
  ])('%s %s is TETHER_ROUTE_NOT_FOUND', async (method, path) => {
    const { url } = await openWorld()
    const answer = await ask(url, path, { method })
    expect(answer.status).toBe(404)
    if (method !== 'HEAD') expect(answer.json).toMatchObject({ code: 'TETHER_ROUTE_NOT_FOUND', error: 'Not Found' })
  })

  test('a malformed escape in the path is 400', async () => {
    const { url } = await openWorld()
    expect((await ask(url, '/jobs/%zz')).json).toMatchObject({ statusCode: 400, code: 'TETHER_INVALID_REQUEST' })
  })
})
