import { expect, test } from 'vitest'
import { TetherClient } from '../../src/client/TetherClient.ts'
import type { CancelKind } from '../../src/job/cancellation.ts'
import { openWorld } from '../world.ts'
import { type CutProxy, openProxy } from './CutProxy.ts'
import { type FakeServer, RECEIPT, startFakeServer } from './FakeServer.ts'
import { eventually, expectExit, type SpawnedClient, spawnClient } from './spawnClient.ts'

// What api-client.ts does where its connection breaks (docs/protocol.md, section 7).

const COMMAND = ['--task', 'command', '--input', '{"command":"make test"}']

interface Running {
  readonly server: FakeServer
  readonly proxy: CutProxy
  readonly client: SpawnedClient
}

/** A client, behind a proxy, whose job runs and has said something that the client has printed. */
async function running(...args: string[]): Promise<Running> {
  const server = await startFakeServer()
  server.play = (job) => {
    job.begin()
    job.output('stdout', 'working\n')
  }
  const proxy = await openProxy(server.url)
  const client = spawnClient([...COMMAND, ...args], { server: proxy.url })
  await eventually(() => expect(client.out()).toContain('working'))
  return { server, proxy, client }
}

async function lost({ client, proxy }: Running): Promise<void> {
  await proxy.down()
  await eventually(() => expect(client.err()).toContain('connection lost'))
}

function attachesOf(server: FakeServer): unknown[] {
  return server.requestsTo('GET', /events$/)
}

test.each([
  ["the job's text", [], 'working\nmissed\n'],
  ['the result alone', ['--quiet'], '["worked"]\n'],
])('a connection that is lost and comes back shows on stderr, and stdout has %s', async (_, args, out) => {
  const server = await startFakeServer()
  const client = spawnClient([...COMMAND, ...args], { server: server.url })
  await eventually(() => expect(server.job.readerCount).toBe(1))
  server.job.output('stdout', 'working\n')
  server.job.cut()
  await eventually(() => expect(client.err()).toContain('connected again'))
  server.job.output('stdout', 'missed\n')
  server.job.succeed(['worked'])
  await expectExit(client, 0)
  expect(client.out()).toBe(out)
  const place = `job ${server.job.id}, (before its first event|after event [123])`
  expect(client.err()).toMatch(
    new RegExp(
      `^connection lost: ${place} \\(.+\\); trying for 10 s to come back\nconnected again after [0-9.]+ s: ${place}\n$`,
    ),
  )
})

test('with --json stdout has each event once, and nothing else', async () => {
  const { server, client } = await running('--json')
  server.job.cut()
  server.job.output('stdout', 'missed\n')
  server.job.succeed(null)
  await expectExit(client, 0)
  const lines = client.out().trimEnd().split('\n')
  expect(lines.map((line) => JSON.parse(line).seq)).toEqual([1, 2, 3, 4, 5])
  expect(client.err()).toContain('connected again')
})

test('a real job goes on through cuts within its grace, and its text comes whole', async () => {
  const world = await openWorld()
  const proxy = await openProxy(world.url)
  const ticks = [
    '--task',
    'ticks',
    '--input',
    '{"count":100,"intervalMs":10}',
    '--grace-ms',
    '30000',
    '--lease-ms',
    '900',
  ]
  const client = spawnClient(ticks, { server: proxy.url })
  for (const mark of [10, 30, 50]) {
    await eventually(() => expect(client.out()).toContain(`tick ${mark}\n`))
    proxy.cut()
  }
  await expectExit(client, 0)
  expect(client.out()).toBe(Array.from({ length: 100 }, (_, index) => `tick ${index + 1}\n`).join(''))
  expect(client.err()).toContain('trying for 30 s')
})

test('without a grace a lost connection is the end of the job, and the client comes back to say so', async () => {
  const world = await openWorld()
  const proxy = await openProxy(world.url)
  const client = spawnClient(['--task', 'command', '--input', '{"command":"echo up; sleep 60"}'], { server: proxy.url })
  await eventually(() => expect(client.out()).toBe('up\n'))
  proxy.cut()
  await expectExit(client, 130)
  expect(client.err()).toMatch(/connected again.*\ncancelled: .*confirmed/)
})

