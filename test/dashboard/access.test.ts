import { source as axe } from 'axe-core'
import type { Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import { defineTask, Type } from '../../src/execution/task.ts'
import { hasBrowser } from '../readers/Browser.ts'
import { ask, startJob } from '../server/requests.ts'
import { Gate, openWorld, taskOf } from '../world.ts'
import { jobAt, Visitor } from './world.ts'

interface Violation {
  readonly id: string
  readonly nodes: readonly { readonly html: string; readonly failureSummary?: string }[]
}

async function violationsOn(page: Page): Promise<readonly string[]> {
  await page.evaluate(axe)
  const { violations }: { violations: readonly Violation[] } = await page.evaluate(
    async () => await Reflect.get(globalThis, 'axe').run(),
  )
  return violations.flatMap(({ id, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`),
  )
}

/** A server with a job of every kind that a page can show, and what to wait for on each page. */
async function openEverything(): Promise<{
  readonly url: string
  readonly pages: readonly (readonly [string, string])[]
}> {
  const never = new Gate()
  const busy = taskOf('busy', async (ctx) => {
    await ctx.output('some text\n')
    await ctx.output('an error\n', 'stderr')
    await ctx.output('a thought', 'reasoning')
    await ctx.data('point', { x: 1 })
    await ctx.progress(1, { total: 4, message: 'a quarter' })
    await ctx.progress(2, { total: 4, message: 'half' })
    await ctx.tool('look', { at: 'it' }, async () => ({ text: 'seen' }))
    await ctx.run('leaf', {})
    await ctx.tool('wait', {}, async () => {
      await Promise.race([never.opened, new Promise((resolve) => ctx.signal.addEventListener('abort', resolve))])
      return { text: '' }
    })
  })
  const leaf = taskOf('leaf', async () => 'done')
  const options = defineTask({
    name: 'options',
    input: Type.Object({
      name: Type.String(),
      size: Type.Optional(Type.Union([Type.Literal('s'), Type.Literal('l')])),
      isOn: Type.Optional(Type.Boolean()),
      list: Type.Optional(Type.Array(Type.String())),
    }),
    run: async () => undefined,
  })
  const { url } = await openWorld({ tasks: [busy, leaf, options] })
  const start = async (task: string, input: object, more: object = {}): Promise<string> =>
    (await startJob(url, { task, input, ...more })).id
  const running = await start('busy', {}, { metadata: { who: 'me' }, group: 'a_group_of_jobs' })
  const stopping = await start('busy', {})
  const failed = await start('command', { command: 'exit 3' })
  const cancelled = await start('command', { command: 'sleep 600' })
  const stopped = await start('ticks', { count: 100_000, intervalMs: 10 })
  await start('command', { command: 'sleep 600' }, { timeoutMs: 50 })
  await ask(url, `/jobs/${cancelled}/cancel?wait=10`, { method: 'POST' })
  await ask(url, `/jobs/${stopped}/stop?wait=10`, { method: 'POST' })
  await ask(url, `/jobs/${stopping}/stop`, { method: 'POST' })
  return {
    url,
    pages: [
      ['/', '.job-list .chip-timed_out'],
      ['/?children=true', '.job-list .icon'],
      ['/?status=abandoned', '.empty'],
      [jobAt(running), '.job-tree'],
      [jobAt(stopping), '.end-buttons :text("Stopping…")'],
      [jobAt(failed), '.job-title .chip-failed'],
      [jobAt(cancelled), '.timeline'],
      [jobAt(stopped), '.timeline'],
      ['/start', '#field-prompt'],
      ['/start?task=options', '#field-list'],
      ['/start?task=command', '#field-command'],
      ['/nowhere', '.message-page'],
    ],
  }
}

describe.skipIf(!hasBrowser)('every page', () => {
  for (const colorScheme of ['light', 'dark'] as const) {
    test(`has nothing that axe objects to, ${colorScheme}`, async () => {
      const { url, pages } = await openEverything()
      const visitor = await Visitor.come()
      const page = await visitor.open(url, { colorScheme })
      const phone = await visitor.open(url, { colorScheme, viewport: { width: 375, height: 740 } })
      await page.locator('.top-bar').getByText('Live').waitFor()
      for (const [at, shown] of pages) {
        for (const one of [page, phone]) {
          await one.goto(`${url}/#${at}`)
          await one.locator(shown).first().waitFor({ state: 'attached' })
          for (const details of await one.locator('.transcript details').all()) await details.locator('summary').click()
          expect(await violationsOn(one), at).toEqual([])
          // Nothing is cut off at the side.
          expect(await one.evaluate('document.documentElement.scrollWidth - innerWidth'), at).toBe(0)
        }
      }
    }, 120_000)
  }

  test('can be used with the keyboard alone: from the list to a job, to its end, and back', async () => {
    const { url } = await openWorld()
    const older = await startJob(url, { task: 'ticks', input: { count: 0, intervalMs: 0 } })
    const { id } = await startJob(url, { task: 'command', input: { command: 'echo begun; sleep 600' } })
    const page = await (await Visitor.come()).open(url)
    await page.locator('.job-row', { hasText: id }).waitFor()
    const press = (key: string): Promise<void> => page.keyboard.press(key)
    const focus = (): Promise<string> => page.locator(':focus').innerText()
    await press('Tab')
    expect(await focus()).toBe('Skip to the content')
    await press('Enter')
    await page.locator('main:focus').waitFor()
    for (let presses = 0; presses < 30 && (await page.locator('.job-row:focus').count()) === 0; presses += 1)
      await press('Tab')
    expect(await focus()).toContain(id)
    await press('ArrowDown')
    await page.locator('.job-row:focus', { hasText: older.id }).waitFor()
    await press('ArrowUp')
    await page.locator('.job-row:focus', { hasText: id }).waitFor()
    await press('Enter')
    await page.locator('.text', { hasText: 'begun' }).waitFor()
    for (
      let presses = 0;
      presses < 30 && (await page.locator('button:focus', { hasText: 'Cancel' }).count()) === 0;
      presses += 1
    )
      await press('Tab')
    await press('Enter')
    await page.locator('.job-title .chip-cancelled').waitFor()
    await press('Escape')
    await page.locator('.job-row', { hasText: id }).getByText('Cancelled').waitFor()
    await press('/')
    await page.locator('input[type="search"]:focus').waitFor()
  })

  test('keeps the theme that was chosen', async () => {
    const { url } = await openWorld()
    const page = await (await Visitor.come()).open(url, { colorScheme: 'light' })
    const background = (): Promise<string> =>
      page.locator('body').evaluate((body) => String(Reflect.get(globalThis, 'getComputedStyle')(body).backgroundColor))
    const light = await background()
    await page.getByRole('button', { name: /^Theme/ }).click()
    await page.getByRole('button', { name: 'Theme: light. Change to dark' }).click()
    await page.getByRole('button', { name: 'Theme: dark. Change to as the system' }).waitFor()
    const dark = await background()
    expect(dark).not.toBe(light)
    await page.reload()
    await page.getByRole('button', { name: /^Theme: dark/ }).waitFor()
    expect(await background()).toBe(dark)
  })
})
