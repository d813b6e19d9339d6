import { spawn } from 'node:child_process'
import { EventSource } from 'eventsource'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { JobEvent } from '../../src/job/event.ts'
import { openProxy } from '../client/CutProxy.ts'
import { jobOf, startJob } from '../server/requests.ts'
import { eventually, openWorld, parseFrames } from '../world.ts'
import { CUTS, counts, ID, logOf } from './counting.ts'

describe('the package eventsource', () => {
  test('that is cut off over and over comes back by itself, has the whole log once, and then rests', async () => {
    const tether = await openWorld({ tasks: [counts] })
    await startJob(tether.url, { task: 'counts', jobId: ID })
    const proxy = await openProxy(tether.url)
    proxy.cuts.push(...CUTS)
    const source = new EventSource(`${proxy.url}/jobs/${ID}/events?named=false`)
    onTestFinished(() => source.close())
    const seen: JobEvent[] = []
    source.addEventListener('message', ({ data, lastEventId }) => {
      const event: JobEvent = JSON.parse(String(data))
      expect(lastEventId).toBe(String(event.seq))
      seen.push(event)
    })
    await eventually('it rests', () => source.readyState === source.CLOSED, 30_000)
    expect(seen).toEqual(await logOf(tether))
    expect(proxy.connectionCount).toBeGreaterThan(CUTS.length)
  }, 60_000)
})

describe('curl -N', () => {
  /** Settles when it has exited. */
  async function curl(...args: string[]): Promise<{ readonly code: number | null; readonly out: string }> {
    const child = spawn('curl', ['-sS', '-N', ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
    onTestFinished(() => void child.kill('SIGKILL'))
    let out = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
    const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
    return { code, out }
  }

  const BODY = JSON.stringify({ task: 'ticks', input: { count: 20, intervalMs: 10 }, jobId: ID })

  test('prints well-formed events from the first to the last, and ends with them', async () => {
    const tether = await openWorld()
    const { code, out } = await curl(`${tether.url}/execute/stream`, '-H', 'content-type: application/json', '-d', BODY)
    expect(code).toBe(0)
    const blocks = out.split('\n\n').slice(0, -1)
    expect(blocks[0]).toBe('retry: 1000')
    for (const [index, block] of blocks.slice(1).entries()) {
      expect(block).toMatch(/^id: \d+\nevent: [a-z.]+\ndata: \{.*\}$/)
      expect(block.startsWith(`id: ${index + 1}\n`)).toBe(true)
    }
    expect(parseFrames(out)).toEqual(await logOf(tether))
  })

  test('that comes back with its last id has the rest, and with the last of all nothing', async () => {
    const tether = await openWorld()
    await curl(`${tether.url}/execute/stream`, '-H', 'content-type: application/json', '-d', BODY)
    const log = await logOf(tether)
    const rest = await curl(`${tether.url}/jobs/${ID}/events`, '-H', 'last-event-id: 3')
    expect(parseFrames(rest.out)).toEqual(log.slice(3))
    // The start that is sent again goes on as well, as clients do that reconnect with the request that they began with.
    const again = ['-H', 'content-type: application/json', '-H', 'last-event-id: 5', '-d', BODY]
    expect(parseFrames((await curl(`${tether.url}/execute/stream`, ...again)).out)).toEqual(log.slice(5))
    const nothing = await curl(`${tether.url}/jobs/${ID}/events?after=${log.length}`, '-w', '%{http_code}')
    expect(nothing).toEqual({ code: 0, out: '204' })
  })

  test('whose server is gone in the middle says so, and is no holder once it was ended', async () => {
    const tether = await openWorld({ tasks: [counts] })
    const proxy = await openProxy(tether.url)
    proxy.cuts.push(5_000)
    const body = JSON.stringify({ task: 'counts', jobId: ID })
    const { code } = await curl(`${proxy.url}/execute/stream`, '-H', 'content-type: application/json', '-d', body)
    // 18: only a part of it was transferred.
    expect(code).toBe(18)
    const job = await eventually('it has ended', async () => {
      const view = await jobOf(tether.url, ID)
      return view.terminal && view
    })
    expect(job).toMatchObject({ status: 'cancelled', cancellation: { cause: 'client_disconnected' } })
  })
})
