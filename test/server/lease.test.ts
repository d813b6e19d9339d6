import { connect, createServer } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { eventually, openWorld, taskOf } from '../world.ts'
import { RawClient } from './RawClient.ts'
import { ask, jobOf } from './requests.ts'

const ID = 'job-12345'
const waits = taskOf('waits', async (ctx) => ctx.sleep(60_000))

/** Keeps its connection to the server, and reads what comes, when its client is gone; some proxies do so for minutes. */
async function openProxy(target: string): Promise<string> {
  const { hostname, port } = new URL(target)
  const server = createServer((client) => {
    const toServer = connect({ host: hostname, port: Number(port) })
    onTestFinished(() => void toServer.destroy())
    client.on('error', () => undefined)
    client.on('data', (chunk) => toServer.write(chunk))
    toServer.on('error', () => undefined)
    toServer.on('data', (chunk) => {
      if (!client.destroyed) client.write(chunk)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port')
  return `http://127.0.0.1:${address.port}`
}

test.each(['/execute/stream', '/execute'])(
  'a client of %s that vanishes behind a proxy is missed by its lease',
  async (path) => {
    const { url } = await openWorld({ tasks: [waits] })
    const client = await RawClient.connect(await openProxy(url))
    client.request({ method: 'POST', path, body: { task: 'waits', jobId: ID, leaseMs: 1500 } })
    await client.until(/\r\n\r\n/)
    const [, holder] = /x-tether-holder: (\S+)/.exec(client.received) ?? []
    expect((await ask(url, `/jobs/${ID}/lease`, { body: { holder } })).status).toBe(204)
    client.socket.resetAndDestroy()
    const job = await eventually('it has ended', async () => {
      const view = await jobOf(url, ID)
      return view.terminal && view
    })
    // `client_disconnected` would say that the proxy had closed its connection.
    expect(job).toMatchObject({ status: 'cancelled', cancellation: { cause: 'lease_missed' } })
  },
)
