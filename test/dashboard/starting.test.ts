import { describe, expect, test } from 'vitest'
import { defineTask, Type } from '../../src/execution/task.ts'
import { hasBrowser } from '../readers/Browser.ts'
import { jobOf, startJob } from '../server/requests.ts'
import { eventually, openWorld } from '../world.ts'
import { field, idOf, jobAt, Visitor } from './world.ts'

/** Every kind of field that a form knows. */
const survey = defineTask({
  name: 'survey',
  description: 'Asks for everything.',
  input: Type.Object(
    {
      title: Type.String({ minLength: 1, maxLength: 40, description: 'One `line`.' }),
      body: Type.String(),
      count: Type.Integer({ minimum: 1 }),
      size: Type.Union([Type.Literal('small'), Type.Literal('large')]),
      isLoud: Type.Boolean(),
      tags: Type.Array(Type.String()),
      env: Type.Record(Type.String(), Type.String()),
      shape: Type.Object({ sides: Type.Array(Type.Number()) }),
      note: Type.Optional(Type.String()),
    },
    { additionalProperties: false },
  ),
  run: async (_ctx, input) => ({ given: JSON.stringify(input) }),
})

async function ended(url: string, id: string): Promise<Awaited<ReturnType<typeof jobOf>>> {
  return eventually(
    `${id} has ended`,
    async () => {
      const job = await jobOf(url, id)
      return job.terminal && job
    },
    30_000,
  )
}

