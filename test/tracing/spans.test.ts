import { SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { describe, expect, onTestFinished, test } from 'vitest'
import { ended, openAgents, startAgent } from '../agent/agentWorld.ts'
import { calls, says } from '../agent/FakeModelServer.ts'
import { openIsolated } from '../isolation/world.ts'
import { RawClient } from '../server/RawClient.ts'
import { ask, jobOf } from '../server/requests.ts'
import { eventually, Gate, openWorld, taskOf, temporaryFolder } from '../world.ts'
import { allSpans, broken, newCaller, pathOf, recordSpans, spanNamed, spansOf } from './recordSpans.ts'

recordSpans()

const TICKS = { task: 'ticks', input: { count: 2, intervalMs: 0 } }
const LONG = { task: 'ticks', input: { count: 100_000, intervalMs: 20 } }

async function untilStatus(url: string, id: string, status: string): Promise<void> {
  await eventually(`${id} is ${status}`, async () => (await jobOf(url, id)).status === status)
}

describe('a job', () => {
  test('belongs below the request that started it, which belongs below its caller', async () => {
    const { url } = await openWorld()
    const caller = newCaller()
    const { json } = await ask(url, '/jobs', { body: TICKS, headers: caller.headers })
    const job = await spanNamed(caller.traceId, 'job ticks')
    expect(pathOf(job)).toEqual(['job ticks', 'POST /jobs', caller.spanId])
    expect(job.status.code).toBe(SpanStatusCode.OK)
    expect(job.attributes).toMatchObject({
      'tether.job.id': json['id'],
      'tether.task': 'ticks',
      'tether.attempt': 1,
      'tether.outcome': 'succeeded',
    })
    const request = await spanNamed(caller.traceId, 'POST /jobs')
    expect(request.kind).toBe(SpanKind.SERVER)
    expect(request.attributes).toMatchObject({ 'http.route': '/jobs', 'http.response.status_code': 202 })
  })

  test('without a caller that traces begins a trace of its own', async () => {
    const { url } = await openWorld({ tasks: [taskOf('alone', async () => 1)] })
    await ask(url, '/execute', { body: { task: 'alone' } })
    const job = await eventually('it was traced', () => allSpans().find(({ name }) => name === 'job alone'))
    await spanNamed(job.spanContext().traceId, 'POST /execute')
    expect(pathOf(job)).toEqual(['job alone', 'POST /execute'])
  })

  test('shows the cancel as an event, with its cause and phase, and is no error', async () => {
    const { url } = await openWorld()
    const caller = newCaller()
    const body = { ...LONG, jobId: 'job-cancelled' }
    await ask(url, '/jobs', { body, headers: caller.headers })
    await untilStatus(url, 'job-cancelled', 'running')
    await ask(url, '/jobs/job-cancelled/cancel?wait=10', { body: { reason: 'a secret reason' } })
    const job = await spanNamed(caller.traceId, 'job ticks')
    expect(job.status.code).toBe(SpanStatusCode.UNSET)
    expect(job.attributes).toMatchObject({ 'tether.outcome': 'cancelled', 'tether.receipt.confirmed': true })
    const cancel = job.events.find(({ name }) => name === 'cancel')
    expect(cancel?.attributes).toEqual({
      'tether.cause': 'cancel_requested',
      'tether.phase': 'running',
      'tether.by': '127.0.0.1',
    })
    expect(
      JSON.stringify(spansOf(caller.traceId).map(({ attributes, events }) => ({ attributes, events }))),
    ).not.toContain('secret')
  })

  test('whose client leaves ends with that cause, and so does the request', async () => {
    const { url } = await openWorld()
    const caller = newCaller()
    const client = await RawClient.connect(url)
    client.request({ method: 'POST', path: '/execute/stream', body: LONG, headers: caller.headers })
    await client.until('tick 2')
    client.socket.destroy()
    const job = await spanNamed(caller.traceId, 'job ticks')
    expect(job.events.find(({ name }) => name === 'cancel')?.attributes).toMatchObject({
      'tether.cause': 'client_disconnected',
    })
    const request = await spanNamed(caller.traceId, 'POST /execute/stream')
    expect(request.events.map(({ name }) => name)).toEqual(['client_disconnected'])
    expect(request.attributes['tether.job.id']).toBe(job.attributes['tether.job.id'])
  })

  test('that is stopped, then cancelled, shows both', async () => {
    const gate = new Gate()
    const { url } = await openWorld({ tasks: [taskOf('busy', (ctx) => ctx.shield(() => gate.opened))] })
    const caller = newCaller()
    await ask(url, '/jobs', { body: { task: 'busy', jobId: 'job-of-both' }, headers: caller.headers })
    await untilStatus(url, 'job-of-both', 'running')
    await ask(url, '/jobs/job-of-both/stop', { body: {} })
    await ask(url, '/jobs/job-of-both/cancel', { body: {} })
    gate.open()
    const job = await spanNamed(caller.traceId, 'job busy')
    expect(job.events.map(({ name }) => name)).toEqual(['started', 'stop', 'cancel'])
  })

  test('that waits is one span from its start, also where it never runs', async () => {
    const gate = new Gate()
    const { url } = await openWorld({
      tasks: [taskOf('first', () => gate.opened)],
      settings: { CONCURRENCY: '1' },
    })
    await ask(url, '/jobs', { body: { task: 'first', jobId: 'job-in-front' } })
    await untilStatus(url, 'job-in-front', 'running')
    const caller = newCaller()
    await ask(url, '/jobs', { body: { ...TICKS, jobId: 'job-behind' }, headers: caller.headers })
    await ask(url, '/jobs/job-behind/cancel?wait=10', { body: {} })
    const job = await spanNamed(caller.traceId, 'job ticks')
    expect(pathOf(job)).toEqual(['job ticks', 'POST /jobs', caller.spanId])
    expect(job.events.map(({ name, attributes }) => [name, attributes?.['tether.phase']])).toEqual([
      ['cancel', 'queued'],
    ])
    gate.open()
  })

  test.each([
    ['fails', 'failed', 'TETHER_TASK_FAILED'],
    ['sleeps', 'timed_out', undefined],
    ['deaf', 'abandoned', undefined],
  ])('that %s is an error', async (task, outcome, type) => {
    const gate = new Gate()
    const tasks = [
      taskOf('fails', () => Promise.reject(new Error('with a secret'))),
      taskOf('sleeps', (ctx) => ctx.sleep(60_000)),
      taskOf('deaf', () => gate.opened),
    ]
    const { url } = await openWorld({ tasks })
    const caller = newCaller()
    await ask(url, '/execute', { body: { task, timeoutMs: 100, settleMs: 100 }, headers: caller.headers })
    const job = await spanNamed(caller.traceId, `job ${task}`)
    expect(job.status.code).toBe(SpanStatusCode.ERROR)
    expect(job.attributes['tether.outcome']).toBe(outcome)
    if (type !== undefined) expect(job.attributes['error.type']).toBe(type)
    expect(JSON.stringify([job.attributes, job.events, job.status])).not.toContain('secret')
    gate.open()
  })

  test('is what its own code finds in its context', async () => {
    const found: (string | undefined)[] = []
    const looks = taskOf('looks', async (ctx) => {
      found.push(trace.getActiveSpan()?.spanContext().spanId)
      await ctx.tool('inner', {}, async () => {
        found.push(trace.getActiveSpan()?.spanContext().spanId)
        return ''
      })
    })
    const { url } = await openWorld({ tasks: [looks] })
    const caller = newCaller()
    await ask(url, '/execute', { body: { task: 'looks' }, headers: caller.headers })
    const job = await spanNamed(caller.traceId, 'job looks')
    const tool = await spanNamed(caller.traceId, 'execute_tool inner')
    expect(found).toEqual([job.spanContext().spanId, tool.spanContext().spanId])
  })

  test('that is queued when the server ends belongs to its trace at the next start too', async () => {
    const dataDir = await temporaryFolder()
    const gate = new Gate()
    const tasks = [taskOf('first', () => gate.opened)]
    const before = await openWorld({ dataDir, tasks, settings: { CONCURRENCY: '1' } })
    await ask(before.url, '/jobs', { body: { task: 'first', jobId: 'job-in-front' } })
    await untilStatus(before.url, 'job-in-front', 'running')
    const caller = newCaller()
    await ask(before.url, '/jobs', { body: TICKS, headers: { ...caller.headers, baggage: 'user=somebody' } })
    gate.open()
    await before.stop()
    await openWorld({ dataDir, tasks })
    const job = await spanNamed(caller.traceId, 'job ticks')
    expect(pathOf(job)).toEqual(['job ticks', 'POST /jobs', caller.spanId])
  })
})

describe('what a job does', () => {
  test('is below it: calls of models, tools, and sub-agents below the tool that called them', async () => {
    const { model, url } = await openAgents()
    model.answers(({ prompt, answers }) =>
      prompt === 'top' && answers === 0 ? calls(['sub_agent', { prompt: 'below' }]) : says('Done.'),
    )
    const caller = newCaller()
    const { json } = await ask(url, '/execute', {
      body: { task: 'agent', input: { prompt: 'top' } },
      headers: caller.headers,
    })
    expect(json).toMatchObject({ status: 'succeeded' })
    await spanNamed(caller.traceId, 'POST /execute')
    const top = ['job agent', 'POST /execute', caller.spanId]
    const paths = spansOf(caller.traceId).map((span) => pathOf(span).join(' < '))
    const child = ['job agent', 'execute_tool sub_agent', ...top]
    expect(paths.toSorted()).toEqual(
      [
        ['chat fake', ...child],
        ['chat fake', ...top],
        ['chat fake', ...top],
        ['execute_tool sub_agent', ...top],
        ['POST /execute', caller.spanId],
        child,
        top,
      ]
        .map((path) => path.join(' < '))
        .toSorted(),
    )
    const call = await spanNamed(caller.traceId, 'chat fake')
    expect(call.kind).toBe(SpanKind.CLIENT)
    expect(call.attributes).toMatchObject({
      'gen_ai.operation.name': 'chat',
      'gen_ai.request.model': 'fake',
      'gen_ai.usage.output_tokens': expect.any(Number),
    })
    // Nothing of a conversation is in a span.
    expect(JSON.stringify(spansOf(caller.traceId).map(({ attributes }) => attributes))).not.toMatch(/top|below|Done/)
  })

  test('is told to no model server', async () => {
    const { model, url } = await openAgents()
    model.answers(() => says('Done.'))
    const caller = newCaller()
    await ask(url, '/execute', { body: { task: 'agent', input: { prompt: 'x' } }, headers: caller.headers })
    expect(model.requests).toHaveLength(1)
    for (const { headers } of model.requests) {
      expect(Object.keys(headers).filter((name) => /trace|baggage|b3/.test(name))).toEqual([])
    }
  })

  test('is no error where it was cancelled, and ends with the job', async () => {
    const { model, url } = await openAgents()
    model.answers(() => ({ parts: [{ text: 'So' }, { stall: true }] }))
    const caller = newCaller()
    const body = { task: 'agent', input: { prompt: 'x' }, jobId: 'job-cancelled' }
    await ask(url, '/jobs', { body, headers: caller.headers })
    await eventually('it is asked', () => model.requests.length === 1)
    await ask(url, '/jobs/job-cancelled/cancel?wait=10', { body: {} })
    const call = await spanNamed(caller.traceId, 'chat fake')
    expect(call.status.code).toBe(SpanStatusCode.UNSET)
    expect(call.events.map(({ name }) => name)).toContain('stopped')
    const job = await spanNamed(caller.traceId, 'job agent')
    expect(job.events.find(({ name }) => name === 'cancel')?.attributes).toMatchObject({ 'tether.phase': 'model' })
  })

  test('is an error where it failed, by a name and no message', async () => {
    const { model, url } = await openAgents()
    model.answers(() => ({ status: 400, body: '{"error":{"message":"a secret of the server"}}' }))
    const caller = newCaller()
    const failing = taskOf('tools', async (ctx) => {
      await ctx.tool('breaks', {}, () => Promise.reject(new Error('a secret of the tool'))).catch(() => undefined)
      await ctx.tool('says no', {}, async () => ({ text: 'a secret', ok: false }))
    })
    const id = await startAgent(url, { prompt: 'x' })
    await ended(url, id)
    const { url: other } = await openWorld({ tasks: [failing] })
    await ask(other, '/execute', { body: { task: 'tools' }, headers: caller.headers })
    await ask(url, '/execute', { body: { task: 'agent', input: { prompt: 'x' } }, headers: caller.headers })
    for (const name of ['chat fake', 'execute_tool breaks', 'execute_tool says no']) {
      const { status, attributes, events } = await spanNamed(caller.traceId, name)
      expect(status.code, name).toBe(SpanStatusCode.ERROR)
      expect(attributes['error.type'], name).toEqual(expect.any(String))
      expect(JSON.stringify([status, attributes, events])).not.toContain('secret')
    }
  })
})

describe('what an isolated task does', () => {
  test('is below its job too, and ends with it', async () => {
    const tether = await openIsolated('group')
    const caller = newCaller()
    const body = { task: 'traced', jobId: 'job-isolated' }
    await ask(tether.url, '/jobs', { body, headers: caller.headers })
    await eventually('its second tool runs', async () => (await jobOf(tether.url, 'job-isolated')).lastSeq >= 5)
    await ask(tether.url, '/jobs/job-isolated/cancel?wait=10', { body: {} })
    const job = await spanNamed(caller.traceId, 'job traced')
    const tools = spansOf(caller.traceId).filter(({ name }) => name.startsWith('execute_tool'))
    const under = ['job traced', 'POST /jobs', caller.spanId]
    expect(tools.map((span) => pathOf(span))).toEqual([
      ['execute_tool fails', ...under],
      ['execute_tool hangs', ...under],
    ])
    expect(tools.map(({ status }) => status.code)).toEqual([SpanStatusCode.ERROR, SpanStatusCode.UNSET])
    expect(tools[1]?.events.map(({ name }) => name)).toEqual(['stopped'])
    expect(job.attributes['tether.outcome']).toBe('cancelled')
  })

  test('starts child jobs that are below it', async () => {
    const tether = await openIsolated('group')
    const caller = newCaller()
    const body = { task: 'parent', input: { task: 'in-process', input: null } }
    // Another job's process is started before, in whose context this one's may be heard.
    await ask(tether.url, '/execute', { body, headers: newCaller().headers })
    await ask(tether.url, '/execute', { body, headers: caller.headers })
    const child = await spanNamed(caller.traceId, 'job in-process')
    await spanNamed(caller.traceId, 'POST /execute')
    expect(pathOf(child)).toEqual(['job in-process', 'job parent', 'POST /execute', caller.spanId])
  })
})

test('a request tells of its job or group by an id, and by nothing else that came in its place', async () => {
  const { url } = await openWorld()
  const caller = newCaller()
  const secret = 'a%20secret%0A'.repeat(100)
  for (const path of ['/groups/group-of-nobody/cancel', '/jobs/job-of-nobody/cancel', `/jobs/${secret}/cancel`]) {
    await ask(url, path, { body: {}, headers: caller.headers })
  }
  const spans = await eventually('all have ended', () => {
    const ended = spansOf(caller.traceId)
    return ended.length === 3 && ended
  })
  const ids = spans.map(({ attributes }) => [attributes['tether.job.id'], attributes['tether.group']])
  expect(ids).toEqual([
    [undefined, 'group-of-nobody'],
    ['job-of-nobody', undefined],
    [undefined, undefined],
  ])
  expect(JSON.stringify(spans.map(({ attributes }) => attributes))).not.toContain('secret')
})

test('requests that only look have no span', async () => {
  const { url } = await openWorld()
  const caller = newCaller()
  for (const path of ['/jobs', '/tasks', '/health/ready', '/metrics']) await ask(url, path, { headers: caller.headers })
  for (const method of ['HEAD', 'OPTIONS']) await fetch(`${url}/jobs`, { method, headers: caller.headers })
  expect((await ask(url, '/jobs', { body: { task: 'none' }, headers: caller.headers })).status).toBe(404)
  await spanNamed(caller.traceId, 'POST /jobs')
  expect(spansOf(caller.traceId)).toHaveLength(1)
})

test.each(['onStart', 'onEnd'] as const)('an SDK that throws (%s) costs neither a request nor a job', async (part) => {
  const tools = taskOf('tools', async (ctx) => {
    await ctx.tool('inner', {}, async () => '')
  })
  const { url } = await openWorld({ tasks: [tools] })
  broken[part] = true
  onTestFinished(() => {
    broken[part] = false
  })
  const { status, json } = await ask(url, '/execute', { body: { task: 'tools' } })
  expect({ status, json }).toMatchObject({ status: 200, json: { status: 'succeeded' } })
  await ask(url, '/jobs', { body: { ...LONG, jobId: 'job-untraced' } })
  const ended = await ask(url, '/jobs/job-untraced/cancel?wait=10', { body: {} })
  expect(ended.json).toMatchObject({ status: 'cancelled' })
})
