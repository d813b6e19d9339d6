import { describe, expect, test } from 'vitest'
import type { JobEvent } from '../../src/job/event.ts'
import { openProxy } from '../client/CutProxy.ts'
import { spawnServer } from '../jobs/serverProcess.ts'
import { startJob } from '../server/requests.ts'
import { eventually, openWorld, parseFrames, temporaryFolder } from '../world.ts'
import { hasBrowser, openBrowser } from './Browser.ts'
import { CUTS, counts, ID, logOf } from './counting.ts'

/** A head that is cut, over plain HTTP, is a whole one to Chromium: its EventSource sees no event stream and gives up for good. */
const CUTS_OUTSIDE_HEAD = CUTS.with(0, 0)

describe.skipIf(!hasBrowser)('the EventSource of a browser', () => {
  test('that is cut off over and over comes back by itself, has the whole log once, and then rests', async () => {
    const tether = await openWorld({ tasks: [counts] })
    const proxy = await openProxy(tether.url)
    const browser = await openBrowser()
    const page = await browser.newPage()
    await page.goto(`${proxy.url}/`)
    await startJob(tether.url, { task: 'counts', jobId: ID })
    proxy.cut()
    proxy.cuts.push(...CUTS_OUTSIDE_HEAD)
    const texts = await page.evaluate(
      ({ path, types }) =>
        new Promise<readonly string[]>((resolve) => {
          const source = new EventSource(path)
          const seen: string[] = []
          for (const type of types) {
            source.addEventListener(type, (event) => {
              if (event instanceof MessageEvent) seen.push(event.data)
            })
          }
          source.addEventListener('error', () => {
            if (source.readyState === EventSource.CLOSED) resolve(seen)
          })
        }),
      {
        path: `/jobs/${ID}/events?after=0`,
        types: ['job.queued', 'job.started', 'output', 'progress', 'gap', 'job.succeeded'],
      },
    )
    const seen = texts.map((text): JobEvent => JSON.parse(text))
    expect(seen).toEqual(await logOf(tether))
  }, 90_000)

  test('goes on where its server was killed and started again', async () => {
    const dataDir = await temporaryFolder()
    const first = spawnServer({ DATA_DIR: dataDir })
    const proxy = await openProxy(await first.url())
    const browser = await openBrowser()
    const page = await browser.newPage()
    await page.goto(`${proxy.url}/`)
    await startJob(proxy.url, { task: 'ticks', input: { count: 1000, intervalMs: 20 }, jobId: ID })
    const seen: JobEvent[] = []
    await page.exposeFunction('onEvent', (text: string) => void seen.push(JSON.parse(text)))
    await page.evaluate((path) => {
      const source = new EventSource(path)
      source.addEventListener('message', ({ data }) => void Reflect.get(globalThis, 'onEvent')(data))
    }, `/jobs/${ID}/events?named=false`)
    await eventually('it has seen something', () => seen.length > 10)
    first.child.kill('SIGKILL')
    await first.exited
    const second = spawnServer({ DATA_DIR: dataDir })
    proxy.aimAt(await second.url())
    await eventually('it has seen the end', () => seen.at(-1)?.type === 'job.interrupted', 30_000)
    expect(seen).toEqual(parseFrames(await (await fetch(`${proxy.url}/jobs/${ID}/events`)).text()))
    second.child.kill('SIGTERM')
    await second.exited
  }, 90_000)
})