describe.skipIf(!hasBrowser)('the form that starts a job', () => {
  test('is made from the schema of the task, and sends each field as its kind', async () => {
    const { url } = await openWorld({ tasks: [survey] })
    const page = await (await Visitor.come()).open(url, { at: '/start' })
    await page.getByText('survey', { exact: true }).click()
    await field(page, 'title').fill('A title')
    await field(page, 'body').fill('several\nlines')
    await field(page, 'count').fill('7')
    await field(page, 'size').selectOption('large')
    await field(page, 'isLoud').check()
    await field(page, 'tags').fill('one\ntwo')
    await field(page, 'env').fill('A=1\nB=x=y')
    await field(page, 'shape').fill('{"sides":[1,2.5]}')
    await page.getByRole('button', { name: 'Start' }).click()
    await page.locator('.job-title .chip-succeeded').waitFor()
    expect((await jobOf(url, idOf(page))).input).toEqual({
      title: 'A title',
      body: 'several\nlines',
      count: 7,
      size: 'large',
      isLoud: true,
      tags: ['one', 'two'],
      env: { A: '1', B: 'x=y' },
      shape: { sides: [1, 2.5] },
    })
  })

  test('says at the field what is missing or wrong, and sends nothing', async () => {
    const { url } = await openWorld({ tasks: [survey] })
    const page = await (await Visitor.come()).open(url, { at: '/start?task=survey' })
    await field(page, 'title').fill('A title')
    await field(page, 'env').fill('nonsense')
    await field(page, 'shape').fill('{')
    await page.getByRole('button', { name: 'Start' }).click()
    await page.getByText('body is needed').waitFor()
    await page.getByText('env must be lines of the form NAME=VALUE').waitFor()
    await page.getByText('shape must be JSON').waitFor()
    // The first of them has the focus, and its error belongs to it.
    const focused = page.locator(':focus')
    expect(await focused.getAttribute('name')).toBe('body')
    expect(await focused.getAttribute('aria-invalid')).toBe('true')
    const { jobs } = Object(await (await fetch(`${url}/jobs`)).json())
    expect(jobs).toEqual([])
  })

  test('takes no time that is none for no limit, and sends nothing', async () => {
    const { url } = await openWorld()
    const page = await (await Visitor.come()).open(url, { at: '/start?task=ticks' })
    await field(page, 'count').fill('1')
    await field(page, 'intervalMs').fill('0')
    const limit = page.getByLabel('Time limit, seconds')
    for (const wrong of ['-1', '0', 'an hour', '1e3']) {
      await limit.fill(wrong)
      await page.getByRole('button', { name: 'Start' }).click()
      await page.getByText('Time limit, seconds must be a number above 0, or empty').waitFor()
      expect(await page.locator(':focus').getAttribute('name')).toBe('timeoutSeconds')
    }
    await page.getByLabel('After, seconds').fill('soon')
    await limit.fill('1.5')
    await page.getByRole('button', { name: 'Start' }).click()
    await page.getByText('After, seconds must be a number, 0 or more').waitFor()
    expect(Object(await (await fetch(`${url}/jobs`)).json()).jobs).toEqual([])
    await page.getByLabel('After, seconds').fill('0.25')
    await page.getByRole('button', { name: 'Start' }).click()
    await page.locator('.job-title .chip-succeeded').waitFor()
    expect((await jobOf(url, idOf(page))).policy).toMatchObject({ timeoutMs: 1500, disconnectGraceMs: 250 })
  })

  test('says why it does not know the tasks, and gets them when the server tells them', async () => {
    const { url } = await openWorld()
    const page = await (await Visitor.come()).open(url, { allowed: /status of (?:503|403)/ })
    let status = 503
    let code = 'TETHER_STORE_UNAVAILABLE'
    const asked = Promise.withResolvers<void>()
    await page.route('**/tasks', async (route) => {
      const json = { statusCode: status, code, error: 'Refused', message: `refused with ${status}` }
      if (status === 200) await route.continue()
      else await route.fulfill({ status, json })
      asked.resolve()
    })
    await page.goto(`${url}/#/start?task=ticks`)
    await page.reload()
    await page.getByText('which tasks there are: refused with 503').waitFor()
    await asked.promise
    status = 403
    code = 'TETHER_FORBIDDEN'
    await page.getByText('which tasks there are: refused with 403').waitFor()
    status = 200
    await page.reload()
    await field(page, 'count').waitFor()
  })

  test('shows what the server refuses', async () => {
    const { url } = await openWorld()
    const page = await (await Visitor.come()).open(url, { at: '/start?task=ticks', allowed: /status of 400/ })
    await page.getByRole('button', { name: 'As JSON' }).click()
    await page.getByLabel('Input as JSON').fill('{"count":-1,"intervalMs":0}')
    await page.getByRole('button', { name: 'Start' }).click()
    await page.getByRole('alert').getByText('count').waitFor()
    expect(await page.getByRole('button', { name: 'Start' }).isEnabled()).toBe(true)
  })

  test('shows at the field what the server refuses of it, and keeps what was typed through JSON and back', async () => {
    const { url } = await openWorld()
    const page = await (await Visitor.come()).open(url, { at: '/start?task=ticks', allowed: /status of 400/ })
    await field(page, 'count').fill('-1')
    await field(page, 'intervalMs').fill('0')
    await page.getByRole('button', { name: 'Start' }).click()
    await page.locator('#field-count-error').getByText('must be >= 0').waitFor()
    expect(await field(page, 'count').getAttribute('aria-invalid')).toBe('true')
    await field(page, 'count').fill('many')
    const asJson = page.getByRole('button', { name: 'As JSON' })
    await asJson.click()
    const json = page.getByLabel('Input as JSON')
    expect(JSON.parse(await json.inputValue())).toEqual({ count: 'many', intervalMs: 0 })
    await json.fill('{"count":3,"other":1}')
    await asJson.click()
    await page.getByText('The input has what the form cannot show').waitFor()
    expect(await json.inputValue()).toBe('{"count":3,"other":1}')
    await json.fill('{"count":3,"intervalMs":0}')
    await asJson.click()
    expect(await field(page, 'count').inputValue()).toBe('3')
  })

  test('lets one choose between the forms of an input', async () => {
    const { url } = await openWorld()
    const page = await (await Visitor.come()).open(url, { at: '/start?task=command' })
    await page.locator('form').getByText('argv', { exact: true }).click()
    await field(page, 'argv').fill('printf\n%s-%s\na b\nc')
    await page.getByRole('button', { name: 'Start' }).click()
    await page.locator('.text', { hasText: 'a b-c' }).waitFor()
    await page.locator('.job-title .chip-succeeded').waitFor()
  })
})

