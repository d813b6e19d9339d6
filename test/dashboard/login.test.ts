import type { Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import { addTether, hostApp, listening } from '../plugin/hostApp.ts'
import { hasBrowser } from '../readers/Browser.ts'
import { ask } from '../server/requests.ts'
import { openWorld, taskOf } from '../world.ts'
import { jobAt, Visitor } from './world.ts'

const API_TOKEN = 'a-token-of-the-test'
const BEARER = { authorization: `Bearer ${API_TOKEN}` }

const waits = taskOf('waits', async (ctx) => {
  await ctx.output('begun')
  await ctx.sleep(60_000)
})

/** What the console says of an answer that sends the page to the login. */
const allowed = /status of 401/

async function logIn(page: Page): Promise<void> {
  await page.getByLabel('API token').fill(API_TOKEN)
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.locator('.top-bar').getByText('Live').waitFor()
}

async function startWaiting(url: string): Promise<string> {
  return String((await ask(url, '/jobs', { body: { task: 'waits' }, headers: BEARER })).json['id'])
}

describe.skipIf(!hasBrowser)('the dashboard of a server with a token', () => {
  test('is there after a login, for everything, and no more after Log out', async () => {
    const { url } = await openWorld({ settings: { API_TOKEN }, tasks: [waits] })
    const id = await startWaiting(url)
    const page = await (await Visitor.come()).open(url, { allowed })
    await logIn(page)
    await page.goto(`${url}/#${jobAt(id)}`)
    await page.getByText('begun').waitFor()
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.locator('.job-title .chip-cancelled').waitFor()
    await page.getByRole('region', { name: 'Requests' }).getByText('by token').waitFor()
    // The narrowest that a page is zoomed to, with every button that there is.
    await page.setViewportSize({ width: 320, height: 640 })
    expect(await page.evaluate('document.documentElement.scrollWidth - innerWidth')).toBe(0)
    await page.getByRole('button', { name: 'Log out' }).click()
    await page.getByLabel('API token').waitFor()
    expect(await page.context().cookies()).toEqual([])
    await page.goto(`${url}/`)
    await page.getByLabel('API token').waitFor()
  })

  test('goes to the login when that is over, and comes back to where it was', async () => {
    const { url } = await openWorld({ settings: { API_TOKEN }, tasks: [waits] })
    const page = await (await Visitor.come()).open(url, { allowed })
    await logIn(page)
    await page.context().clearCookies()
    await page.goto(`${url}/#/start?task=ticks`)
    await logIn(page)
    await page.locator('#field-count').waitFor()
    expect(page.url()).toBe(`${url}/#/start?task=ticks`)
  })

  test('is the same below the prefix of an app', async () => {
    const app = hostApp()
    await addTether(app, { prefix: '/tether', settings: { API_TOKEN }, tasks: [waits] })
    const url = `${await listening(app)}/tether`
    const id = await startWaiting(url)
    const page = await (await Visitor.come()).open(url, { allowed })
    await logIn(page)
    expect(await page.context().cookies()).toMatchObject([{ path: '/tether', httpOnly: true, sameSite: 'Strict' }])
    await page.locator('.job-row', { hasText: id }).click()
    await page.getByText('begun').waitFor()
    await page.getByRole('button', { name: 'Stop', exact: true }).click()
    await page.locator('.job-title .chip-stopped').waitFor()
    await page.getByRole('button', { name: 'Log out' }).click()
    await page.getByLabel('API token').waitFor()
    expect(new URL(page.url()).pathname).toBe('/tether/login')
  })
})
