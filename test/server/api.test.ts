import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Validator } from '@seriousme/openapi-schema-validator'
import { type ValidateFunction } from 'ajv'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { Type } from 'typebox'
import { beforeAll, describe, expect, expectTypeOf, test } from 'vitest'
import { defineTask, type TaskDefinition } from '../../src/execution/task.ts'
import type { Cancellation } from '../../src/job/cancellation.ts'
import type { JobEvent } from '../../src/job/event.ts'
import type { Receipt } from '../../src/job/receipt.ts'
import type { JobView } from '../../src/job/view.ts'
import { JobEventSchema } from '../../src/server/schemas/events.ts'
import type {
  Cancellation as CancellationSchema,
  JobSchema,
  Receipt as ReceiptSchema,
} from '../../src/server/schemas/job.ts'
import { addTether, hostApp, listening } from '../plugin/hostApp.ts'
import { eventually, openWorld, parseFrames, taskOf } from '../world.ts'
import { ask, jobOf, startJob } from './requests.ts'

type Members = Readonly<Record<string, unknown>>

interface Operation {
  readonly method: string
  readonly path: string
  readonly operationId: string
  readonly parameters?: readonly { readonly in: string; readonly name: string }[]
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly examples?: Members }>> }
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, Members>> }>>
}

const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))
const leaves = taskOf('leaves', async (ctx) => writeFile(join(await ctx.workspace(), 'left.txt'), 'it'))

async function documentOf(url: string): Promise<Members> {
  return (await ask(url, '/openapi.json')).json
}

function operationsOf(document: Members): readonly Operation[] {
  return Object.entries(Object(document['paths'])).flatMap(([path, item]) =>
    Object.entries(Object(item)).map(([method, operation]): Operation => ({ ...Object(operation), path, method })),
  )
}

/** Objects may have what their schema names and nothing more: what a client is told is all that there is. */
function closed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(closed)
  if (typeof value !== 'object' || value === null) return value
  const copy: Record<string, unknown> = Object.fromEntries(
    Object.entries(value).map(([name, member]) => [name, closed(member)]),
  )
  if (copy['type'] === 'object' && 'properties' in copy && !('additionalProperties' in copy)) {
    copy['additionalProperties'] = false
  }
  return copy
}

