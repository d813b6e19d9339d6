import type { Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import { addTether, hostApp, listening } from '../plugin/hostApp.ts'
import { hasBrowser, openBrowser } from '../readers/Browser.ts'
import { openWorld } from '../world.ts'

/** Opens the page, and everything that it complains of or asks others for. */
async function look(page: Page, url: string): Promise<readonly string[]> {
  const complaints: string[] = []
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) complaints.push(message.text())
  })
  page.on('pageerror', ({ message }) => complaints.push(message))
  page.on('request', (request) => {
    if (!request.url().startsWith(url) && !/^(?:data|blob):/.test(request.url())) complaints.push(request.url())
  })
  page.on('response', (response) => {
    if (response.status() >= 400) complaints.push(`${response.status()} ${response.url()}`)
  })
  const answer = await page.goto(`${url}/docs`)
  expect(answer?.headers()['content-security-policy']).toMatch(/^default-src 'self'; script-src 'self'; /)
  await page.getByText('Start a job and stream its events').first().waitFor()
  return complaints
}

describe.skipIf(!hasBrowser)('the page of the API', () => {
  test('shows it under a strict policy, and nothing comes from or goes to anybody else', async () => {
    const { url } = await openWorld()
    const browser = await openBrowser()
    for (const colorScheme of ['light', 'dark'] as const) {
      const page = await browser.newPage({ colorScheme })
      const complaints = await look(page, url)
      await page.getByRole('button', { name: 'Open Group - Models' }).click()
      await page.getByText('job.abandoned').first().waitFor()
      expect(complaints).toEqual([])
      await page.close()
    }
  }, 60_000)

  test('does so below a prefix, and asks the server there', async () => {
    const app = hostApp()
    await addTether(app, { prefix: '/deep/down' })
    const url = `${await listening(app)}/deep/down`
    const page = await (await openBrowser()).newPage()
    expect(await look(page, url)).toEqual([])
  }, 60_000)
})

test('the page has no script of its own, and its large one is kept for a while', async () => {
  const { url } = await openWorld()
  const page = await (await fetch(`${url}/docs`)).text()
  expect([...page.matchAll(/<script/g)]).toHaveLength(
    [...page.matchAll(/<script src="docs\/\w+\.js"><\/script>/g)].length,
  )
  expect(page).not.toMatch(/https?:| style=| on\w+=/)
  const script = await fetch(`${url}/docs/scalar.js`)
  expect(script.headers.get('cache-control')).toBe('private, max-age=3600')
  expect((await script.text()).length).toBeGreaterThan(1_000_000)
})
