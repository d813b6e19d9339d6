import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { eventually, parseFrames, temporaryFolder, typesOf } from '../world.ts'
import { spawnServer, startJob, statusOf } from './serverProcess.ts'

const TICKS = { task: 'ticks', input: { count: 100_000, intervalMs: 20 } }

/** A task module whose function never settles, so that a shutdown has something to wait for. */
const DEAF = `
export const deaf = { name: 'deaf', input: {}, run: () => new Promise(() => {}) }
`

async function deafTasks(): Promise<string> {
  const folder = await temporaryFolder()
  await writeFile(join(folder, 'deaf.ts'), DEAF)
  return folder
}

describe('the server as a process', () => {
  test('says where it listens, and ends with 0 at SIGTERM, its streams with their terminal event', async () => {
    const server = spawnServer({ DATA_DIR: await temporaryFolder(), SETTLE_MS: '500' })
    const url = await server.url()
    expect(server.out()).toMatch(/^Tether listens on http:\/\/127\.0\.0\.1:\d+ \(containment group, not complete\)\n/)
    const answer = await fetch(`${url}/execute/stream`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(TICKS),
    })
    let text = ''
    const read = (async () => {
      for await (const chunk of answer.body?.pipeThrough(new TextDecoderStream()) ?? []) text += chunk
    })()
    await eventually('it ticks', () => text.includes('tick 2'))
    const askedMs = performance.now()
    server.child.kill('SIGTERM')
    expect(await server.exited).toEqual({ code: 0, signal: null })
    // settleMs and a second by the protocol; as much again for a machine that is busy.
    expect(performance.now() - askedMs).toBeLessThan(3000)
    await read
    const events = parseFrames(text)
    expect(events.at(-1)).toMatchObject({
      type: 'job.interrupted',
      failure: { code: 'TETHER_SERVER_SHUTDOWN' },
      cancellation: { cause: 'server_shutdown' },
      receipt: { confirmed: true },
    })
    expect(typesOf(events).filter((type) => type === 'job.interrupted')).toHaveLength(1)
    expect(server.err()).toBe('')
  })

  test('counts two signals within 500 ms as one, and ends at once at one that comes later', async () => {
    const settings = { TASKS_DIR: await deafTasks(), SETTLE_MS: '4000' }
    const patient = spawnServer({ ...settings, DATA_DIR: await temporaryFolder() })
    const url = await patient.url()
    const id = await startJob(url, { task: 'deaf', input: {} })
    await eventually('it runs', async () => (await statusOf(url, id)) === 'running')
    patient.child.kill('SIGTERM')
    patient.child.kill('SIGTERM')
    const firstMs = performance.now()
    await eventually('500 ms are over', () => performance.now() - firstMs > 600)
    expect(patient.child.exitCode).toBeNull()
    patient.child.kill('SIGTERM')
    const secondMs = performance.now()
    expect((await patient.exited).code).not.toBe(0)
    expect(performance.now() - secondMs).toBeLessThan(2000)
  })

  test('goes on where a task leaves errors that nobody catches, and its jobs can still be cancelled', async () => {
    const folder = await temporaryFolder()
    const listens = "ctx.signal.addEventListener('abort', () => { throw new Error('listener') }); await ctx.sleep(1e6)"
    const bodies = {
      listens,
      rejects: "Promise.reject(new Error('stray')); await ctx.sleep(20)",
      times: "setTimeout(() => { throw new Error('timer') }, 1); await ctx.sleep(20)",
      forgets: "ctx.run('ticks', { count: 1, intervalMs: 1000000 })",
    }
    const modules = Object.entries(bodies).map(
      ([name, body]) => `export const ${name} = { name: '${name}', input: {}, async run(ctx) { ${body} } }\n`,
    )
    await writeFile(join(folder, 'stray.mjs'), modules.join(''))
    const server = spawnServer({ TASKS_DIR: folder, DATA_DIR: await temporaryFolder() })
    const url = await server.url()
    for (const task of ['rejects', 'times', 'forgets']) {
      const id = await startJob(url, { task, input: {} })
      await eventually(`${task} has ended`, async () => (await statusOf(url, id)) === 'succeeded')
    }
    const id = await startJob(url, { task: 'listens', input: {} })
    await eventually('it runs', async () => (await statusOf(url, id)) === 'running')
    await fetch(`${url}/jobs/${id}/cancel`, { method: 'POST' })
    await eventually('it is cancelled', async () => (await statusOf(url, id)) === 'cancelled')
    server.child.kill('SIGTERM')
    expect((await server.exited).code).toBe(0)
  })

  test('gives up the drain at a later signal, and its jobs end with their events all the same', async () => {
    const server = spawnServer({ DRAIN_MS: '60000', DATA_DIR: await temporaryFolder() })
    const url = await server.url()
    const body = JSON.stringify({ task: 'ticks', input: { count: 2, intervalMs: 1_000_000 } })
    const response = await fetch(`${url}/execute/stream`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    })
    server.child.kill('SIGTERM')
    const firstMs = performance.now()
    await eventually('500 ms are over', () => performance.now() - firstMs > 600)
    expect(server.child.exitCode).toBeNull()
    server.child.kill('SIGTERM')
    expect(typesOf(parseFrames(await response.text())).at(-1)).toBe('job.interrupted')
    expect((await server.exited).code).toBe(0)
  })

  test('ends in settleMs and a second also where a function does not settle', async () => {
    const server = spawnServer({ TASKS_DIR: await deafTasks(), SETTLE_MS: '300', DATA_DIR: await temporaryFolder() })
    const url = await server.url()
    const id = await startJob(url, { task: 'deaf', input: {} })
    await eventually('it runs', async () => (await statusOf(url, id)) === 'running')
    const askedMs = performance.now()
    server.child.kill('SIGINT')
    expect(await server.exited).toEqual({ code: 0, signal: null })
    expect(performance.now() - askedMs).toBeLessThan(2600)
  })

  test('does not start on a folder that another holds, and names it', async () => {
    const DATA_DIR = await temporaryFolder()
    const first = spawnServer({ DATA_DIR })
    const url = await first.url()
    const second = spawnServer({ DATA_DIR })
    expect((await second.exited).code).toBe(1)
    expect(second.err()).toMatch(/^tether: DATA_DIR .*\n$/)
    expect(second.err()).toContain(String(first.child.pid))
    expect(second.err()).toContain(url)
  })

  test.each([
    ['a setting that is not allowed', { CONCURRENCY: 'many' }, /^tether: CONCURRENCY must be .*got "many"\n$/],
    ['a folder of tasks that is not there', { TASKS_DIR: '/nowhere/at/all' }, /^tether: .*\/nowhere\/at\/all.*\n$/],
    ['a port that is taken', {}, /^tether: .*EADDRINUSE.*\n$/],
  ])('ends with one line at %s', async (name, settings, line) => {
    const more: Record<string, string> = { ...settings }
    if (name.startsWith('a port')) {
      const taken = spawnServer({ DATA_DIR: await temporaryFolder() })
      more['PORT'] = new URL(await taken.url()).port
    }
    const server = spawnServer({ DATA_DIR: await temporaryFolder(), ...more })
    expect(await server.exited).toEqual({ code: 1, signal: null })
    expect(server.err()).toMatch(line)
    expect(server.out()).toBe('')
  })
})