/** Checks by what the served document says, at a place in it. */
function checkerOf(document: Members): (place: readonly string[]) => ValidateFunction {
  const ajv = new Ajv2020({ strict: false, allErrors: true })
  ajv.addFormat('date-time', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
  ajv.addSchema({ ...Object(closed(document)), $id: 'api' })
  return (place) => {
    const pointer = place.map((name) => encodeURIComponent(name.replaceAll('~', '~0').replaceAll('/', '~1'))).join('/')
    return ajv.compile({ $ref: `api#/${pointer}` })
  }
}

function assertValid(check: ValidateFunction, value: unknown, what: string): void {
  const isValid = check(value)
  expect(isValid ? [] : check.errors, `${what}: ${JSON.stringify(value).slice(0, 2000)}`).toEqual([])
}

describe('the description of the API', () => {
  test('is valid OpenAPI 3.1, at the root and below a prefix', async () => {
    const { url } = await openWorld()
    const app = hostApp()
    await addTether(app, { prefix: '/deep/down' })
    for (const server of [url, `${await listening(app)}/deep/down`]) {
      const document = await documentOf(server)
      const validator = new Validator()
      expect(await validator.validate(structuredClone(document))).toEqual({ valid: true })
      expect(validator.version).toBe('3.1')
      const broken = { ...document, paths: { '/jobs': { get: { responses: { 200: {} } } } } }
      expect(await new Validator().validate(broken)).toMatchObject({ valid: false })
      const ids = operationsOf(document).map(({ operationId }) => operationId)
      expect(new Set(ids).size).toBe(ids.length)
      expect(ids).toContain('postJobsIdCancel')
      const headers = operationsOf(document).flatMap(({ operationId, parameters = [] }) =>
        parameters.filter((one) => one.in === 'header').map(({ name }) => `${operationId} ${name}`),
      )
      expect(new Set(headers)).toEqual(
        new Set([
          'postExecuteStream idempotency-key',
          'postExecuteStream last-event-id',
          'postExecute idempotency-key',
          'postJobs idempotency-key',
          'getJobsIdEvents last-event-id',
        ]),
      )
      // Every reference leads somewhere.
      const schemas = Object.keys(Object(Object(document['components']).schemas))
      for (const [, name] of JSON.stringify(document).matchAll(/"#\/components\/schemas\/([^"]+)"/g)) {
        expect(schemas).toContain(name)
      }
    }
  })

  test('shows a stream as it would come', async () => {
    const { url } = await openWorld()
    const document = await documentOf(url)
    const check = checkerOf(document)(['components', 'schemas', 'JobEvent'])
    const examples = operationsOf(document).flatMap(({ responses }) => {
      const stream = responses['200']?.content?.['text/event-stream']
      return stream === undefined ? [] : [stream['example']]
    })
    expect(examples).toHaveLength(3)
    const frames: readonly unknown[] = examples.flat()
    const events = frames.flatMap((frame): JobEvent[] =>
      'data' in Object(frame) ? [JSON.parse(Object(frame).data)] : [],
    )
    expect(events.map(({ type }) => type)).toContain('job.succeeded')
    for (const event of events) assertValid(check, event, event.type)
  })

  test('has the types of the code', () => {
    expectTypeOf<JobEvent>().toExtend<Type.Static<typeof JobEventSchema>>()
    expectTypeOf<Type.Static<typeof JobEventSchema>>().toExtend<JobEvent>()
    expectTypeOf<JobView>().toExtend<Type.Static<typeof JobSchema>>()
    expectTypeOf<Type.Static<typeof JobSchema>>().toExtend<JobView>()
    expectTypeOf<Receipt>().toExtend<Type.Static<typeof ReceiptSchema>>()
    expectTypeOf<Type.Static<typeof ReceiptSchema>>().toExtend<Receipt>()
    expectTypeOf<Cancellation>().toExtend<Type.Static<typeof CancellationSchema>>()
    expectTypeOf<Type.Static<typeof CancellationSchema>>().toExtend<Cancellation>()
  })
})

describe('every operation', () => {
  test('answers as it is described, the examples of the document first', async () => {
    const { url } = await openWorld({ tasks: [waits, leaves] })
    const document = await documentOf(url)
    const checkerAt = checkerOf(document)
    let held = ''
    let holder = ''
    /** A new job for those that end one, so that each finds one to end. */
    const running = async (): Promise<string> => (await startJob(url, { task: 'waits' })).id
    const finished = async (): Promise<string> => {
      const answer = await ask(url, '/execute', { body: { task: 'leaves' } })
      return String(answer.json['id'])
    }
    const stream = new AbortController()
    const head = await fetch(`${url}/execute/stream`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ task: 'waits', leaseMs: 60_000 }),
      signal: stream.signal,
    })
    held = head.headers.get('x-tether-job-id') ?? ''
    holder = head.headers.get('x-tether-holder') ?? ''

    /** What an operation is asked that has no example, and which job it is about. */
    const bodies: Readonly<Record<string, () => unknown>> = { postJobsIdLease: () => ({ holder }) }
    const jobFor = async ({ operationId, method }: Operation): Promise<string> => {
      if (operationId === 'postJobsIdLease') return held
      return method === 'get' || method === 'delete' ? finished() : running()
    }

    const asked: string[] = []
    for (const operation of operationsOf(document)) {
      const { method, path, operationId, requestBody, responses } = operation
      const examples = Object.values(requestBody?.content['application/json']?.examples ?? {}).map(
        (example): unknown => Object(example).value,
      )
      const own = bodies[operationId]
      const requests = own === undefined ? examples : [own()]
      expect(requestBody === undefined || requests.length > 0, `${operationId} has an example`).toBe(true)
      for (const body of requestBody === undefined ? [undefined] : requests) {
        const target = path
          .replace('{id}', path.startsWith('/groups') ? 'group-of-examples' : await jobFor(operation))
          .replace(/\{\*\}|\*/, 'nothing.txt')
        const answer = await askOnce(url + target, method, body, path === '/jobs/events' ? running : undefined)
        asked.push(operationId)
        const described = responses[answer.status] ?? (answer.status >= 400 ? responses['default'] : undefined)
        expect(described, `${operationId} answered ${answer.status}: ${answer.text}`).toBeDefined()
        const isRefusal = answer.status >= 400
        // What is not there is refused, and nothing else is: examples work.
        expect(isRefusal, `${operationId} answered ${answer.text}`).toBe(
          path.startsWith('/groups') ? !answer.text.includes('remembered') : path.includes('*'),
        )
        const place = [
          'paths',
          path,
          method,
          'responses',
          answer.status in responses ? String(answer.status) : 'default',
        ]
        const mediaType = answer.mediaType.split(';')[0] ?? ''
        if (answer.text === '') continue
        expect(Object.keys(described?.content ?? {}), operationId).toContain(mediaType)
        const check = checkerAt([...place, 'content', mediaType, 'schema'])
        const values: readonly unknown[] =
          mediaType === 'text/event-stream'
            ? parseFrames(answer.text)
            : [mediaType === 'text/plain' ? answer.text : JSON.parse(answer.text)]
        expect(values.length).toBeGreaterThan(0)
        for (const value of values) assertValid(check, value, operationId)
      }
    }
    stream.abort()
    expect(asked.length).toBeGreaterThan(20)
  }, 60_000)
})

