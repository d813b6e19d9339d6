import type { Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import { hasBrowser } from '../readers/Browser.ts'
import { startJob } from '../server/requests.ts'
import { openWorld, taskOf } from '../world.ts'
import { jobAt, Visitor } from './world.ts'

const MARKUP = `<img src=x onerror="globalThis.harmed=1"><script>globalThis.harmed=2</script><style>*{display:none}</style></pre></div>`
const ESC = '\u001b'
const SEQUENCES = `${ESC}[2J${ESC}[31mred${ESC}[0m${ESC}]0;a title${ESC}\\${ESC}]8;;javascript:globalThis.harmed=3${ESC}\\link${ESC}]8;;${ESC}\\${ESC}[?1049h`
const TURNED = 'user\u202egnp.exe\u202c after'
const PILED = `z${'\u0301'.repeat(500)}algo`

async function assertUnharmed(page: Page): Promise<void> {
  expect(await page.evaluate(() => Reflect.get(globalThis, 'harmed'))).toBeUndefined()
  expect(await page.locator('main img, main script, main style, main iframe, main [onerror]').count()).toBe(0)
  expect(await page.locator('a[href^="javascript:"]').count()).toBe(0)
  expect(await page.title()).not.toContain('a title')
}

describe.skipIf(!hasBrowser)('a task that prints what it likes', () => {
  test('is shown as text: markup is no markup, and what a terminal acts on is gone', async () => {
    const nasty = taskOf('nasty', async (ctx) => {
      await ctx.output(`${MARKUP}\n`)
      await ctx.output(`${MARKUP}\n`, 'stderr')
      // In pieces, as a pipe cuts it.
      for (const character of `${SEQUENCES}|end of it\n`) await ctx.output(character, 'stdout')
      await ctx.output(`drawn over\rdrawn last\n${TURNED}\n${PILED}\n`, 'stdout')
      await ctx.output(MARKUP, 'reasoning')
      await ctx.data(MARKUP, { [MARKUP]: MARKUP })
      await ctx.progress(1, { total: 2, message: MARKUP })
      await ctx.tool(`tool ${MARKUP}`, { [MARKUP]: SEQUENCES }, async () => ({
        text: `${SEQUENCES}|${TURNED}${MARKUP}`,
        ok: false,
      }))
      throw new Error(`${MARKUP} ${SEQUENCES}`)
    })
    const { url } = await openWorld({ tasks: [nasty] })
    const { id } = await startJob(url, {
      task: 'nasty',
      input: { [MARKUP]: MARKUP },
      metadata: { [MARKUP]: `${MARKUP} ${TURNED}` },
    })
    const page = await (await Visitor.come()).open(url, { at: jobAt(id), viewport: { width: 1200, height: 3000 } })
    await page.locator('.job-title .chip-failed').waitFor()
    await page.locator('.text-text').getByText(MARKUP).waitFor()
    await page.locator('.text-stderr').getByText(MARKUP).waitFor()
    const stdout = (await page.locator('.text-stdout').allTextContents()).join('\n')
    expect(stdout).toContain('redlink|end of it')
    expect(stdout).toContain('drawn last\n')
    expect(stdout).not.toContain('drawn over')
    expect(stdout).toContain('usergnp.exe after')
    for (const control of [ESC, '\u202e', '\u0007', '\r']) expect(stdout).not.toContain(control)
    for (const details of await page.locator('.transcript details > summary').all()) await details.click()
    await page.getByText('Input', { exact: true }).click()
    const summary = await page.locator('.tool .value').last().textContent()
    expect(summary).toContain('redlink|usergnp.exe after')
    for (const control of [ESC, '\u202e', '\u0007']) expect(summary).not.toContain(control)
    await assertUnharmed(page)
    // Nothing of it reaches beyond its row.
    expect(
      await page
        .locator('.trace-row')
        .first()
        .evaluate((row) => Reflect.get(globalThis, 'getComputedStyle')(row).contain),
    ).toBe('content')
    await page.goto(`${url}/#/`)
    await page.locator('.job-row').getByText('Failed').waitFor()
    await assertUnharmed(page)
  })

  test('cannot make the page wider or the row of another unreadable', async () => {
    const wide = taskOf(`wide-${'w'.repeat(50)}`, async (ctx) => {
      await ctx.output(`${'x'.repeat(60_000)}\nnext\n`, 'stdout')
      await ctx.progress(1, { total: 2, message: 'm'.repeat(5000) })
      throw new Error('e'.repeat(4000))
    })
    const { url } = await openWorld({ tasks: [wide] })
    const { id } = await startJob(url, {
      task: wide.name,
      input: { long: 'i'.repeat(5000) },
      metadata: { m: 'd'.repeat(5000) },
    })
    const visitor = await Visitor.come()
    for (const viewport of [
      { width: 360, height: 740 },
      { width: 1200, height: 800 },
    ]) {
      const page = await visitor.open(url, { at: jobAt(id), viewport })
      await page.locator('.job-title .chip-failed').waitFor()
      await page.locator('.transcript').getByText('next').waitFor()
      for (const at of [jobAt(id), '/']) {
        await page.goto(`${url}/#${at}`)
        await page.locator('.chip-failed').first().waitFor()
        expect(await page.evaluate('document.documentElement.scrollWidth')).toBe(viewport.width)
      }
    }
  })

  test('cannot lead out of the dashboard through its id, or a link through the address', async () => {
    const { url } = await openWorld()
    const visitor = await Visitor.come()
    for (const at of [
      '/jobs/..%2f..%2flogin',
      '/jobs/<script>',
      '/jobs/javascript:alert(1)',
      '//example.org/',
      '/start/x',
    ]) {
      const page = await visitor.open(url, { at })
      await page.locator('main').getByRole('heading').first().waitFor()
      expect(page.url().startsWith(url)).toBe(true)
      await assertUnharmed(page)
      await page.close()
    }
  })
})