test('the grace and the lease are sent with a start, and the lease is renewed', async () => {
  const { server, client } = await running('--grace-ms', '60000', '--lease-ms', '150')
  expect(server.job.spec).toMatchObject({ disconnectGraceMs: 60_000, leaseMs: 150 })
  await eventually(() => expect(server.requestsTo('POST', /lease$/).length).toBeGreaterThan(2))
  server.job.succeed(null)
  await expectExit(client, 0)
})

test('a start whose answer was cut off is sent again', async () => {
  const server = await startFakeServer()
  server.play = (job) => job.begin()
  const proxy = await openProxy(server.url)
  proxy.cuts.push(0)
  const client = spawnClient(COMMAND, { server: proxy.url })
  await eventually(() => expect(client.err()).toContain('connected again'))
  expect(client.err()).toMatch(/^connection lost: job job_\w+, before its first event/)
  server.job.succeed(null)
  await expectExit(client, 0)
  expect(server.requestsTo('POST', /stream$/)).toHaveLength(2)
})

test('a job that is gone when the client comes back is a refusal', async () => {
  const { server, client } = await running()
  const { job } = server
  server.jobs.clear()
  job.cut()
  await expectExit(client, 1)
  expect(client.err()).toContain(`tether: refused: there is no job ${job.id} (TETHER_JOB_NOT_FOUND)\n`)
})

const KINDS = [
  ['cancel', [], 'cancelled'],
  ['stop', ['--on-interrupt', 'stop'], 'stopped'],
] as const satisfies [CancelKind, string[], string][]

test.each(KINDS)(
  'a stream that is cut before the %s is answered is not taken up again: the answer says',
  async (kind, args, said) => {
    const { server, client } = await running(...args)
    server.onEnd = (job, asked) => job.committed(asked)
    client.child.kill('SIGINT')
    await eventually(() => expect(server.job.status).toMatch(/ing$/))
    server.job.cut()
    await eventually(() => expect(client.err()).toContain(`waiting for the answer to the ${kind}\n`))
    server.job.released(kind)
    await expectExit(client, 130)
    expect(client.err()).toContain(`\n${said}: 13 processes gone, confirmed in 2.4 ms (pidns)\n`)
    expect(attachesOf(server)).toEqual([])
  },
)

test.each(KINDS)('a stream that is cut after the %s is answered is not taken up again', async (kind, args, said) => {
  const { server, client } = await running(...args)
  server.intercept = (request, response) => {
    if (request.url?.includes(`/${kind}`) !== true) return false
    const view = { ...server.job.view(), status: said, terminal: true, receipt: RECEIPT }
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(view))
    response.on('finish', () => setImmediate(() => server.job.cut()))
    return true
  }
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(client.err()).toContain(`\n${said}: 13 processes gone, confirmed in 2.4 ms (pidns)\n`)
  expect(attachesOf(server)).toEqual([])
})

test.each(KINDS)(
  'a %s that was accepted is sent again for the outcome once the stream is cut',
  async (kind, args, said) => {
    const { server, client } = await running(...args)
    server.intercept = (request, response) => {
      if (request.url?.includes(`/${kind}`) !== true || server.requestsTo('POST', /(cancel|stop)$/).length > 1)
        return false
      server.job.committed(kind)
      response.writeHead(202, { 'content-type': 'application/json' }).end(JSON.stringify(server.job.view()))
      response.on('finish', () => setImmediate(() => server.job.cut()))
      return true
    }
    server.onEnd = (job, asked) => job.released(asked)
    client.child.kill('SIGINT')
    await expectExit(client, 130)
    expect(client.err()).toContain(`\n${said}: 13 processes gone`)
    expect(server.requestsTo('POST', /(cancel|stop)$/)).toHaveLength(2)
    expect(attachesOf(server)).toEqual([])
  },
)

test('where the cancel breaks together with the stream it is sent again, and a real job ends by it', async () => {
  const world = await openWorld({ settings: { KILL_GRACE_MS: '1000' } })
  const proxy = await openProxy(world.url)
  const input = JSON.stringify({ command: "trap '' TERM; echo up; while :; do sleep 1; done" })
  const client = spawnClient(['--task', 'command', '--input', input, '--grace-ms', '60000'], { server: proxy.url })
  await eventually(() => expect(client.out()).toBe('up\n'))
  await using direct = new TetherClient({ server: world.url })
  const [job] = (await direct.list()).jobs
  client.child.kill('SIGINT')
  await eventually(async () => expect((await direct.job(job?.id ?? '')).status).toBe('cancelling'))
  proxy.cut()
  await expectExit(client, 130)
  expect(client.err()).toContain('waiting for the answer to the cancel\n')
  expect(client.err()).toMatch(/\ncancelled: \d+ process(es)? gone, confirmed/)
  expect(client.err()).not.toContain('connected again')
  expect((await direct.job(job?.id ?? '')).cancellation?.cause).toBe('cancel_requested')
})