describe('every refusal', () => {
  /** What is wrong with a request, whatever it is for. */
  const wrongs: Readonly<
    Record<string, { readonly headers?: Readonly<Record<string, string>>; readonly id?: string }>
  > = {
    TETHER_UNAUTHORIZED: { headers: { authorization: 'nobody' } },
    TETHER_FORBIDDEN: { headers: { authorization: 'guest' } },
    TETHER_ORIGIN_REFUSED: { headers: { origin: 'http://evil.example' } },
    TETHER_HOST_REFUSED: { headers: { host: 'evil.example' } },
    TETHER_RATE_LIMITED: { headers: { authorization: 'busy' } },
    TETHER_INVALID_JOB_ID: { id: 'x' },
    TETHER_JOB_NOT_FOUND: { id: 'job-nowhere' },
  }

  test('is as it is described, of every operation', async () => {
    const app = hostApp()
    await addTether(app, {
      prefix: '/tether',
      settings: { RATE_LIMIT_PER_MINUTE: '200' },
      authenticate: ({ headers: { authorization: subject = 'admin' } }) =>
        subject === 'nobody' ? undefined : { tenant: 'ours', subject, scopes: subject === 'guest' ? [] : ['admin'] },
    })
    const url = `${await listening(app)}/tether`
    const document = await documentOf(url)
    const checkerAt = checkerOf(document)
    const busy = { headers: { authorization: 'busy' } }
    await Promise.all(Array.from({ length: 200 }, () => ask(url, '/tasks', busy)))
    const seen = new Set<string>()
    for (const { path, method, operationId, requestBody, responses } of operationsOf(document)) {
      const [example] = Object.values(requestBody?.content['application/json']?.examples ?? {})
      for (const { headers = {}, id = 'job-12345' } of Object.values(wrongs)) {
        // Nothing is wrong with these.
        if (Object.keys(headers).length === 0 && !path.includes('{id}')) continue
        // No client of ours sends another Host than that of its connection.
        const answer = await app.inject({
          method: method.toUpperCase() as 'GET',
          url: `/tether${path.replace('{id}', id)}`,
          headers: { host: 'localhost', ...headers },
          ...(requestBody === undefined ? {} : { payload: Object(example).value ?? { holder: 'x' } }),
        })
        const { statusCode } = answer
        if (statusCode < 400) continue
        // Health refuses nothing but another origin, and leaves that to the description of any refusal.
        const described = path.startsWith('/health/') ? 'default' : String(statusCode)
        expect(Object.keys(responses), `${operationId} ${answer.body}`).toContain(described)
        const check = checkerAt([
          'paths',
          path,
          method,
          'responses',
          described,
          'content',
          'application/json',
          'schema',
        ])
        assertValid(check, answer.json(), operationId)
        seen.add(answer.json().code)
      }
    }
    expect([...seen].sort()).toEqual(Object.keys(wrongs).sort())
  }, 60_000)
})

