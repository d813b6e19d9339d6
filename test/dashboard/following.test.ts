import type { Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'

import { openProxy } from '../client/CutProxy.ts'
import { spawnServer } from '../jobs/serverProcess.ts'
import { hasBrowser } from '../readers/Browser.ts'
import { ask, jobOf, startJob } from '../server/requests.ts'
import { eventually, Gate, openWorld, taskOf, temporaryFolder } from '../world.ts'
import { field, idOf, jobAt, NETWORK, statusOf, Visitor } from './world.ts'

/** The numbers of the lines `tick N` that a page has, in order; it has those in view. */
async function ticksOn(page: Awaited<ReturnType<Visitor['open']>>): Promise<readonly number[]> {
  const text = (await page.locator('.transcript .text').allInnerTexts()).join('\n')
  return [...text.matchAll(/tick (\d+)/g)].map(([, n]) => Number(n))
}

interface ThreeJobs {
  readonly url: string
  readonly first: string
  readonly page: Page
  readonly openOthers: () => Promise<void>
}

/** Three jobs that go on for long, with a page of the first; `openOthers` opens each of the others in a window beside it. */
async function openThree(): Promise<ThreeJobs> {
  const { url } = await openWorld()
  const visitor = await Visitor.come()
  const ids: string[] = []
  for (let job = 0; job < 3; job += 1) {
    ids.push((await startJob(url, { task: 'ticks', input: { count: 100_000, intervalMs: 20 } })).id)
  }
  const [first = '', ...others] = ids
  const page = await visitor.open(url, { at: jobAt(first) })
  await page.locator('.transcript .text').first().waitFor()
  const openOthers = async (): Promise<void> => {
    for (const id of others) {
      const beside = await visitor.openBeside(page, url, jobAt(id))
      await beside.locator('.transcript .text').first().waitFor()
    }
  }
  return { url, first, page, openOthers }
}

describe.skipIf(!hasBrowser)('a page that follows', () => {
  test('shows a list that lives: a job appears, changes its status and ends without a reload', async () => {
    const { url } = await openWorld({
      tasks: [taskOf('held', (ctx) => new Promise((resolve) => ctx.signal.addEventListener('abort', () => resolve())))],
    })
    const page = await (await Visitor.come()).open(url)
    await page.getByText('No jobs yet.').waitFor()
    const { id } = await startJob(url, { task: 'held' })
    const row = page.locator('.job-row', { hasText: id })
    await row.getByText('Running').waitFor()
    await page.locator('.tile', { hasText: 'Running' }).getByText('1', { exact: true }).waitFor()
    await fetch(`${url}/jobs/${id}/cancel`, { method: 'POST' })
    await row.getByText('Cancelled').waitFor()
    await page.locator('.stop-times').getByText('cancel', { exact: true }).waitFor()
    await page.getByText('From the 1 receipt among the 1 jobs').waitFor()
  })

  test('has everything after a reload in the middle, once and in order', async () => {
    const go = new Gate()
    const half = taskOf('half', async (ctx) => {
      for (let n = 1; n <= 60; n += 1) await ctx.output(`tick ${n}\n`)
      await go.opened
      for (let n = 61; n <= 120; n += 1) await ctx.output(`tick ${n}\n`)
    })
    const { url } = await openWorld({ tasks: [half] })
    const { id } = await startJob(url, { task: 'half' })
    // So high that all of it is in view.
    const page = await (await Visitor.come()).open(url, { at: jobAt(id), viewport: { width: 1200, height: 4000 } })
    await page.getByText('tick 60').waitFor()
    await page.reload()
    await page.getByText('tick 60').waitFor()
    go.open()
    await page.getByText('tick 120').waitFor()
    await page.locator('.job-title .chip-succeeded').waitFor()
    expect(await ticksOn(page)).toEqual(Array.from({ length: 120 }, (_, index) => index + 1))
  })

  test('shows the same in two tabs, and an end that was asked for in one in both', async () => {
    const { url } = await openWorld()
    const visitor = await Visitor.come()
    const first = await visitor.open(url, { at: '/start?task=command' })
    await field(first, 'command').fill('echo begun; sleep 600')
    await first.getByRole('button', { name: 'Start' }).click()
    await first.locator('.text', { hasText: 'begun' }).waitFor()
    const second = await visitor.openBeside(first, url, jobAt(idOf(first)))
    await second.locator('.text', { hasText: 'begun' }).waitFor()
    // Only the one that started it holds it.
    expect(await second.getByText('closing it cancels the job').count()).toBe(0)
    await second.getByRole('button', { name: 'Cancel' }).click()
    for (const page of [first, second]) {
      await page.locator('.job-title .chip-cancelled').waitFor()
      await page.getByText('Confirmed').waitFor()
    }
  })

  test('comes back when the server is started again under it, and says so meanwhile', async () => {
    const dataDir = await temporaryFolder()
    const first = spawnServer({ DATA_DIR: dataDir })
    const proxy = await openProxy(await first.url())
    const { id } = await startJob(proxy.url, { task: 'ticks', input: { count: 100_000, intervalMs: 20 } })
    const visitor = await Visitor.come()
    const list = await visitor.open(proxy.url, { allowed: NETWORK })
    await list.locator('.job-row', { hasText: id }).getByText('Running').waitFor()
    const page = await visitor.open(proxy.url, { at: jobAt(id), allowed: NETWORK })
    await page.getByText('tick 20').waitFor()
    first.child.kill('SIGKILL')
    await first.exited
    await page.locator('.top-bar').getByText('Reconnecting…').waitFor()
    await page.locator('.job-title').getByText('Reconnecting…').waitFor()
    await list.locator('.top-bar').getByText('Reconnecting…').waitFor()
    const second = spawnServer({ DATA_DIR: dataDir })
    proxy.aimAt(await second.url())
    await page.locator('.job-title .chip-interrupted').waitFor()
    await page.locator('.top-bar').getByText('Live').waitFor()
    await page.locator('.job-title').getByText('Reconnecting…').waitFor({ state: 'detached' })
    // What ended while nobody was there to say so is found.
    await list.locator('.job-row', { hasText: id }).getByText('Interrupted').waitFor()
    const next = await startJob(proxy.url, { task: 'ticks', input: { count: 1, intervalMs: 0 } })
    await list.locator('.job-row', { hasText: next.id }).getByText('Succeeded').waitFor()
    second.child.kill('SIGTERM')
    await second.exited
  }, 90_000)

  test('lets go of the jobs that are gone where another store answers in the place of the one it knew', async () => {
    const first = await openWorld()
    const second = await openWorld()
    const proxy = await openProxy(first.url)
    const gone = await startJob(first.url, { task: 'ticks', input: { count: 100_000, intervalMs: 20 } })
    const page = await (await Visitor.come()).open(proxy.url, { allowed: NETWORK })
    await page.locator('.job-row', { hasText: gone.id }).getByText('Running').waitFor()
    await page.locator('.top-bar').getByText('Live').waitFor()
    const { id } = await startJob(second.url, { task: 'ticks', input: { count: 0, intervalMs: 0 } })
    proxy.aimAt(second.url)
    proxy.cut()
    await page.locator('.job-row', { hasText: id }).getByText('Succeeded').waitFor()
    await page.locator('.job-row', { hasText: gone.id }).waitFor({ state: 'detached' })
  })

  test('goes on where its connections are cut over and over, without a gap or a repeat', async () => {
    const { url } = await openWorld()
    const proxy = await openProxy(url)
    const { id } = await startJob(url, { task: 'ticks', input: { count: 150, intervalMs: 15 } })
    const page = await (await Visitor.come()).open(proxy.url, {
      at: jobAt(id),
      viewport: { width: 1200, height: 5000 },
      allowed: NETWORK,
    })
    for (const seen of [20, 60, 100]) {
      await eventually(`it has seen ${seen}`, async () => ((await ticksOn(page)).at(-1) ?? 0) >= seen)
      proxy.cut()
    }
    await page.getByText('tick 150').waitFor()
    await page.locator('.job-title .chip-succeeded').waitFor()
    expect(await ticksOn(page)).toEqual(Array.from({ length: 150 }, (_, index) => index + 1))
  }, 60_000)

  test('holds a job on through a server that is cut off from it for a moment', async () => {
    const { url } = await openWorld()
    const proxy = await openProxy(url)
    const page = await (await Visitor.come()).open(proxy.url, { at: '/start?task=ticks', allowed: NETWORK })
    await field(page, 'count').fill('100000')
    await field(page, 'intervalMs').fill('50')
    await page.getByRole('button', { name: 'Start' }).click()
    await page
      .getByText(/tick \d/)
      .first()
      .waitFor()
    const id = idOf(page)
    const { lastSeq } = await jobOf(url, id)
    proxy.cut()
    // Past the grace of 2 s that the form sets: it is held again, so nothing has become of it.
    await eventually('it has gone on for 4 s', async () => (await jobOf(url, id)).lastSeq > lastSeq + 80)
    expect((await jobOf(url, id)).status).toBe('running')
    await page.close()
    await eventually('it is cancelled', async () => (await jobOf(url, id)).status === 'cancelled')
  }, 60_000)

  test('shows sub-agents as a tree, from each of its members', async () => {
    const leaf = taskOf('leaf', async (ctx) => {
      await ctx.output('a leaf\n')
    })
    const branch = taskOf('branch', async (ctx) => {
      await ctx.run('leaf', {})
      await ctx.output('a branch\n')
    })
    const trunk = taskOf('trunk', async (ctx) => {
      await Promise.all([ctx.run('branch', {}), ctx.run('leaf', {})])
      await ctx.output('the trunk\n')
    })
    const { url } = await openWorld({ tasks: [leaf, branch, trunk] })
    const { id } = await startJob(url, { task: 'trunk' })
    const page = await (await Visitor.come()).open(url, { at: jobAt(id) })
    await page.locator('.job-title .chip-succeeded').waitFor()
    const tree = page.getByRole('navigation', { name: 'Sub-agents' })
    await tree.getByText('trunk').waitFor()
    const outline = async (): Promise<readonly string[]> =>
      (await tree.locator('a bdi').allInnerTexts()).toSorted((a, b) => a.localeCompare(b))
    await eventually('the tree is whole', async () => (await outline()).length === 4)
    expect(await outline()).toEqual(['branch', 'leaf', 'leaf', 'trunk'])
    expect(await tree.locator('ul ul ul a bdi').allInnerTexts()).toEqual(['leaf'])
    await tree.locator('ul ul ul a').click()
    await page.locator('.text', { hasText: 'a leaf' }).waitFor()
    await tree.locator('a[aria-current]').getByText('leaf').waitFor()
    expect(await outline()).toEqual(['branch', 'leaf', 'leaf', 'trunk'])
    await page.getByRole('link', { name: 'Parent' }).click()
    await page.locator('.text', { hasText: 'a branch' }).waitFor()
  })

  test('gives its connections up while nobody looks at it, and has caught up when somebody does', async () => {
    const { url } = await openWorld()
    const { id } = await startJob(url, { task: 'ticks', input: { count: 100_000, intervalMs: 20 } })
    const page = await (await Visitor.come()).open(url, { at: jobAt(id) })
    await page
      .getByText(/tick \d/)
      .first()
      .waitFor()
    const closed = ['/jobs/events', `/jobs/${id}/events`].map((path) =>
      page.waitForEvent('requestfailed', (request) => new URL(request.url()).pathname === path),
    )
    await show(page, false)
    await Promise.all(closed)
    await ask(url, `/jobs/${id}/stop?wait=10`, { method: 'POST' })
    const other = await startJob(url, { task: 'ticks', input: { count: 0, intervalMs: 0 } })
    expect(await statusOf(page).innerText()).toBe('Running')
    await show(page, true)
    await page.locator('.job-title .chip-stopped').waitFor()
    await page.goto(`${url}/#/`)
    await page.locator('.job-row', { hasText: other.id }).getByText('Succeeded').waitFor()
  })

  test('leaves a connection for a cancel, however many windows are side by side, and is whole where one comes to it', async () => {
    const { url, first, page, openOthers } = await openThree()
    await openOthers()
    await page.locator('.job-title').getByText('Paused for another tab').waitFor()
    await page.getByRole('button', { name: 'Cancel' }).click()
    await eventually('it is cancelled', async () => (await jobOf(url, first)).status === 'cancelled')
    // Its own answer says so; what its stream says comes when somebody comes to it.
    await page.evaluate("dispatchEvent(new Event('focus'))")
    await page.locator('.transcript').getByText('Cancelled').waitFor()
    await page.locator('.job-title').getByText('Paused for another tab').waitFor({ state: 'detached' })
  })

  test('is whole where one comes back to it and another has taken its connection in between', async () => {
    const { first, page, openOthers } = await openThree()
    const closed = page.waitForEvent('requestfailed', (request) => request.url().includes(`/jobs/${first}/events`))
    await show(page, false)
    await openOthers()
    await closed
    const opened = page.waitForRequest((request) => request.url().includes(`/jobs/${first}/events`))
    await show(page, true)
    await opened
    await page.locator('.job-title').getByText('Paused for another tab').waitFor({ state: 'detached' })
  })

  test('asks again for the list where that alone was refused', async () => {
    const { url } = await openWorld()
    const { id } = await startJob(url, { task: 'ticks', input: { count: 0, intervalMs: 0 } })
    const page = await (await Visitor.come()).open(url, { at: '/nowhere', allowed: /status of 503/ })
    await page.locator('.top-bar').getByText('Live').waitFor()
    const refusal = { statusCode: 503, code: 'TETHER_STORE_UNAVAILABLE', error: '', message: 'not now' }
    await page.route(/\/jobs\?/, (route) => route.fulfill({ status: 503, json: refusal }), { times: 1 })
    await page.reload()
    await page.locator('.top-bar').getByText('Live').waitFor()
    await page.goto(`${url}/#/`)
    await page.locator('.job-row', { hasText: id }).waitFor()
  })

  test('has a bar that shows how far a job is', async () => {
    const go = new Gate()
    const steps = taskOf('steps', async (ctx) => {
      await ctx.progress(3, { total: 12, message: 'packing' })
      await go.opened
      await ctx.progress(12, { total: 12, message: 'packed' })
    })
    const { url } = await openWorld({ tasks: [steps] })
    const { id } = await startJob(url, { task: 'steps' })
    const page = await (await Visitor.come()).open(url, { at: jobAt(id) })
    await page.getByText('3 of 12 · packing').waitFor()
    const bar = page.getByRole('progressbar', { name: 'Progress' })
    expect(await bar.evaluate((bar) => [Reflect.get(bar, 'value'), Reflect.get(bar, 'max')])).toEqual([3, 12])
    go.open()
    await page.getByText('12 of 12 · packed').waitFor()
  })

  test('says where a job is not known, and leads back', async () => {
    const { url } = await openWorld()
    const page = await (await Visitor.come()).open(url, {
      at: jobAt('job_that_is_not_there'),
      allowed: /status of 404/,
    })
    await page.getByRole('heading', { name: 'There is no such job' }).waitFor()
    await page.getByRole('main').getByRole('link', { name: 'All jobs' }).click()
    await page.getByText('No jobs yet.').waitFor()
  })
})

/** Whether somebody looks at the page. */
async function show(page: Page, isShown: boolean): Promise<void> {
  await page.evaluate((hidden) => {
    const document: EventTarget = Reflect.get(globalThis, 'document')
    Object.defineProperty(document, 'hidden', { value: hidden, configurable: true })
    document.dispatchEvent(new Event('visibilitychange'))
  }, !isShown)
}
