import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type * as Client from '../../src/client/browser.ts'
import type { JobEvent } from '../../src/job/event.ts'
import { openProxy } from '../client/CutProxy.ts'
import { startServer } from '../cluster/world.ts'
import { hasBrowser, openBrowser } from '../readers/Browser.ts'
import { counts, logOf } from '../readers/counting.ts'
import { jobOf } from '../server/requests.ts'
import { eventually, openWorld, taskOf, temporaryFolder } from '../world.ts'
import { Consumer, nodes } from './Consumer.ts'

let consumer: Consumer
let programs: readonly string[]

beforeAll(async () => {
  const [installed, found] = await Promise.all([Consumer.install(), nodes()])
  consumer = installed
  programs = found
}, 120_000)

afterAll(() => consumer.remove())

describe.each([
  ['the own version of Node', 0],
  ['Node 24', 1],
])('a fresh folder with the package, and %s', (_, index) => {
  const node = (): string => programs[index] ?? ''

  test('runs a program of modules with all that belongs to it', async () => {
    const said = await consumer.run(node(), 'program.mjs', await temporaryFolder())
    expect(JSON.parse(said)).toEqual({
      node: index === 1 ? expect.stringMatching(/^v24\./) : process.version,
      said: ['hello world', 'from a shell\n'],
      result: { greeted: 'world' },
      isApart: true,
      ended: 'job.cancelled',
    })
  })

  test('runs a program of CommonJS', async () => {
    const said = await consumer.run(node(), 'program.cjs', await temporaryFolder())
    expect(JSON.parse(said)).toMatchObject({ result: 'hello commonjs' })
  })
})

describe('the types of the package, checked with all that they stand on,', () => {
  test('are right for a program in Node', async () => {
    expect(await consumer.check('typed.ts', '--module', 'nodenext', '--lib', 'es2022', '--types', 'node')).toBe('')
  }, 60_000)

  test('and for a page, which has nothing of Node', async () => {
    const bundler = [
      '--target',
      'es2022',
      '--module',
      'preserve',
      '--moduleResolution',
      'bundler',
      '--customConditions',
      'browser',
    ]
    expect(await consumer.check('page.ts', ...bundler, '--lib', 'es2022,dom,dom.iterable', '--types', '')).toBe('')
  }, 60_000)
})

