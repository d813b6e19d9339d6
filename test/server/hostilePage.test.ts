import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Page } from 'playwright-core'
import { describe, expect, onTestFinished, test } from 'vitest'
import { hasBrowser, openBrowser } from '../readers/Browser.ts'
import { eventually, openWorld, taskOf } from '../world.ts'
import { ask, startJob } from './requests.ts'

const TOKEN = 'a-token-of-the-test'
const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))

/** A server of somebody else, on this machine too, with an empty page. */
async function openStranger(): Promise<{ readonly port: number; close(): Promise<void> }> {
  const server = createServer((_, response) => response.setHeader('content-type', 'text/html').end('<!doctype html>'))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const close = async (): Promise<void> => {
    server.closeAllConnections()
    await new Promise<void>((resolve) => server.close(() => resolve()))
  }
  onTestFinished(close)
  const address: AddressInfo | string | null = server.address()
  if (address === null || typeof address === 'string') throw new Error('the server has no address')
  return { port: address.port, close }
}

/** Everything that a page can send by itself to a server of another origin, and what it can read of the answers. */
async function attack(page: Page, url: string): Promise<readonly string[]> {
  return page.evaluate(
    async ({ url, start }) => {
      const read: string[] = []
      const tried = async (what: string, options: RequestInit): Promise<void> => {
        try {
          const response = await fetch(url + what, { credentials: 'include', ...options })
          read.push(`${what} ${response.type} ${await response.text()}`)
        } catch {
          // The browser lets it read nothing.
        }
      }
      const plain = { 'content-type': 'text/plain' }
      for (const mode of ['no-cors', 'cors'] as const) {
        await tried('/jobs', { mode })
        await tried('/jobs', { mode, method: 'POST', body: start, headers: plain })
        await tried('/execute/stream', { mode, method: 'POST', body: start })
        await tried('/jobs/job-12345/cancel', { mode, method: 'POST' })
        await tried('/jobs/job-12345/stop', { mode, method: 'POST', body: '{}', headers: plain })
      }
      await tried('/jobs', { method: 'POST', body: start, headers: { 'content-type': 'application/json' } })
      await tried('/jobs/job-12345', { method: 'DELETE' })
      const document = Reflect.get(globalThis, 'document')
      const settled = async (element: EventTarget): Promise<void> => {
        await new Promise((resolve) => {
          element.addEventListener('load', () => {
            read.push('loaded')
            resolve(undefined)
          })
          element.addEventListener('error', resolve)
          document.body.append(element)
        })
      }
      for (const path of ['/jobs', '/icon.svg', '/jobs/job-12345/events?hold=true']) {
        await settled(Object.assign(document.createElement('img'), { src: url + path }))
      }
      await settled(Object.assign(document.createElement('script'), { src: `${url}/docs/start.js` }))
      const Source = Reflect.get(globalThis, 'EventSource')
      await new Promise((resolve) => {
        const events = new Source(`${url}/jobs/events`, { withCredentials: true })
        events.addEventListener('open', () => {
          read.push('stream')
          resolve(undefined)
        })
        events.addEventListener('error', () => {
          events.close()
          resolve(undefined)
        })
      })
      return read.filter((text) => !text.endsWith(' opaque '))
    },
    { url, start: JSON.stringify({ task: 'waits', jobId: 'job-forged' }) },
  )
}

/** Sends a form, as a page may to any address, and settles when the browser shows what came. */
async function submitForm(page: Page, action: string): Promise<string> {
  await page.setContent(`<form method="post" enctype="text/plain" action="${action}"><input name="{}" value=""></form>`)
  await Promise.all([
    page.waitForNavigation(),
    page.evaluate(() => Reflect.get(globalThis, 'document').forms[0].submit()),
  ])
  return page.content()
}

describe.runIf(hasBrowser)('a page of somebody else in a browser that can reach the server', () => {
  test('starts, reads and ends nothing, from another site', async () => {
    const tether = await openWorld({ tasks: [waits] })
    await startJob(tether.url, { task: 'waits', jobId: 'job-12345' })
    const stranger = await openStranger()
    const browser = await openBrowser('--host-resolver-rules=MAP evil.example 127.0.0.1')
    const page = await browser.newPage()
    await page.goto(`http://evil.example:${stranger.port}/`)
    expect(await attack(page, tether.url)).toEqual([])
    expect(await submitForm(page, `${tether.url}/jobs/job-12345/cancel`)).toContain('TETHER_ORIGIN_REFUSED')
    await expectUntouched(tether.url, {})
  })

  test('starts, reads and ends nothing behind a name that was rebound to the server', async () => {
    const stranger = await openStranger()
    const browser = await openBrowser('--host-resolver-rules=MAP evil.example 127.0.0.1')
    const page = await browser.newPage()
    await page.goto(`http://evil.example:${stranger.port}/`)
    // The name leads to another server now, which to the browser is the page's own origin, whose answers it may read.
    await stranger.close()
    const tether = await openWorld({ tasks: [waits], settings: { PORT: String(stranger.port) } })
    await startJob(tether.url, { task: 'waits', jobId: 'job-12345' })
    const read = await page.evaluate(async () => {
      const texts = []
      for (const [path, method] of [
        ['/', 'GET'],
        ['/jobs', 'GET'],
        ['/jobs/job-12345/cancel', 'POST'],
        ['/jobs/job-12345/requests', 'GET'],
      ]) {
        texts.push(await (await fetch(String(path), { method: String(method) })).text())
      }
      return texts
    })
    expect(read).toHaveLength(4)
    for (const text of read) expect(text).toContain('TETHER_HOST_REFUSED')
    await expectUntouched(tether.url, {})
  })

  test('starts, reads and ends nothing from another port of this machine, with the cookie of a login', async () => {
    const tether = await openWorld({ settings: { API_TOKEN: TOKEN }, tasks: [waits] })
    const bearer = { authorization: `Bearer ${TOKEN}` }
    await ask(tether.url, '/jobs', { body: { task: 'waits', jobId: 'job-12345' }, headers: bearer })
    const stranger = await openStranger()
    const browser = await openBrowser()
    const page = await browser.newPage()
    await page.goto(`${tether.url}/login`)
    await page.getByLabel('API token').fill(TOKEN)
    await page.getByRole('button', { name: 'Log in' }).click()
    await page.waitForURL(`${tether.url}/`)
    const sent: string[] = []
    page.on('request', (request) => {
      void request.allHeaders().then(
        ({ cookie }) => cookie !== undefined && sent.push(request.url()),
        // The page is gone.
        () => undefined,
      )
    })
    // The same site: SameSite=Strict lets the cookie go with what this page sends.
    await page.goto(`http://127.0.0.1:${stranger.port}/`)
    expect(await attack(page, tether.url)).toEqual([])
    expect(await submitForm(page, `${tether.url}/jobs/job-12345/cancel`)).toContain('TETHER_ORIGIN_REFUSED')
    expect(await submitForm(page, `${tether.url}/logout`)).toContain('TETHER_ORIGIN_REFUSED')
    await eventually('the cookie went with it', () => sent.some((url) => url.endsWith('/cancel')))
    await expectUntouched(tether.url, bearer)
    await page.goto(`${tether.url}/`)
    expect(new URL(page.url()).pathname).toBe('/')
  })
})

async function expectUntouched(url: string, headers: Readonly<Record<string, string>>): Promise<void> {
  const { json } = await ask(url, '/jobs', { headers })
  expect(json).toMatchObject({ jobs: [{ id: 'job-12345', terminal: false }] })
  expect((await ask(url, '/jobs/job-12345/requests', { headers })).json).toMatchObject({ requests: [] })
}
