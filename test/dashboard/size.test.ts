import type { Page } from 'playwright-core'
import { describe, expect, test } from 'vitest'
import { hasBrowser } from '../readers/Browser.ts'
import { jobOf, startJob } from '../server/requests.ts'
import { eventually, openWorld, taskOf } from '../world.ts'
import { jobAt, Visitor } from './world.ts'

const JOBS = 5000
const EVENTS = 100_000
/** A page of a few dozen rows has some hundreds; one with thousands of rows has tens of thousands. */
const MAX_ELEMENTS = 2500

function elementsOf(page: Page): Promise<number> {
  return page.locator('*').count()
}

async function startMany(url: string, count: number): Promise<void> {
  const starts = Array.from({ length: count }, (_, index) => index).values()
  const worker = async (): Promise<void> => {
    for (const index of starts) {
      await startJob(url, {
        task: 'ticks',
        input: { count: 0, intervalMs: 0 },
        metadata: { place: `place-${index}` },
      })
    }
  }
  await Promise.all(Array.from({ length: 16 }, worker))
}

describe.skipIf(!hasBrowser)('a page with a lot to show', () => {
  test(`has ${JOBS} jobs in its list, of which a few dozen rows are in it`, async () => {
    const { url } = await openWorld()
    await startMany(url, 1)
    await startMany(url, JOBS - 2)
    const page = await (await Visitor.come()).open(url)
    await page.getByText('older ones come as you scroll').waitFor()
    // It lives while it is long.
    const { id } = await startJob(url, { task: 'ticks', input: { count: 0, intervalMs: 0 }, group: 'the_newest' })
    const newest = page.locator('.job-row', { hasText: id })
    await newest.getByText('Succeeded').waitFor()
    expect(await elementsOf(page)).toBeLessThan(MAX_ELEMENTS)
    // Down to the oldest, by the keyboard.
    await newest.focus()
    await eventually(
      'the last row is there',
      async () => {
        await page.keyboard.press('End')
        return (await page.getByText(`${JOBS.toLocaleString('en')} jobs`, { exact: true }).count()) > 0
      },
      60_000,
    )
    await page.keyboard.press('End')
    const last = page.locator(`.job-list > li[aria-posinset="${JOBS}"]`)
    await last.waitFor()
    expect(await elementsOf(page)).toBeLessThan(MAX_ELEMENTS)
    expect(await page.locator('.job-row:focus').count()).toBe(1)
    // A search finds the one among all.
    await page.keyboard.press('/')
    await page.keyboard.type('place-4321')
    await page.getByText('1 job found').waitFor()
    await page.getByRole('searchbox').fill('')
    await page.getByText('Failed', { exact: true }).click()
    await page.getByText('No job matches.').waitFor()
  }, 180_000)

  test(`has ${EVENTS} events in a stream, follows its end, and shows its beginning when asked to`, async () => {
    const many = taskOf('many', async (ctx) => {
      for (let n = 1; n <= EVENTS / 2; n += 1) {
        await ctx.data('point', n)
        await ctx.output(`line ${n}\n`, n % 2 === 0 ? 'stdout' : 'stderr')
      }
    })
    const { url } = await openWorld({ tasks: [many] })
    const { id } = await startJob(url, { task: 'many' })
    // While it comes.
    const page = await (await Visitor.come()).open(url, { at: jobAt(id) })
    await page.getByText(`line ${EVENTS / 2}`, { exact: true }).waitFor({ timeout: 120_000 })
    await page.locator('.job-title .chip-succeeded').waitFor()
    expect((await jobOf(url, id)).lastSeq).toBeGreaterThan(EVENTS)
    expect(await elementsOf(page)).toBeLessThan(MAX_ELEMENTS)
    // And when it is all there.
    await page.reload()
    await page.getByText(`line ${EVENTS / 2}`, { exact: true }).waitFor({ timeout: 60_000 })
    await page.locator('.transcript').focus()
    // The page follows what is still coming in until a key has been taken.
    await eventually('its beginning is there', async () => {
      await page.keyboard.press('Home')
      return page.getByText('line 1', { exact: true }).isVisible()
    })
    expect(await elementsOf(page)).toBeLessThan(MAX_ELEMENTS)
    await page.getByRole('button', { name: 'To the end' }).click()
    await page.getByText(`line ${EVENTS / 2}`, { exact: true }).waitFor()
  }, 240_000)
})