test('the package has every file that its documents link to, and nothing that nobody needs', async () => {
  const own = join(consumer.folder, 'node_modules/tether')
  const documents = (await readdir(own, { recursive: true })).filter((path) => path.endsWith('.md'))
  expect(documents).toContain('docs/library.md')
  for (const document of documents) {
    const text = await readFile(join(own, document), 'utf8')
    for (const [, link = ''] of text.matchAll(/\]\((?!https?:|#)([^)#]+)/g)) {
      expect(existsSync(join(own, dirname(document), link)), `${link} of ${document}`).toBe(true)
    }
  }
  expect(await readdir(own)).toEqual(
    expect.not.arrayContaining(['src', 'test', 'examples', 'scripts', 'node_modules', 'data']),
  )
})

test('the programs of the package are a server with its pages, and a client', async () => {
  const [server, client] = ['main.js', 'client/cli/bin.js'].map((name) =>
    join(consumer.folder, 'node_modules/tether/dist', name),
  )
  const spawned = spawn(server ?? '', {
    env: { PATH: process.env['PATH'], PORT: '0', DATA_DIR: await temporaryFolder(), CONTAINMENT: 'group' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void spawned.kill('SIGKILL'))
  let out = ''
  spawned.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
  const url = await eventually('it listens', () => /listens on (http:\S+)/.exec(out)?.[1], 20_000)
  const page = await (await fetch(url)).text()
  for (const [, link = ''] of page.matchAll(/(?:src|href)="([^"]+)"/g)) {
    expect((await fetch(new URL(link, url))).status, link).toBe(200)
  }
  const input = JSON.stringify({ count: 2, intervalMs: 0 })
  const said = await consumer.run(client ?? '', '--server', url, '--task', 'ticks', '--input', input)
  expect(said).toBe('tick 1\ntick 2\n')
})

test('the package shares its jobs through Redis as the sources do', async () => {
  const redis = await startServer()
  const settings = { REDIS_URL: redis.url, DATA_DIR: await temporaryFolder() }
  const [node = ''] = programs
  const said = await consumer.run(node, 'program.mjs', settings.DATA_DIR, settings.REDIS_URL)
  expect(JSON.parse(said)).toMatchObject({ result: { greeted: 'world' }, ended: 'job.cancelled' })
})

describe.skipIf(!hasBrowser)('the client of the package in a page', () => {
  const waits = taskOf('waits', async (ctx) => {
    await ctx.output('begun')
    await ctx.sleep(60_000)
  })

  async function openPage() {
    const world = await openWorld({ tasks: [counts, waits] })
    const proxy = await openProxy(world.url)
    const browser = await openBrowser()
    const page = await browser.newPage()
    const mistakes: string[] = []
    page.on('pageerror', ({ message }) => mistakes.push(message))
    const files = join(consumer.folder, 'node_modules')
    // As a bundler or a server of files would give them, of the same origin as the server of jobs.
    await page.route('**/lib/**', async (route) => {
      const path = new URL(route.request().url()).pathname.slice('/lib/'.length)
      if (path !== '') return route.fulfill({ contentType: 'text/javascript', body: await readFile(join(files, path)) })
      const imports = { 'tether/client': '/lib/tether/dist/client/browser.js', uuid: '/lib/uuid/dist/index.js' }
      const script = `import * as client from 'tether/client'; globalThis.client = client`
      const body = `<!doctype html><script type="importmap">${JSON.stringify({ imports })}</script><script type="module">${script}</script>`
      return route.fulfill({ contentType: 'text/html', body })
    })
    await page.goto(`${proxy.url}/lib/`)
    await page.waitForFunction(() => Reflect.has(globalThis, 'client'))
    return { world, proxy, page, mistakes }
  }

  test('has every event once and in order, and the result, though it is cut over and over', async () => {
    const { world, proxy, page, mistakes } = await openPage()
    proxy.cut()
    // A head that is cut is a whole one to Chromium.
    proxy.cuts.push(0, 3_000, 9_000, 20_000)
    const { seen, result } = await page.evaluate(async (): Promise<{ seen: JobEvent[]; result: unknown }> => {
      const { TetherClient }: typeof Client = Reflect.get(globalThis, 'client')
      const run = new TetherClient().run({ task: 'counts', input: {}, jobId: 'job-12345', disconnectGraceMs: 10_000 })
      const seen: JobEvent[] = []
      for await (const event of run) seen.push(event)
      return { seen, result: await run.result }
    })
    expect(seen).toEqual(await logOf(world))
    expect(result).toBeNull()
    expect(proxy.connectionCount).toBeGreaterThan(4)
    expect(mistakes).toEqual([])
  }, 60_000)

  test('cancels by a signal, stops, lets run on, and leaves with its page', async () => {
    const { world, page, mistakes } = await openPage()
    const ends = await page.evaluate(async () => {
      const { TetherClient }: typeof Client = Reflect.get(globalThis, 'client')
      const client = new TetherClient({ server: '/' })
      const lastOf = async (act: (run: ReturnType<typeof client.run>, abort: AbortController) => unknown) => {
        const abort = new AbortController()
        const run = client.run({ task: 'waits', input: {} }, { signal: abort.signal })
        let last = ''
        for await (const event of run) {
          last = event.type
          if (event.type === 'output') await act(run, abort)
        }
        const result = await run.result.catch((error: unknown) => (error instanceof Error ? error.name : ''))
        return { id: run.id, how: [last, result] }
      }
      return [
        await lastOf((_, abort) => abort.abort(new Error('enough'))),
        await lastOf((run) => run.stop()),
        await lastOf((run) => run.detach()),
      ]
    })
    expect(ends.map(({ how }) => how)).toEqual([
      ['job.cancelled', 'JobEnded'],
      ['job.stopped', 'JobEnded'],
      ['output', 'JobDetached'],
    ])
    const detached = ends[2]?.id ?? ''
    expect((await jobOf(world.url, detached)).status).toBe('running')
    await page.evaluate(async () => {
      const { TetherClient }: typeof Client = Reflect.get(globalThis, 'client')
      for await (const event of new TetherClient().run({ task: 'waits', input: {}, jobId: 'job-of-page' })) {
        if (event.type === 'output') return
        void event
      }
    })
    await eventually('it has ended', async () => (await jobOf(world.url, 'job-of-page')).terminal)
    expect((await jobOf(world.url, 'job-of-page')).cancellation?.cause).toBe('client_disconnected')
    void page
      .evaluate(async () => {
        const { TetherClient }: typeof Client = Reflect.get(globalThis, 'client')
        for await (const event of new TetherClient().run({ task: 'waits', input: {}, jobId: 'job-of-tab' })) void event
      })
      .catch(() => undefined)
    await eventually('it runs', async () => (await jobOf(world.url, 'job-of-tab')).status === 'running')
    await page.close()
    await eventually('it has ended', async () => (await jobOf(world.url, 'job-of-tab')).terminal)
    expect((await jobOf(world.url, 'job-of-tab')).cancellation?.cause).toBe('client_disconnected')
    expect((await jobOf(world.url, detached)).status).toBe('running')
    expect(mistakes).toEqual([])
  }, 60_000)
})
