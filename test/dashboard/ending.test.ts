import { describe, expect, test } from 'vitest'
import { openAgents, startAgent } from '../agent/agentWorld.ts'
import { says } from '../agent/FakeModelServer.ts'
import { hasBrowser } from '../readers/Browser.ts'
import { jobOf, startJob } from '../server/requests.ts'
import { Gate, openWorld, taskOf } from '../world.ts'
import { idOf, jobAt, statusOf, Visitor } from './world.ts'

describe.skipIf(!hasBrowser)('ending a job on its page', () => {
  test('a stop in the middle of a model call says what it waits for, lets it finish, and nothing follows', async () => {
    const { model, url } = await openAgents()
    const go = new Gate()
    model.script({
      parts: [
        { text: 'The first half ' },
        { wait: go.opened },
        { text: 'and the second.' },
        { call: 'terminal', input: { command: 'true' } },
      ],
    })
    const id = await startAgent(url)
    const page = await (await Visitor.come()).open(url, { at: jobAt(id) })
    await page.getByText('The first half').waitFor()
    await page.getByRole('button', { name: 'Stop', exact: true }).click()
    const stopping = page.getByRole('button', { name: 'Stopping… (after the current model call completes)' })
    await stopping.waitFor()
    expect(await stopping.isDisabled()).toBe(true)
    expect(await page.getByRole('button', { name: 'Cancel' }).isEnabled()).toBe(true)
    expect(await jobOf(url, id)).toMatchObject({ status: 'stopping' })
    go.open()
    await page.getByText('and the second.').waitFor()
    await page.locator('.job-title .chip-stopped').waitFor()
    expect(await page.getByRole('button', { name: 'Stop', exact: true }).isDisabled()).toBe(true)
    expect(await page.getByRole('button', { name: 'Cancel' }).isDisabled()).toBe(true)
    const receipt = page.getByRole('region', { name: 'Stop' })
    await receipt.getByText('Confirmed').waitFor()
    expect(await receipt.locator('.step-name').allInnerTexts()).toEqual(['Asked', 'Stopped', 'Verified'])
    expect(await receipt.locator('.asked-by').innerText()).toContain('during model')
    model.seal()
    // A neutral end: grey, and not the colour of a failure.
    const colour = await statusOf(page).evaluate((chip) => Reflect.get(globalThis, 'getComputedStyle')(chip).color)
    const [red, green, blue] = String(colour).match(/\d+/g)?.map(Number) ?? []
    if (red === undefined || green === undefined || blue === undefined) throw new Error(`no colour: ${colour}`)
    expect(Math.max(red, green, blue) - Math.min(red, green, blue)).toBeLessThan(40)
  })

  test('a cancel is possible while a stop waits, and the receipt shows both', async () => {
    const { model, url } = await openAgents()
    model.script({ parts: [{ text: 'It begins' }, { stall: true }] })
    const id = await startAgent(url)
    const page = await (await Visitor.come()).open(url, { at: jobAt(id) })
    await page.getByText('It begins').waitFor()
    await page.getByRole('button', { name: 'Stop', exact: true }).click()
    await page.getByRole('button', { name: /^Stopping…/ }).waitFor()
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.locator('.job-title .chip-cancelled').waitFor()
    const receipt = page.getByRole('region', { name: 'Cancel' })
    await receipt.getByText('Confirmed').waitFor()
    expect(await receipt.locator('.step-name').allInnerTexts()).toEqual([
      'Stop asked',
      'Cancel asked',
      'Aborted',
      'Killed',
      'Verified',
    ])
    // Of what was open, the log says no more.
    await page.locator('.transcript').getByText('ended with the job').waitFor()
    expect(await page.locator('.busy').count()).toBe(0)
    await model.untilClosed()
  })

  test('a cancel of a command shows what was ended and how long each step took', async () => {
    const { url } = await openWorld()
    const { id } = await startJob(url, { task: 'command', input: { command: 'echo begun; sleep 600 & sleep 600' } })
    const page = await (await Visitor.come()).open(url, { at: jobAt(id) })
    await page.locator('.text', { hasText: 'begun' }).waitFor()
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.locator('.job-title .chip-cancelled').waitFor()
    const receipt = page.getByRole('region', { name: 'Cancel' })
    await receipt.getByText('Confirmed').waitFor()
    const job = await jobOf(url, id)
    expect(job.receipt?.released.processes).toBeGreaterThanOrEqual(2)
    await receipt.getByText(`${job.receipt?.released.processes} processes`).waitFor()
    const requests = page.getByRole('region', { name: 'Requests' })
    await requests.getByText('Cancel accepted').waitFor()
    await requests.getByText('by 127.0.0.1').waitFor()
    await requests.getByText('asked for on the dashboard').waitFor()
    expect(await receipt.locator('.step-detail').nth(1).innerText()).toMatch(/^\+[\d.]+ ms$/)
    expect(job.cancellation).toMatchObject({ cause: 'cancel_requested', reason: 'asked for on the dashboard' })
  })

  test('a job that does not let go ends abandoned, is not confirmed, and is stuck in the overview until it does', async () => {
    const go = new Gate()
    const deaf = taskOf('deaf', () => go.opened)
    const { url } = await openWorld({ tasks: [deaf] })
    const { id } = await startJob(url, { task: 'deaf', settleMs: 100 })
    const page = await (await Visitor.come()).open(url, { at: jobAt(id) })
    await statusOf(page).getByText('Running').waitFor()
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.locator('.job-title .chip-abandoned').waitFor()
    const receipt = page.getByRole('region', { name: 'Cancel' })
    await receipt.getByText('Not confirmed').waitFor()
    await receipt.getByText('something may be left').waitFor()
    await page.goto(`${url}/#/`)
    const stuck = page.locator('.tile', { hasText: 'Stuck' })
    await stuck.getByRole('link', { name: 'deaf' }).click()
    expect(idOf(page)).toBe(id)
    go.open()
    await page.goto(`${url}/#/`)
    await stuck.getByText('0', { exact: true }).waitFor()
    await page.locator('.job-row').getByText('Abandoned').waitFor()
  })

  test('a job that has ended cannot be ended again', async () => {
    const { url } = await openWorld()
    const { id } = await startJob(url, { task: 'ticks', input: { count: 2, intervalMs: 0 } })
    const page = await (await Visitor.come()).open(url, { at: jobAt(id) })
    await page.getByText('tick 2').waitFor()
    await page.locator('.job-title .chip-succeeded').waitFor()
    for (const name of ['Stop', 'Cancel'])
      expect(await page.getByRole('button', { name, exact: true }).isDisabled()).toBe(true)
  })

  test('every model call and its tokens are shown, and what they come to', async () => {
    const { model, url } = await openAgents()
    model.script(
      { parts: [{ text: 'Looking.' }, { call: 'terminal', input: { command: 'echo it-ran' } }] },
      says('All done.'),
    )
    const id = await startAgent(url)
    const page = await (await Visitor.come()).open(url, { at: jobAt(id) })
    await page.getByText('All done.').first().waitFor()
    await statusOf(page).getByText('Succeeded').waitFor()
    expect(await page.getByText('15 tokens').count()).toBe(2)
    await page.getByText('30 tokens (20 in, 10 out)').waitFor()
    const tool = page.locator('details.tool-ok')
    await tool.getByText('terminal').click()
    await tool.getByText('"command": "echo it-ran"').waitFor()
  })
})
