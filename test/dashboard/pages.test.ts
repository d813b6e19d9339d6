import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { createServer, request as send } from 'node:http'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { fastify } from 'fastify'
import type { Page } from 'playwright-core'
import { describe, expect, onTestFinished, test } from 'vitest'
import { BuiltPages } from '../../src/server/Pages.ts'
import { addDashboardRoutes } from '../../src/server/routes/dashboard.ts'
import { hasBrowser } from '../readers/Browser.ts'
import { ask } from '../server/requests.ts'
import { openWorld, temporaryFolder } from '../world.ts'
import { field, idOf, jobAt, Visitor } from './world.ts'

const TOKEN = 'a-token-that-is-long-enough'

describe('the files of the dashboard', () => {
  async function serve(folder: string, prefix = ''): Promise<string> {
    const app = fastify()
    onTestFinished(() => app.close())
    await app.register(async (scope) => addDashboardRoutes(scope, new BuiltPages(folder)), { prefix })
    return app.listen({ port: 0, host: '127.0.0.1' })
  }

  async function build(folder: string): Promise<void> {
    await mkdir(join(folder, 'assets'))
    await writeFile(join(folder, 'index.html'), '<!doctype html>the page')
    await writeFile(join(folder, 'icon.svg'), '<svg/>')
    await writeFile(join(folder, 'assets', 'index-abc.js'), 'the program')
    await writeFile(join(folder, 'assets', 'index-abc.css'), 'the style')
  }

  test('say what to run where there is no build, and are there once it was made', async () => {
    const folder = await temporaryFolder()
    const url = await serve(folder)
    const without = await ask(url, '/')
    expect(without.status).toBe(503)
    expect(without.text).toContain('scripts/dashboard')
    expect(without.headers.get('cache-control')).toBe('no-store')
    expect((await ask(url, '/icon.svg')).status).toBe(404)
    expect((await ask(url, '/assets/index-abc.js')).status).toBe(404)
    await build(folder)
    expect(await ask(url, '/')).toMatchObject({ status: 200, text: '<!doctype html>the page' })
  })

  test('are kept for ever where their name has a hash, and else asked for each time', async () => {
    const folder = await temporaryFolder()
    await build(folder)
    const url = await serve(folder)
    for (const [path, type, cached] of [
      ['/', 'text/html; charset=utf-8', 'no-cache'],
      ['/icon.svg', 'image/svg+xml; charset=utf-8', 'no-cache'],
      ['/assets/index-abc.js', 'text/javascript; charset=utf-8', 'public, max-age=31536000, immutable'],
      ['/assets/index-abc.css', 'text/css; charset=utf-8', 'public, max-age=31536000, immutable'],
    ] as const) {
      const { headers } = await ask(url, path)
      expect([path, headers.get('content-type'), headers.get('cache-control')]).toEqual([path, type, cached])
    }
  })

  test('are below a prefix too, whose own address leads to the one with a slash, so that relative links fit', async () => {
    const folder = await temporaryFolder()
    await build(folder)
    const url = await serve(folder, '/below')
    const answer = await fetch(`${url}/below?a=b`, { redirect: 'manual' })
    expect([answer.status, answer.headers.get('location')]).toEqual([302, '/below/?a=b'])
    expect(await ask(url, '/below/')).toMatchObject({ status: 200, text: '<!doctype html>the page' })
    expect((await ask(url, '/below/assets/index-abc.js')).status).toBe(200)
  })

  test.each([
    ['gzip', 'gzip'],
    ['br, gzip;q=0.8', 'gzip'],
    ['br', null],
    ['gzip;q=0', null],
    ['identity', null],
  ])('are compressed as it is asked for: %s', async (accepted, encoding) => {
    const folder = await temporaryFolder()
    await build(folder)
    const answer = await ask(await serve(folder), '/', { headers: { 'accept-encoding': accepted } })
    expect(answer.headers.get('content-encoding')).toBe(encoding)
    expect(answer.text).toBe('<!doctype html>the page')
  })

  test.each(['/assets/../index.html', '/assets/..%2findex.html', '/assets/', '/assets/x.js', '/assets/__proto__'])(
    'are no way to others: %s',
    async (path) => {
      const folder = await temporaryFolder()
      await build(folder)
      const { status, text } = await ask(await serve(folder), path)
      expect([404, text]).toEqual([status, expect.not.stringContaining('the page')])
    },
  )
})

