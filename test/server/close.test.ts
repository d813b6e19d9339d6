import { request } from 'node:http'
import { expect, test } from 'vitest'
import { eventually, openWorld, parseFrames, taskOf } from '../world.ts'
import { RawClient } from './RawClient.ts'
import { jobOf, startJob } from './requests.ts'

const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))
const CLEAN_END = /\r\n0\r\n\r\n$/

test('a server that stops ends every stream after its last event, and closes every connection', async () => {
  const tether = await openWorld({ settings: { CONCURRENCY: '1' }, tasks: [waits] })
  const { url } = tether
  const clients = await Promise.all(
    ['holder', 'queued', 'waiting', 'watching', 'feed', 'idle', 'half'].map(() => RawClient.connect(url)),
  )
  const [holder, queued, waiting, watching, feed, idle, half] = clients
  if (!holder || !queued || !waiting || !watching || !feed || !idle || !half) throw new Error('no clients')
  holder.request({ method: 'POST', path: '/execute/stream', body: { task: 'waits', jobId: 'job-held-1' } })
  await holder.until('event: job.started')
  queued.request({ method: 'POST', path: '/execute/stream', body: { task: 'waits', jobId: 'job-held-2' } })
  waiting.request({ method: 'POST', path: '/execute', body: { task: 'waits', jobId: 'job-held-3' } })
  await startJob(url, { task: 'waits', jobId: 'job-stays' })
  watching.request({ path: '/jobs/job-stays/events' })
  feed.request({ path: '/jobs/events' })
  idle.request({ path: '/health/live' })
  half.socket.write('POST /jobs HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n{')
  await Promise.all([
    queued.until('job.queued'),
    waiting.until(/\r\n\r\n/),
    watching.until('job.queued'),
    feed.until('retry'),
  ])
  await idle.until('live')
  const beganMs = performance.now()
  await Promise.all([tether.stop(), tether.stop()])
  expect(performance.now() - beganMs).toBeLessThan(4000)
  await Promise.all(clients.map((client) => client.closed))
  for (const client of [holder, queued]) {
    expect(client.received).toMatch(CLEAN_END)
    expect(parseFrames(client.received).at(-1)).toMatchObject({
      type: 'job.interrupted',
      failure: { code: 'TETHER_SERVER_SHUTDOWN' },
      cancellation: { cause: 'server_shutdown' },
    })
  }
  // Its job was queued with a holder, so it was ended and the wait was answered.
  expect(waiting.received).toContain('"status":"interrupted"')
  // Nobody holds this one: it waits for the next start, and its stream ends without a terminal event.
  expect(watching.received).toMatch(CLEAN_END)
  expect(parseFrames(watching.received).map((event) => event.type)).toEqual(['job.queued'])
  expect(feed.received).toMatch(CLEAN_END)
})

test('a server that stops does not wait for a client that reads nothing', async () => {
  const pours = taskOf('pours', async (ctx) => {
    for (let n = 0; n < 24; n += 1) await ctx.output('x'.repeat(1024 * 1024))
  })
  const tether = await openWorld({ tasks: [pours] })
  const deaf = await RawClient.connect(tether.url, { isReading: false })
  deaf.request({ method: 'POST', path: '/execute/stream', body: { task: 'pours', jobId: 'job-12345' } })
  await eventually('it ended', async () => (await jobOf(tether.url, 'job-12345')).terminal)
  const beganMs = performance.now()
  await tether.stop()
  expect(performance.now() - beganMs).toBeLessThan(4000)
})

test('a server that stops is not held up by clients that keep their connection', async () => {
  const tether = await openWorld()
  await new Promise<void>((resolve, reject) => {
    request(`${tether.url}/health/live`, { headers: { connection: 'keep-alive' } }, (response) => {
      response.resume().once('end', resolve)
    })
      .once('error', reject)
      .end()
  })
  const beganMs = performance.now()
  await tether.stop()
  expect(performance.now() - beganMs).toBeLessThan(1000)
  await expect(fetch(`${tether.url}/health/live`)).rejects.toThrow()
})
