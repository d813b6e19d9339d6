import { describe, expect, test } from 'vitest'
import { JumpingClock } from '../JumpingClock.ts'
import { hasBrowser, openBrowser } from '../readers/Browser.ts'
import { openWorld, taskOf } from '../world.ts'
import { RawClient } from './RawClient.ts'
import { ask } from './requests.ts'

const TOKEN = 'a-token-of-the-test'
const BEARER = { authorization: `Bearer ${TOKEN}` }
const TICKS = { task: 'ticks', input: { count: 1, intervalMs: 0 } }
const SETTINGS = { API_TOKEN: TOKEN }
const OWN_PAGE = { 'sec-fetch-site': 'same-origin' }
const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))

/** A form that a browser sends; redirects are not followed. */
function sendForm(
  url: string,
  path: string,
  fields: Readonly<Record<string, string>>,
  headers: Readonly<Record<string, string>> = {},
): Promise<Response> {
  return fetch(url + path, { method: 'POST', body: new URLSearchParams(fields), headers, redirect: 'manual' })
}

/** The cookie, as it is sent back. */
function cookieOf(response: Response): string {
  return response.headers.get('set-cookie')?.split(';')[0] ?? ''
}

async function logIn(url: string): Promise<{ readonly cookie: string }> {
  return { cookie: cookieOf(await sendForm(url, '/login', { token: TOKEN })) }
}