describe.skipIf(!hasBrowser)('closing a tab', () => {
  test('that started a job cancels it', async () => {
    const { url } = await openWorld()
    const page = await (await Visitor.come()).open(url, { at: '/start?task=command' })
    await field(page, 'command').fill('echo it-runs; sleep 600')
    await page.getByRole('button', { name: 'Start' }).click()
    await page.locator('.text', { hasText: 'it-runs' }).waitFor()
    await page.getByText('closing it cancels the job').waitFor()
    const id = idOf(page)
    await page.close()
    const job = await ended(url, id)
    expect(job).toMatchObject({
      status: 'cancelled',
      cancellation: { cause: 'client_disconnected' },
      receipt: { confirmed: true },
    })
  })

  test('that only watches it does not', async () => {
    const { url } = await openWorld()
    const visitor = await Visitor.come()
    const { id } = await startJob(url, {
      task: 'ticks',
      input: { count: 100_000, intervalMs: 20 },
      // Armed by a holder alone: an observer is none.
      onDisconnect: 'cancel',
    })
    const page = await visitor.open(url, { at: jobAt(id) })
    await page
      .getByText(/tick \d/)
      .first()
      .waitFor()
    await page.close()
    const { lastSeq } = await jobOf(url, id)
    await eventually('it goes on', async () => (await jobOf(url, id)).lastSeq > lastSeq + 10)
    expect((await jobOf(url, id)).status).toBe('running')
  })

  test('that started a job does not cancel it where it was loaded anew in time, and then does', async () => {
    const { url } = await openWorld()
    const page = await (await Visitor.come()).open(url, { at: '/start?task=command' })
    await field(page, 'command').fill('echo it-runs; sleep 600')
    await page.getByLabel('After, seconds').fill('5')
    await page.getByRole('button', { name: 'Start' }).click()
    await page.locator('.text', { hasText: 'it-runs' }).waitFor()
    const id = idOf(page)
    await page.reload()
    await page.locator('.text', { hasText: 'it-runs' }).waitFor()
    await page.getByText('closing it cancels the job').waitFor()
    expect((await jobOf(url, id)).status).toBe('running')
    await page.close()
    expect(await ended(url, id)).toMatchObject({
      status: 'cancelled',
      cancellation: { cause: 'client_disconnected' },
    })
  }, 60_000)

  test('does not cancel a job that was let run on', async () => {
    const { url } = await openWorld()
    const page = await (await Visitor.come()).open(url, { at: '/start?task=ticks' })
    await field(page, 'count').fill('100000')
    await field(page, 'intervalMs').fill('20')
    await page.getByLabel('After, seconds').fill('0')
    await page.getByRole('button', { name: 'Start' }).click()
    await page.getByRole('button', { name: 'Let it run on' }).click()
    await page.getByText('it runs on').waitFor()
    const id = idOf(page)
    await page.close()
    const { lastSeq } = await jobOf(url, id)
    await eventually('it goes on', async () => (await jobOf(url, id)).lastSeq > lastSeq + 10)
    expect(await jobOf(url, id)).toMatchObject({ status: 'running', policy: { onDisconnect: 'continue' } })
  })

  test('is not going to another page of the dashboard, and past three jobs a browser holds no more', async () => {
    const { url } = await openWorld()
    const visitor = await Visitor.come()
    const page = await visitor.open(url)
    const ids: string[] = []
    for (const name of ['one', 'two', 'three']) {
      await page.goto(`${url}/#/start?task=command`)
      await field(page, 'command').fill(`echo ${name}; sleep 600`)
      await page.getByLabel('After, seconds').fill('0')
      await page.getByRole('button', { name: 'Start' }).click()
      await page.locator('.text', { hasText: name }).waitFor()
      ids.push(idOf(page))
    }
    await page.goto(`${url}/#/start?task=command`)
    // Nor does another tab of the browser, which has the same connections.
    const beside = await visitor.openBeside(page, url, '/start?task=command')
    for (const tab of [page, beside]) {
      await tab.getByText('3 jobs are held already').waitFor()
      expect(await tab.getByRole('radio', { name: 'Cancel it' }).isDisabled()).toBe(true)
      expect(await tab.getByRole('radio', { name: 'Let it run' }).isChecked()).toBe(true)
    }
    await beside.close()
    for (const id of ids) expect((await jobOf(url, id)).status).toBe('running')
    // With all of them held, a cancel still finds a connection.
    await page.goto(`${url}/#/jobs/${ids[0]}`)
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.locator('.job-title .chip-cancelled').waitFor()
    await page.close()
    for (const id of ids) expect((await ended(url, id)).status).toBe('cancelled')
  }, 60_000)
})