describe('a server that is killed', () => {
  test('leaves jobs that the next one takes up: what ran is interrupted, what waited is run', async () => {
    const settings = { DATA_DIR: await temporaryFolder(), CONCURRENCY: '1' }
    const first = spawnServer(settings)
    const before = await first.url()
    const ran = await startJob(before, TICKS)
    const waited = await startJob(before, { task: 'ticks', input: { count: 3, intervalMs: 1 } })
    const impatient = await startJob(before, { ...TICKS, onRestart: 'interrupt' })
    expect(await logOf(before, ran, false)).toContain('tick 3')
    first.child.kill('SIGKILL')
    await first.exited

    const second = spawnServer(settings)
    const after = await second.url()
    await eventually('it has run', async () => (await statusOf(after, waited)) === 'succeeded')
    const events = parseFrames(await logOf(after, ran, true))
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1))
    expect(events.at(-1)).toMatchObject({ type: 'job.interrupted', failure: { code: 'TETHER_SERVER_CRASHED' } })
    expect(typesOf(parseFrames(await logOf(after, impatient, true)))).toEqual(['job.queued', 'job.interrupted'])
    for (const id of [ran, waited, impatient]) {
      const ends = typesOf(parseFrames(await logOf(after, id, true))).filter((type) =>
        ['job.interrupted', 'job.succeeded'].includes(type),
      )
      expect(ends).toHaveLength(1)
    }
  })
})

/** The frames of a job's log: all of it, or what there is by now. */
async function logOf(url: string, id: string, toItsEnd: boolean): Promise<string> {
  const abort = new AbortController()
  const answer = await fetch(`${url}/jobs/${id}/events`, { signal: abort.signal })
  let text = ''
  for await (const chunk of answer.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    text += chunk
    if (!toItsEnd && text.includes('tick 3')) break
  }
  abort.abort()
  return text
}