test.each(KINDS)(
  'Ctrl+C while the connection is lost works at once: the %s is sent as soon as there is a server',
  async (kind, args, said) => {
    const lostClient = await running(...args, '--grace-ms', '60000')
    const { server, proxy, client } = lostClient
    await lost(lostClient)
    client.child.kill('SIGINT')
    await eventually(() => expect(client.err()).toContain(`waiting for the answer to the ${kind}\n`))
    await proxy.up()
    await expectExit(client, 130)
    expect(client.err()).toContain(`\n${said}: 13 processes gone, confirmed in 2.4 ms (pidns)\n`)
    expect(attachesOf(server)).toEqual([])
  },
)

test('twice while the connection is lost leaves at once', async () => {
  const lostClient = await running()
  const { client, server } = lostClient
  await lost(lostClient)
  client.child.kill('SIGINT')
  await eventually(() => expect(client.err()).toContain('cancelling'))
  const pressedAtMs = performance.now()
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(performance.now() - pressedAtMs).toBeLessThan(2000)
  expect(client.err()).toContain(`left job ${server.job.id}\n`)
})

test('who only looks leaves with the first Ctrl+C also while the connection is lost', async () => {
  const { server, proxy } = await running()
  const looker = spawnClient(['attach', server.job.id], { server: proxy.url })
  await eventually(() => expect(looker.out()).toBe('working\n'))
  await lost({ server, proxy, client: looker })
  looker.child.kill('SIGINT')
  await expectExit(looker, 130)
})

test('a detach whose connection breaks is sent again', async () => {
  const { server, client } = await running('--on-interrupt', 'detach', '--grace-ms', '60000')
  server.intercept = (request, response) => {
    if (request.method !== 'PATCH' || server.requestsTo('PATCH', /./).length > 2) return false
    response.destroy()
    return true
  }
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(server.job.policy.onDisconnect).toBe('continue')
  expect(client.err()).toContain(`detached: job ${server.job.id} runs on`)
})

test('a cancel that no server takes is given up when its time is over, and that is said', async () => {
  const lostClient = await running()
  const { server, client } = lostClient
  await lost(lostClient)
  const pressedAtMs = performance.now()
  client.child.kill('SIGINT')
  await expectExit(client, 130)
  expect(performance.now() - pressedAtMs).toBeGreaterThanOrEqual(4990)
  expect(client.err()).toMatch(
    new RegExp(`\\ncannot cancel job ${server.job.id} within 5000 ms: no server at .*; left it instead\\n$`),
  )
})

test('a job that succeeded before the cancel came has succeeded, and --quiet prints its result though the stream was cut', async () => {
  const server = await startFakeServer()
  server.play = (job) => job.begin()
  const client = spawnClient([...COMMAND, '--quiet'], { server: server.url })
  await eventually(() => expect(server.job.readerCount).toBe(1))
  server.intercept = (request) => {
    if (request.url?.includes('/cancel') === true) {
      server.job.cut()
      server.job.succeed('late result')
    }
    return false
  }
  client.child.kill('SIGINT')
  await expectExit(client, 0)
  expect(client.out()).toBe('late result\n')
})

test('a cancel of a start that is cut before it arrived leaves nothing that would run', async () => {
  const server = await startFakeServer()
  const broken = Promise.withResolvers<void>()
  server.intercept = (request) => {
    if (request.url !== '/execute/stream') return false
    void broken.promise.then(() => request.socket.destroy())
    return true
  }
  const client = spawnClient(COMMAND, { server: server.url })
  await eventually(() => expect(server.requestsTo('POST', /stream$/)).toHaveLength(1))
  client.child.kill('SIGINT')
  await eventually(() => expect(server.requestsTo('POST', /cancel$/)).toHaveLength(1))
  broken.resolve()
  await expectExit(client, 130)
  expect(client.err()).toMatch(
    /\nthe server does not know job job_\w+; should its start still arrive, it ends at once\n$/,
  )
  expect(server.requestsTo('POST', /stream$/)).toHaveLength(1)
})
