import { expect, test } from 'vitest'
import type { Authenticate } from '../../src/server/access/Identity.ts'
import { openWorld, taskOf } from '../world.ts'
import { RawClient } from './RawClient.ts'
import { ask } from './requests.ts'

const TOKEN = 'a-token-of-the-test'
const BEARER = { authorization: `Bearer ${TOKEN}` }
const TICKS = { task: 'ticks', input: { count: 1, intervalMs: 0 } }
const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))
const byName: Authenticate = ({ headers: { authorization } }) =>
  authorization === undefined ? undefined : { tenant: 'acme', subject: authorization, scopes: ['admin'] }

/** Asks so often, and gives the statuses that came. */
async function statuses(
  url: string,
  count: number,
  path: string,
  options: Parameters<typeof ask>[2] = {},
): Promise<number[]> {
  const all = []
  for (let n = 0; n < count; n += 1) all.push((await ask(url, path, options)).status)
  return all
}

test('a client that asks more often than it may is told when to ask again, and starts nothing', async () => {
  const { url } = await openWorld({ settings: { RATE_LIMIT_PER_MINUTE: '3' } })
  expect(await statuses(url, 3, '/jobs')).toEqual([200, 200, 200])
  for (const path of ['/jobs', '/nothing', '/', '/jobs/events']) {
    const refused = await ask(url, path)
    expect(refused.json).toMatchObject({ statusCode: 429, code: 'TETHER_RATE_LIMITED', error: 'Too Many Requests' })
    const retryAfterS = Number(refused.headers.get('retry-after'))
    expect(retryAfterS).toBeGreaterThan(0)
    expect(retryAfterS).toBeLessThanOrEqual(60)
  }
  const start = await ask(url, '/execute/stream', { body: { ...TICKS, jobId: 'job-12345' } })
  expect(start.json).toMatchObject({ code: 'TETHER_RATE_LIMITED' })
  expect((await ask(url, '/jobs/job-12345/cancel', { body: {} })).json).toMatchObject({ code: 'TETHER_JOB_NOT_FOUND' })
})

test('what ends work, or keeps it from being ended, is never limited, and neither is health', async () => {
  const { url } = await openWorld({ settings: { RATE_LIMIT_PER_MINUTE: '2' }, tasks: [waits] })
  await ask(url, '/jobs', { body: { task: 'waits', jobId: 'job-12345', group: 'group-12345' } })
  expect(await statuses(url, 2, '/jobs')).toEqual([200, 429])
  expect(await statuses(url, 5, '/health/live')).toEqual([200, 200, 200, 200, 200])
  expect(await statuses(url, 5, '/health/ready')).toEqual([200, 200, 200, 200, 200])
  expect(await statuses(url, 5, '/jobs/job-12345/lease', { body: { holder: 'x' } })).toEqual([400, 400, 400, 400, 400])
  for (const path of ['/groups/group-12345/stop', '/jobs/job-12345/stop', '/groups/group-12345/cancel']) {
    expect(await statuses(url, 5, path, { body: {} })).not.toContain(429)
  }
  expect(await statuses(url, 5, '/jobs/job-12345/cancel', { body: {} })).not.toContain(429)
})

test('subjects are counted each by itself', async () => {
  const { url } = await openWorld({ settings: { RATE_LIMIT_PER_MINUTE: '2' }, authenticate: byName })
  expect(await statuses(url, 3, '/jobs', { headers: { authorization: 'ann' } })).toEqual([200, 200, 429])
  expect(await statuses(url, 3, '/jobs', { headers: { authorization: 'bob' } })).toEqual([200, 200, 429])
})

test('guesses of the token are counted wherever they are tried, and not against who knows it', async () => {
  const { url } = await openWorld({ settings: { RATE_LIMIT_PER_MINUTE: '3', API_TOKEN: TOKEN } })
  const guess = { body: {}, headers: { authorization: 'Bearer wrong' } }
  expect(await statuses(url, 4, '/jobs/job-12345/cancel', guess)).toEqual([401, 401, 401, 429])
  expect(await statuses(url, 1, '/jobs')).toEqual([429])
  expect(await statuses(url, 4, '/jobs', { headers: BEARER })).toEqual([200, 200, 200, 429])
  expect(await statuses(url, 1, '/jobs/job-12345/cancel', { body: {}, headers: BEARER })).toEqual([404])
  expect(await statuses(url, 1, '/health/live')).toEqual([200])
})

test('a page of an allowed origin may read that it was refused', async () => {
  const settings = { RATE_LIMIT_PER_MINUTE: '1', ALLOWED_ORIGINS: 'https://app.example' }
  const { url } = await openWorld({ settings })
  await ask(url, '/jobs')
  const client = await RawClient.connect(url)
  client.request({ path: '/jobs', headers: { origin: 'https://app.example', connection: 'close' } })
  await client.closed
  expect(client.received).toMatch(/^HTTP\/1\.1 429 /)
  expect(client.received).toContain('access-control-allow-origin: https://app.example')
  expect(client.received).toMatch(/access-control-expose-headers: .*Retry-After/)
})

test('on loopback nobody is limited where nothing is set', async () => {
  const { url } = await openWorld()
  const answers = await Promise.all(Array.from({ length: 300 }, () => ask(url, '/jobs')))
  expect(answers.every(({ status }) => status === 200)).toBe(true)
})
