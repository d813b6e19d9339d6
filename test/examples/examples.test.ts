import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { programEnvironment } from '../programEnvironment.ts'
import { jobOf, startJob } from '../server/requests.ts'
import { eventually, openWorld, temporaryFolder } from '../world.ts'

const EXAMPLES = join(import.meta.dirname, '../../examples')

async function examples(settings: Readonly<Record<string, string>> = {}) {
  return openWorld({ settings: { TASKS_DIR: EXAMPLES, ...settings } })
}

async function untilTerminal(url: string, id: string) {
  return eventually(`${id} has ended`, async () => {
    const view = await jobOf(url, id)
    return view.terminal && view
  })
}

describe('delegate-cli', () => {
  /** An agent's command line that ticks into a file every 200 ms, from a child in a session of its own. */
  async function agentBin(): Promise<{ readonly ticks: () => Promise<number>; readonly bin: string }> {
    const folder = await temporaryFolder()
    const [bin, log] = [join(folder, 'agent'), join(folder, 'ticks')]
    await writeFile(log, '')
    await writeFile(
      bin,
      `#!/bin/sh\nsetsid sh -c 'while :; do echo tick >> ${log}; sleep 0.2; done' &\nwhile :; do sleep 1; done\n`,
    )
    await chmod(bin, 0o755)
    process.env['AGENT_BIN'] = bin
    onTestFinished(() => {
      delete process.env['AGENT_BIN']
    })
    return { bin, ticks: async () => (await readFile(log, 'utf8')).split('\n').length - 1 }
  }

  test.each(['group', 'auto'])(
    'does not tick after a cancel, and the next job runs (containment %s)',
    async (level) => {
      const { ticks } = await agentBin()
      const { url } = await examples({ CONTAINMENT: level })
      const first = await startJob(url, { task: 'delegate-cli', input: { prompt: 'go on for ever' } })
      await eventually('it ticks', async () => (await ticks()) > 2)
      const next = await startJob(url, { task: 'delegate-cli', input: { prompt: 'the next one' } })
      await fetch(`${url}/jobs/${first.id}/cancel`, { method: 'POST' })
      expect(await untilTerminal(url, first.id)).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
      const before = await ticks()
      await eventually('the next one runs', async () => (await jobOf(url, next.id)).status === 'running')
      await fetch(`${url}/jobs/${next.id}/cancel`, { method: 'POST' })
      expect(await untilTerminal(url, next.id)).toMatchObject({ status: 'cancelled', receipt: { confirmed: true } })
      const after = await ticks()
      // Longer than several ticks: only what does not happen can be waited for here.
      await new Promise((resolve) => setTimeout(resolve, 1000))
      expect(await ticks()).toBe(after)
      expect(after - before).toBeLessThan(10)
    },
  )

  test('says what is missing', async () => {
    const { url } = await examples()
    const { id } = await startJob(url, { task: 'delegate-cli', input: { prompt: 'go' } })
    expect(await untilTerminal(url, id)).toMatchObject({ status: 'failed', failure: { code: 'AGENT_BIN_MISSING' } })
  })
})

test('summarize fetches and asks the model, and is closed where it waits', async () => {
  const { url } = await examples({ MODEL: 'scripted' })
  const done = await startJob(url, { task: 'summarize', input: { url: `${url}/health/live` } })
  const view = await untilTerminal(url, done.id)
  expect(view).toMatchObject({ status: 'succeeded', result: { summary: expect.stringContaining('scripted model') } })
  const asked = Promise.withResolvers<void>()
  const closed = Promise.withResolvers<void>()
  const silent = createServer((request) => {
    asked.resolve()
    request.socket.once('close', () => closed.resolve())
  })
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void silent.close())
  const address = silent.address()
  if (address === null || typeof address === 'string') throw new Error('the server has no port')
  const waits = await startJob(url, { task: 'summarize', input: { url: `http://127.0.0.1:${address.port}/` } })
  await asked.promise
  await fetch(`${url}/jobs/${waits.id}/cancel`, { method: 'POST' })
  await closed.promise
  expect(await untilTerminal(url, waits.id)).toMatchObject({
    status: 'cancelled',
    receipt: { released: { requests: 1 } },
  })
})

test('review lets an agent look at a repository with tools of its own', async () => {
  const { url } = await examples({ MODEL: 'scripted' })
  const { id } = await startJob(url, { task: 'review', input: { folder: '.' } })
  expect(await untilTerminal(url, id)).toMatchObject({
    status: 'succeeded',
    result: { text: expect.any(String), findings: [] },
  })
})

test('backfill goes on where it was stopped', async () => {
  const { url } = await examples()
  const input = { name: 'numbers', items: 40, itemMs: 5 }
  const first = await startJob(url, { task: 'backfill', input })
  await eventually('it has begun', async () => (await jobOf(url, first.id)).lastSeq > 8)
  await fetch(`${url}/jobs/${first.id}/stop`, { method: 'POST' })
  expect((await untilTerminal(url, first.id)).status).toBe('stopped')
  const second = await startJob(url, { task: 'backfill', input })
  const view = await untilTerminal(url, second.id)
  expect(view).toMatchObject({ status: 'succeeded', result: { to: 40 } })
  expect(Object(view.result)['from']).toBeGreaterThan(3)
})

describe('embedded', () => {
  test('counts in a job that ends with the request which wants it, and closes in order', async () => {
    const child = spawn(process.execPath, [join(EXAMPLES, 'embedded/app.ts')], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...programEnvironment, PORT: '0', DATA_DIR: await temporaryFolder() },
    })
    onTestFinished(() => void child.kill('SIGKILL'))
    let out = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
    const exited = once(child, 'exit')
    const url = await eventually('it listens', () => /listens on (http:[^\s,]+)/.exec(out)?.[1], 20_000)
    expect(await (await fetch(`${url}/count?text=one+two+three`)).json()).toEqual({ words: 3 })
    const gone = new AbortController()
    const asked = fetch(`${url}/count?text=${'word+'.repeat(2000)}`, { signal: gone.signal })
    const running = (await eventually('it runs', async () => {
      const { jobs } = Object(await (await fetch(`${url}/tether/jobs?status=running`)).json())
      return jobs[0]?.id
    })) as string
    gone.abort()
    await expect(asked).rejects.toThrow()
    expect(await untilTerminal(`${url}/tether`, running)).toMatchObject({
      status: 'cancelled',
      cancellation: { cause: 'cancel_requested', reason: 'whoever asked has left' },
    })
    child.kill('SIGTERM')
    expect(await exited).toEqual([0, null])
  })
})