/** The answer, whole, or where `then` is given up to the first event after that. */
async function askOnce(
  url: string,
  method: string,
  body: unknown,
  then: (() => Promise<unknown>) | undefined,
): Promise<{ readonly status: number; readonly text: string; readonly mediaType: string }> {
  const leaving = new AbortController()
  const response = await fetch(url, {
    method: method.toUpperCase(),
    signal: leaving.signal,
    ...(body === undefined ? {} : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
  })
  const mediaType = response.headers.get('content-type') ?? ''
  if (then === undefined) return { status: response.status, text: await response.text(), mediaType }
  await then()
  let text = ''
  const decoder = new TextDecoder()
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk, { stream: true })
    if (/data: .*\n\n$/.test(text)) break
  }
  leaving.abort()
  return { status: response.status, text, mediaType }
}

describe('real events', () => {
  let seen: Set<string>
  beforeAll(() => {
    seen = new Set()
  })

  const all: TaskDefinition = defineTask({
    name: 'all',
    input: Type.Object({}, { additionalProperties: false }),
    async run(ctx) {
      await ctx.output('text')
      await ctx.data('name', { any: ['json', null] })
      await ctx.progress(1, { total: 2, message: 'half' })
      await ctx.progress(2)
      await ctx.run('ticks', { count: 1, intervalMs: 0 })
      return { done: true }
    },
  })
  const hangs = taskOf('hangs', async () => new Promise(() => undefined))

  test('are as they are described, whatever becomes of a job', async () => {
    const { url, ...tether } = await openWorld({ tasks: [all, hangs, waits], settings: { MAX_RUN_MS: '60000' } })
    const check = checkerOf(await documentOf(url))(['components', 'schemas', 'JobEvent'])
    const read = async (id: string, query = ''): Promise<void> => {
      const events = parseFrames((await ask(url, `/jobs/${id}/events${query}`)).text)
      expect(events.length).toBeGreaterThan(0)
      for (const event of events) {
        assertValid(check, event, event.type)
        seen.add(event.type)
      }
    }
    const started = async (body: Readonly<Record<string, unknown>>): Promise<string> => {
      const { id } = await startJob(url, body)
      await eventually('it runs', async () => (await jobOf(url, id)).status !== 'queued')
      return id
    }
    const end = (id: string, kind: string) => ask(url, `/jobs/${id}/${kind}`, { body: { reason: 'for the test' } })
    const waiting = { task: 'waits', settleMs: 100 }

    await read(await started({ task: 'all', input: {} }))
    await read(await started({ task: 'agent', input: { prompt: 'Build me something.' } }))
    await read(await started({ task: 'command', input: { command: 'echo out; echo err >&2; exit 3' } }))
    for (const kind of ['cancel', 'stop']) {
      const id = await started(waiting)
      await end(id, kind)
      await read(id)
    }
    const both = await started({ task: 'command', input: { command: "trap '' TERM; while :; do sleep 0.1; done" } })
    await end(both, 'stop')
    await end(both, 'cancel')
    await read(both)
    await read(await started({ ...waiting, timeoutMs: 50 }))
    const stuck = await started({ task: 'hangs', settleMs: 100 })
    await end(stuck, 'cancel')
    await read(stuck)
    const far = await started({ task: 'ticks', input: { count: 1, intervalMs: 0 } })
    await eventually('it has ended', async () => (await jobOf(url, far)).terminal)
    await read(far, '?after=1000')
    const last = await started({ ...waiting, onDisconnect: 'cancel' })
    const reading = read(last, '?hold=true')
    await eventually('it is held', async () => tether.jobs.standing().running > 0)
    await tether.stop()
    await reading

    // An artifact needs a file of a workspace, and a job that runs again a process that died.
    const missing = JobEventSchema.anyOf
      .map(({ properties }) => properties.type.const)
      .filter((type) => !seen.has(type))
    expect(missing).toEqual(['job.requeued', 'artifact'])
  }, 60_000)
})