describe('the login (protocol, section 6)', () => {
  test('gives a cookie for the token, which then stands for it', async () => {
    const { url } = await openWorld({ settings: SETTINGS })
    const answer = await sendForm(url, '/login', { token: TOKEN, next: '/docs?a=b' })
    expect(answer.status).toBe(303)
    expect(answer.headers.get('location')).toBe('/docs?a=b')
    const cookie = answer.headers.get('set-cookie') ?? ''
    expect(cookie).toMatch(/^tether_session=[\w-]{75}; Path=\/; HttpOnly; SameSite=Strict; Max-Age=43200$/)
    const headers = { cookie: cookieOf(answer) }
    expect((await ask(url, '/jobs', { headers })).status).toBe(200)
    expect((await ask(url, '/', { headers })).status).toBe(200)
    expect((await ask(url, '/health/ready', { headers })).json).toMatchObject({ draining: false, hasSession: true })
    expect((await ask(url, '/health/ready', { headers: BEARER })).json).not.toHaveProperty('hasSession')
    const { json } = await ask(url, '/execute', { body: TICKS, headers: { ...headers, ...OWN_PAGE } })
    expect(json).toMatchObject({ status: 'succeeded' })
  })

  test('holds nothing of the token, and is another each time', async () => {
    const { url } = await openWorld({ settings: SETTINGS })
    const [{ cookie }, other] = [await logIn(url), await logIn(url)]
    const session = Buffer.from(cookie.split('=')[1] ?? '', 'base64url')
    expect(cookie).not.toContain(TOKEN)
    expect(session.includes(TOKEN)).toBe(false)
    expect(cookie).not.toBe(other.cookie)
  })

  test.each(['', 'wrong', `${TOKEN}x`, TOKEN.slice(1), TOKEN.toUpperCase()])('refuses %j with 401', async (token) => {
    const { url } = await openWorld({ settings: SETTINGS })
    const answer = await sendForm(url, '/login', { token })
    expect(answer.status).toBe(401)
    expect(answer.headers.get('set-cookie')).toBeNull()
    expect(await answer.text()).toContain('not the API token')
  })

  test.each([
    ['//evil.example', '/'],
    ['/\\evil.example', '/'],
    ['https://evil.example/', '/'],
    ['javascript:alert(1)', '/'],
    ['/\t/evil.example', '/'],
    ['/%0d%0aset-cookie:x', '/%0d%0aset-cookie:x'],
    ['/a\r\nset-cookie: x=y', '/aset-cookie:%20x=y'],
    ['/.//evil.example', '/'],
    ['', '/'],
    ['/jobs?status=running', '/jobs?status=running'],
    ['/?a=b#/jobs/job_1', '/?a=b#/jobs/job_1'],
  ])('goes on to a path of this server alone: %j to %j', async (next, location) => {
    const { url } = await openWorld({ settings: SETTINGS })
    const answer = await sendForm(url, '/login', { token: TOKEN, next })
    expect(answer.status).toBe(303)
    expect(answer.headers.get('location')).toBe(location)
    expect(answer.headers.get('set-cookie')).toMatch(/^tether_session=/)
  })

  test('shows what it was given in its page as text alone', async () => {
    const { url } = await openWorld({ settings: SETTINGS })
    const { text, headers } = await ask(url, `/login?next=${encodeURIComponent('/"><script>alert(1)</script>')}`)
    expect(text).not.toContain('<script')
    expect(headers.get('content-security-policy')).toMatch(/^default-src 'none'; script-src 'self'; style-src 'sha256-/)
    expect(headers.get('cache-control')).toBe('no-store')
  })

  test('is limited, whatever else is not', async () => {
    const { url } = await openWorld({ settings: SETTINGS })
    const statuses = []
    for (let n = 0; n < 31; n += 1) statuses.push((await sendForm(url, '/login', { token: 'wrong' })).status)
    expect(statuses).toEqual([...Array.from({ length: 30 }, () => 401), 429])
    const refused = await sendForm(url, '/login', { token: TOKEN })
    expect(refused.status).toBe(429)
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    expect((await ask(url, '/jobs', { headers: BEARER })).status).toBe(200)
  })

  test('takes forms of some bytes, and nothing but forms', async () => {
    const { url } = await openWorld({ settings: SETTINGS })
    expect((await sendForm(url, '/login', { token: 'x'.repeat(10_000) })).status).toBe(413)
    expect((await ask(url, '/login', { body: '<a/>', headers: { 'content-type': 'text/xml' } })).status).toBe(415)
    expect((await sendForm(url, '/jobs', { task: 'ticks' }, BEARER)).status).toBe(415)
  })

  test('is not there where nobody needs it', async () => {
    const open = await openWorld()
    expect((await ask(open.url, '/login')).json).toMatchObject({ code: 'TETHER_ROUTE_NOT_FOUND' })
    const hooked = await openWorld({ settings: SETTINGS, authenticate: () => undefined })
    expect((await ask(hooked.url, '/login')).status).toBe(401)
    expect((await ask(hooked.url, '/jobs', { headers: BEARER })).status).toBe(401)
  })

  test('is where a browser that is not logged in is sent, and nobody else', async () => {
    const { url } = await openWorld({ settings: SETTINGS })
    const html = { accept: 'text/html,application/xhtml+xml' }
    const page = await fetch(`${url}/docs?a=b`, { headers: html, redirect: 'manual' })
    expect([page.status, page.headers.get('location')]).toEqual([303, '/login?next=%2Fdocs%3Fa%3Db'])
    expect((await fetch(`${url}/jobs`, { headers: html, redirect: 'manual' })).status).toBe(401)
    expect((await fetch(`${url}/`, { redirect: 'manual' })).status).toBe(401)
  })

  test('over TLS, as a trusted proxy says, has a cookie for TLS alone', async () => {
    const { url } = await openWorld({ settings: { ...SETTINGS, TRUST_PROXY: 'on' } })
    const tls = { 'x-forwarded-proto': 'https' }
    const answer = await sendForm(url, '/login', { token: TOKEN }, tls)
    expect(answer.headers.get('set-cookie')).toMatch(/^__Host-tether_session=.*; Secure$/)
    const headers = { cookie: cookieOf(answer) }
    expect((await ask(url, '/jobs', { headers: { ...headers, ...tls } })).status).toBe(200)
    expect((await ask(url, '/jobs', { headers })).status).toBe(401)
    const untrusting = await openWorld({ settings: SETTINGS })
    expect(cookieOf(await sendForm(untrusting.url, '/login', { token: TOKEN }, tls))).toMatch(/^tether_session=/)
  })
})

describe('a session', () => {
  test('ends with its time', async () => {
    const clock = new JumpingClock()
    const { url } = await openWorld({ settings: SETTINGS, clock })
    const headers = await logIn(url)
    clock.jump(11.9 * 3_600_000)
    expect((await ask(url, '/jobs', { headers })).status).toBe(200)
    clock.jump(0.2 * 3_600_000)
    expect((await ask(url, '/jobs', { headers })).status).toBe(401)
  })

  test('ends with a logout, for whoever has the cookie, and that takes a page of ours', async () => {
    const { url } = await openWorld({ settings: SETTINGS })
    const [headers, other] = [await logIn(url), await logIn(url)]
    expect((await sendForm(url, '/logout', {}, headers)).status).toBe(403)
    expect((await ask(url, '/jobs', { headers })).status).toBe(200)
    const answer = await sendForm(url, '/logout', {}, { ...headers, ...OWN_PAGE })
    expect([answer.status, answer.headers.get('location')]).toEqual([303, '/login'])
    expect(answer.headers.get('set-cookie')).toMatch(/^tether_session=; .*Max-Age=0$/)
    expect((await ask(url, '/jobs', { headers })).status).toBe(401)
    expect((await ask(url, '/jobs', { headers: other })).status).toBe(200)
  })

  test('holds at every server with the same token, and at none with another', async () => {
    const [first, second, stranger] = [
      await openWorld({ settings: SETTINGS }),
      await openWorld({ settings: SETTINGS }),
      await openWorld({ settings: { API_TOKEN: `${TOKEN}-2` } }),
    ]
    const headers = await logIn(first.url)
    expect((await ask(second.url, '/jobs', { headers })).status).toBe(200)
    expect((await ask(stranger.url, '/jobs', { headers })).status).toBe(401)
  })

  test('that is changed in any bit, or written in another way, is none', async () => {
    const { url } = await openWorld({ settings: SETTINGS })
    const { cookie } = await logIn(url)
    const [name = '', value = ''] = cookie.split('=')
    const bytes = Buffer.from(value, 'base64url')
    const forged = Array.from({ length: bytes.length }, (_, index) => {
      const changed = Buffer.from(bytes)
      changed[index] = (changed[index] ?? 0) ^ 1
      return changed.toString('base64url')
    })
    for (const session of [...forged, `${value}A`, `${value}=`, value.slice(0, -1), '', TOKEN, '\u0000']) {
      const client = await RawClient.connect(url)
      client.request({ path: '/jobs', headers: { cookie: `${name}=${session}`, connection: 'close' } })
      await client.closed
      expect(client.received).toMatch(/^HTTP\/1\.1 40[01] /)
    }
  })

  test.each([
    ['POST', '/jobs', TICKS],
    ['POST', '/execute/stream', TICKS],
    ['PATCH', '/jobs/job-12345', { onDisconnect: 'stop' }],
    ['POST', '/jobs/job-12345/cancel', {}],
    ['POST', '/jobs/job-12345/stop', {}],
    ['POST', '/groups/group-12345/cancel', {}],
    ['POST', '/jobs/job-12345/lease', { holder: 'x' }],
    ['DELETE', '/jobs/job-12345', undefined],
  ])('changes something by %s %s only for a page of ours', async (method, path, body) => {
    const { url } = await openWorld({
      settings: { ...SETTINGS, ALLOWED_ORIGINS: 'https://app.example' },
      tasks: [waits],
    })
    const session = await logIn(url)
    await ask(url, '/jobs', { body: { task: 'waits', jobId: 'job-12345' }, headers: BEARER })
    const origin = new URL(url).origin
    const refused: Record<string, string>[] = [
      {},
      { 'sec-fetch-site': 'none' },
      { 'sec-fetch-site': 'same-site' },
      { 'sec-fetch-site': 'cross-site' },
      { origin: 'https://app.example' },
      { origin: 'null' },
      { origin: 'http://localhost:1' },
      { origin: 'http://evil.example', 'sec-fetch-site': 'same-origin' },
      { origin, 'sec-fetch-site': 'cross-site' },
    ]
    for (const headers of refused) {
      const answer = await raw(url, method, path, { ...session, ...headers }, body)
      expect([headers, answer]).toEqual([headers, 'TETHER_ORIGIN_REFUSED'])
    }
    expect((await ask(url, '/jobs', { headers: BEARER })).json['jobs']).toHaveLength(1)
    for (const headers of [{ origin }, OWN_PAGE, { origin, ...OWN_PAGE }]) {
      expect(await raw(url, method, path, { ...session, ...headers }, body)).not.toBe('TETHER_ORIGIN_REFUSED')
    }
  })

  test('beside a bearer that is right is not looked at', async () => {
    const { url } = await openWorld({ settings: SETTINGS })
    const headers = { ...(await logIn(url)), ...BEARER }
    expect((await ask(url, '/execute', { body: TICKS, headers })).status).toBe(200)
  })
})

/** The code of the error that came, or the status. */
async function raw(
  url: string,
  method: string,
  path: string,
  headers: Readonly<Record<string, string>>,
  body: unknown,
): Promise<string> {
  const client = await RawClient.connect(url)
  client.request({ method, path, headers: { host: new URL(url).host, connection: 'close', ...headers }, body })
  await client.until(/\r\n\r\n/)
  if (!client.received.includes('text/event-stream')) await client.closed
  client.socket.destroy()
  return /"code":"(\w+)"/.exec(client.received)?.[1] ?? client.received.split(' ', 2)[1] ?? ''
}

test.runIf(hasBrowser)('a browser logs in, looks, cancels, and logs out', async () => {
  const { url } = await openWorld({ settings: SETTINGS, tasks: [waits] })
  const browser = await openBrowser()
  const page = await browser.newPage()
  const errors: string[] = []
  page.on('console', (message) => {
    if (message.type() === 'error') errors.push(message.text())
  })
  await page.goto(`${url}/docs`)
  expect(new URL(page.url()).pathname).toBe('/login')
  await page.getByLabel('API token').fill('wrong')
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.getByRole('alert').waitFor()
  // That the answer was 401 is the browser's own line.
  expect(errors.splice(0)).toEqual([expect.stringContaining('401')])
  await page.getByLabel('API token').fill(TOKEN)
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.waitForURL(`${url}/docs`)
  const view = await fetch(`${url}/jobs`, {
    method: 'POST',
    headers: { ...BEARER, 'content-type': 'application/json' },
    body: JSON.stringify({ task: 'waits', jobId: 'job-12345' }),
  })
  expect(view.status).toBe(202)
  const answered = await page.evaluate(async () => {
    const response = await fetch('/jobs/job-12345/cancel', { method: 'POST' })
    return [response.status, Reflect.get(Reflect.get(globalThis, 'document'), 'cookie')]
  })
  expect(answered).toEqual([202, ''])
  await page.goto(`${url}/login`)
  await page.getByRole('button', { name: 'Log out' }).click()
  await page.getByLabel('API token').waitFor()
  await page.goto(`${url}/`)
  expect(new URL(page.url()).pathname).toBe('/login')
  expect(errors).toEqual([])
})