describe.skipIf(!hasBrowser)('a server that asks for a token', () => {
  const settings = { API_TOKEN: TOKEN }
  const allowed = /status of 40[14]/

  /** A page that was loaded with the token, and has it no more, as when a session is over. */
  async function openAndForget(url: string, login: Parameters<Page['route']>[1]): Promise<Page> {
    const page = await (await Visitor.come()).open('about:blank?', { at: '', allowed })
    await page.route('**/login**', login)
    await page.setExtraHTTPHeaders({ authorization: `Bearer ${TOKEN}` })
    await page.goto(`${url}/#/start?task=ticks`)
    await page.locator('#field-count').waitFor()
    await page.setExtraHTTPHeaders({})
    return page
  }

  test('sends whoever has none any more to log in, and says where to come back to', async () => {
    const { url } = await openWorld({ settings })
    const page = await openAndForget(url, (route) =>
      route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>Log in</title>' }),
    )
    await page.goto(`${url}/#/jobs/job_12345678`)
    await page.waitForURL('**/login?next=*')
    expect(new URL(page.url()).searchParams.get('next')).toBe('/#/jobs/job_12345678')
  })

  test('and where there is no page to log in, says so', async () => {
    const { url } = await openWorld({ settings })
    const page = await openAndForget(url, (route) => route.fulfill({ status: 404, body: '{}' }))
    await page.goto(`${url}/#/jobs/job_12345678`)
    await page.getByRole('heading', { name: 'This server asks for a token' }).waitFor()
    const link = page.getByRole('link', { name: '/login' })
    expect(await link.getAttribute('href')).toBe('login?next=%2F%23%2Fjobs%2Fjob_12345678')
  })

  test('shows all to whoever has it', async () => {
    const { url } = await openWorld({ settings })
    const page = await (await Visitor.come()).open('about:blank?', { at: '' })
    await page.setExtraHTTPHeaders({ authorization: `Bearer ${TOKEN}` })
    const started = await fetch(`${url}/jobs`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${TOKEN}` },
      body: JSON.stringify({ task: 'ticks', input: { count: 1, intervalMs: 0 } }),
    })
    const { id } = Object(await started.json())
    await page.goto(`${url}/#${jobAt(String(id))}`)
    await page.getByText('tick 1').waitFor()
  })
})

/** A server below a path, as behind a proxy that takes the path off. */
async function putBelow(path: string, target: string): Promise<string> {
  const proxy = createServer((request, response) => {
    const { method = 'GET', headers, url = '' } = request
    if (!url.startsWith(`${path}/`)) {
      response.writeHead(404).end()
      return
    }
    const onward = send(new URL(target + url.slice(path.length)), { method, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      pipeline(answer, response).catch(() => response.destroy())
    })
    response.on('close', () => onward.destroy())
    pipeline(request, onward).catch(() => response.destroy())
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  onTestFinished(() => {
    proxy.closeAllConnections()
    proxy.close()
  })
  const address = proxy.address()
  return `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}${path}`
}

test.skipIf(!hasBrowser)('all of it works below a path too', async () => {
  const { url } = await openWorld()
  const below = await putBelow('/below', url)
  const page = await (await Visitor.come()).open(below, { at: '/start?task=command' })
  await field(page, 'command').fill('echo begun; sleep 600')
  await page.getByRole('button', { name: 'Start' }).click()
  await page.locator('.text', { hasText: 'begun' }).waitFor()
  const id = idOf(page)
  await page.getByRole('link', { name: 'Tether, all jobs' }).click()
  await page.locator('.job-row', { hasText: id }).click()
  await page.getByRole('button', { name: 'Cancel' }).click()
  await page.locator('.job-title .chip-cancelled').waitFor()
  expect(page.url()).toBe(`${below}/#/jobs/${id}`)
  // Not the picture of one that is missing.
  expect(await page.locator('.brand img').evaluate((image) => Reflect.get(image, 'naturalWidth'))).toBeGreaterThan(0)
})

test.skipIf(!hasBrowser)('the page as it is built has nothing inline, and stays small', async () => {
  await Visitor.come()
  const { url } = await openWorld()
  const page = await ask(url, '/')
  expect(page.headers.get('content-security-policy')).toMatch(
    /^default-src 'none'; script-src 'self'; style-src 'self';/,
  )
  expect(page.headers.get('x-content-type-options')).toBe('nosniff')
  expect(page.text).not.toMatch(/ style=| on\w+=|<script>|<style/)
  const assets = [...page.text.matchAll(/(?:src|href)="\.(\/[^"]+)"/g)].map(([, path]) => path ?? '')
  expect(assets.length).toBeGreaterThan(2)
  const bytes = await Promise.all(
    ['/', ...assets].map(async (path) => Number((await fetch(url + path)).headers.get('content-length'))),
  )
  expect(bytes.reduce((sum, length) => sum + length, 0)).toBeLessThan(60 * 1024)
})
