import { request } from 'node:http'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { SseParser } from '../../src/client/SseParser.ts'
import type { JobEvent } from '../../src/job/event.ts'
import type { Tether } from '../../src/tether.ts'
import { type CutProxy, openProxy } from '../client/CutProxy.ts'
import { eventually, openWorld, parseFrames, taskOf } from '../world.ts'
import { ask, jobOf } from './requests.ts'

/** Text in all lengths and scripts, as fast as it goes, with pauses in which a reader catches up. */
const chatters = taskOf('chatters', async (ctx, input) => {
  for (let n = 0; n < Number(input); n += 1) {
    await ctx.output(`${n} ${'ü€😀\n'.repeat(n % 40)}`, n % 3 === 0 ? 'stderr' : 'stdout')
    if (n % 4 === 0) await ctx.data('item', { n })
    if (n % 9 === 0) await ctx.sleep(1)
  }
})

/** One connection: the proxy breaks it after so many bytes of the answer, its head included. */
interface Visit {
  readonly bytes: number
  /** How the reader comes: with the start that it began with, or by attaching, as a holder or not. */
  readonly by: 'start' | 'header' | 'query'
  readonly named: boolean
}

const visits = fc.array(
  fc.record({
    bytes: fc.oneof(fc.nat({ max: 700 }), fc.nat({ max: 60_000 })),
    by: fc.constantFrom('start', 'header', 'query'),
    named: fc.boolean(),
  }) satisfies fc.Arbitrary<Visit>,
  { maxLength: 12 },
)

/** Reads what comes until the connection ends. Gives the events that came whole. */
function visit(url: string, body: object, id: string, lastSeq: number, { by, named }: Visit): Promise<JobEvent[]> {
  const isStart = by === 'start'
  const query = `?named=${named}${by === 'query' ? `&after=${lastSeq}&hold=true` : ''}`
  const headers = by === 'query' ? {} : { 'last-event-id': String(lastSeq) }
  return new Promise((resolve) => {
    const events: JobEvent[] = []
    const parser = new SseParser()
    const asked = request(
      new URL(isStart ? '/execute/stream' : `/jobs/${id}/events${query}`, url),
      {
        method: isStart ? 'POST' : 'GET',
        headers: isStart ? { ...headers, 'content-type': 'application/json' } : headers,
        agent: false,
      },
      (response) => {
        response.on('data', (chunk: Buffer) => {
          for (const { data } of parser.push(chunk)) events.push(JSON.parse(data))
        })
        response.on('error', () => undefined)
        response.on('close', () => resolve(events))
      },
    )
    asked.on('error', () => resolve(events))
    asked.end(isStart ? JSON.stringify(body) : undefined)
  })
}

let jobs = 0

/** Follows a new job through connections that break, and then one that does not. */
async function follow(tether: Tether, proxy: CutProxy, plan: readonly Visit[], waitForEnd: boolean): Promise<void> {
  jobs += 1
  const id = `job-resumed-${jobs}`
  const body = { task: 'chatters', input: 150, jobId: id, onDisconnect: 'cancel', disconnectGraceMs: 60_000 }
  await ask(tether.url, '/jobs', { body })
  if (waitForEnd) await eventually('the job has ended', async () => (await jobOf(tether.url, id)).terminal)
  const seen: JobEvent[] = []
  for (const one of plan) {
    // Who has the terminal event does not come again by its start, which would give it once more.
    if (one.by === 'start' && seen.at(-1)?.type === 'job.succeeded') break
    proxy.cuts.push(one.bytes)
    seen.push(...(await visit(proxy.url, body, id, seen.at(-1)?.seq ?? 0, one)))
  }
  const last = { bytes: 0, by: 'header', named: true } as const
  seen.push(...(await visit(proxy.url, body, id, seen.at(-1)?.seq ?? 0, last)))
  const log = parseFrames((await ask(tether.url, `/jobs/${id}/events`)).text)
  expect(log.at(-1)?.type).toBe('job.succeeded')
  expect(seen).toEqual(log)
}

describe.each(['runs', 'has ended'] as const)('a stream of a job that %s', (state) => {
  test('that is cut at any bytes, any number of times, and resumed gives the log: no gap and no repeat', async () => {
    const tether = await openWorld({ tasks: [chatters] })
    const proxy = await openProxy(tether.url)
    await fc.assert(
      fc.asyncProperty(visits, async (plan) => follow(tether, proxy, plan, state === 'has ended')),
      { numRuns: 60 },
    )
  }, 60_000)
})

test.each([
  [3, ['job.succeeded']],
  [4, ['gap', 'job.succeeded']],
  [99, ['gap', 'job.succeeded']],
] as const)(
  'a start that is sent again with the place %i, which is at the end of its job or past it, has the terminal event',
  async (place, types) => {
    const { url } = await openWorld({ tasks: [chatters] })
    const body = { task: 'chatters', input: 0, jobId: 'job-ended-before' }
    await ask(url, '/execute/stream', { body })
    const again = await ask(url, '/execute/stream', { body, headers: { 'last-event-id': String(place) } })
    expect(again.status).toBe(200)
    expect(parseFrames(again.text).map(({ type }) => type)).toEqual(types)
  },
)

test('a start that comes with a place, and begins its job, has it from the first event', async () => {
  const { url } = await openWorld({ tasks: [chatters] })
  const answer = await ask(url, '/execute/stream', {
    body: { task: 'chatters', input: 3 },
    headers: { 'last-event-id': '17' },
  })
  expect(parseFrames(answer.text)[0]).toMatchObject({ type: 'job.queued', seq: 1 })
})

test('a start with a place that is no number is refused, and begins nothing', async () => {
  const { url, jobs: manager } = await openWorld({ tasks: [chatters] })
  const answer = await ask(url, '/execute/stream', {
    body: { task: 'chatters', input: 3, jobId: 'job-12345' },
    headers: { 'last-event-id': 'x' },
  })
  expect(answer).toMatchObject({ status: 400, json: { code: 'TETHER_INVALID_CURSOR' } })
  expect(manager.activeCount).toBe(0)
  expect((await ask(url, '/jobs/job-12345')).status).toBe(404)
})
